"""Errors of object stores, as one line with advice.

Texts of stores and credential programs are never shown: they may contain secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from opsin.core.errors import OpsinError, SourceError, StorageError
from opsin.stores.store_address import ADDRESSES, AZURE_ACCOUNT, Store, StoreAddress

# Codes of obstore's classes; a store's own code, if any, is more specific.
_CLASSES: Final = {
    "AlreadyExistsError": "409", "FileNotFoundError": "404", "InvalidPathError": "InvalidPath",
    "PermissionDeniedError": "403", "PreconditionError": "412", "UnauthenticatedError": "401",
}  # fmt: skip
_CODE: Final = re.compile(r"<Code>([A-Za-z]+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
# obstore's messages about missing or unusable credentials.
_SETTINGS: Final = re.compile(
    r"\bsource: (DecodeCredentials|DecodeKey|InvalidAccessKey|Missing\w+|OpenCredentials|"
    r"TokenRequest|UnableToParse\w+|Token\w*)\b|\bstore: \"Config\"|169\.254\.169\.254"
)
_CREDENTIALS: Final[dict[Store, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (aws configure export-credentials prints "
    "those of a profile; AWS_SKIP_SIGNATURE=true for a public bucket)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (GOOGLE_SKIP_SIGNATURE=true for a public bucket)",
    "az": f"{AZURE_ACCOUNT} and AZURE_STORAGE_ACCOUNT_KEY, or the role of this machine",
}
# Message and advice by the store's error codes.
_REFUSED: Final = {
    "NoSuchBucket ContainerNotFound 404": (
        "There is no bucket {bucket}", "Check its name, and {endpoint} for a store of your own.",
    ),
    "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired": (
        "The credentials for {address} have expired",
        "Renew them; the same command goes on where it was.",
    ),
    "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidClientTokenId 401 settings": (
        "The credentials or settings for {address} cannot be used",
        "Check {credentials}.",
    ),
    "AccessDenied AllAccessDisabled AccountProblem 403": (
        "You have no right to {verb} {address}", "Ask for it, or use other credentials.",
    ),
    "PermanentRedirect AuthorizationHeaderMalformed 301 307": (
        "The bucket {bucket} is in another region ({code})", "Set AWS_REGION, or AWS_ENDPOINT_URL.",
    ),
    "InvalidObjectState BlobArchived": (
        "{address} is in an archive", "Restore it first, or leave it out.",
    ),
    "SlowDown ServiceUnavailable InternalError RequestTimeout TooManyRequests 429 500 502 503 504":
    (
        "{address} was refused again and again ({code})",
        "Try later; the same command goes on where it was.",
    ),
    "": (
        "{address} got no answer",
        "Check the network and {endpoint}; the same command goes on where it was.",
    ),
    "InvalidPath": (
        "There are keys at or below {address} such as a//b or ../a, without a name between slashes",
        "Rename them.",
    ),
}  # fmt: skip
_OTHERWISE: Final = ("{address} was answered with {code}", "Look it up in the store's manual.")


def is_missing(error: BaseException | None) -> bool:
    """Whether the object does not exist."""
    return code_of(error) in ("NoSuchKey", "NoSuchVersion", "BlobNotFound", "404")


def is_taken(error: BaseException | None) -> bool:
    """Whether a write was refused because the object exists."""
    return code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict", "409", "412")


def code_of(error: BaseException | None) -> str | None:
    """Return the store's error code, ``""`` without one; ``None`` if the error is not obstore's."""
    name, text = type(error).__name__, str(error)
    nameless = isinstance(error, FileNotFoundError) and error.filename is None
    if not (nameless or type(error).__module__.startswith(("obstore", "pyo3_runtime"))):
        return None
    summary, _, details = text.partition("Debug source:")
    answered = _STATUS.search(summary) is not None and "token request" not in summary
    if name == "PanicException" or (not answered and _SETTINGS.search(details)):
        return "settings"
    if match := _CODE.search(text):
        return match[1]
    status = _STATUS.search(text)
    return _CLASSES.get(name, status[1] if status else "")


@contextmanager
def store_errors(address: StoreAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn obstore's errors into `SourceError`, or while writing `StorageError`."""
    try:
        yield
    except OpsinError:
        raise
    except BaseException as error:  # obstore's panics are not of Exception
        code = "InvalidPath" if isinstance(error, ValueError) else code_of(error)
        if code is None:
            raise
        parts = next((parts for codes, parts in _REFUSED.items() if code in codes.split(" ")),
                     _OTHERWISE)  # fmt: skip
        known = {
            "address": address, "bucket": address.bucket, "code": code,
            "credentials": _CREDENTIALS[address.store], "endpoint": ADDRESSES[address.store][0],
            "verb": "write" if writing else "read",
        }  # fmt: skip
        kind = StorageError if writing else SourceError
        raise kind(*(part.format_map(known) for part in parts)) from error


@contextmanager
def said_as(file: Path, address: object) -> Iterator[None]:
    """Let a block's errors name an object instead of its local file."""
    try:
        yield
    except OpsinError as error:
        error.replace(str(file), str(address))
        raise
