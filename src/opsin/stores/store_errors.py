"""What can go wrong with an object store, each as one line that says what to do.

No text of a store or of a program that hands out credentials is shown: it may hold a secret.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from opsin.core.errors import OpsinError, SourceError, StorageError
from opsin.stores.store_address import ADDRESSES, AZURE_ACCOUNT, Store, StoreAddress

_GO_ON: Final = "what is done is kept, and the same command goes on there"
_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
_UNKNOWN: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "401"}
)
_DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"})
_BUSY: Final = frozenset(
    {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "ThrottlingException",
     "TooManyRequests", "429", "500", "502", "503", "504"}
)  # fmt: skip
_ELSEWHERE: Final = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307"})
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
# What obstore's errors mean, which have no code.
_CLASSES: Final = {
    "AlreadyExistsError": "409",
    "FileNotFoundError": "404",
    "InvalidPathError": "InvalidPath",
    "PermissionDeniedError": "403",
    "PreconditionError": "412",
    "UnauthenticatedError": "401",
}
# Its words where it has no credentials, or cannot use what is set.
_SETTINGS: Final = re.compile(
    r"\bsource: (DecodeCredentials|DecodeKey|InvalidAccessKey|MissingAccount|MissingSas\w+|"
    r"OpenCredentials|TokenRequest|UnableToParse\w+|Token\w*)\b|\bstore: \"Config\""
)
_STATUS: Final = re.compile(r"status code: (\d{3})")
# Where credentials are looked for first.
_CREDENTIALS: Final[dict[Store, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (GOOGLE_SKIP_SIGNATURE=true for a public bucket)",
    "az": f"{AZURE_ACCOUNT} and AZURE_STORAGE_ACCOUNT_KEY, or the role of this machine",
}


class BrokenOffError(Exception):
    """A content that did not arrive whole."""


def is_missing(error: BaseException) -> bool:
    """Tell whether a store has answered that there is no such object."""
    return _code(error) in _MISSING


def is_taken(error: BaseException | None) -> bool:
    """Tell whether a store has refused a write because another object is there."""
    return _code(error) in _TAKEN


def _code(error: BaseException | None) -> str:
    """Return the store's word for an error; ``""`` where it did not answer."""
    answer: Any = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code", ""))
    if not _is_obstore(error):
        return ""
    if "<Code>BlobArchived</Code>" in str(error):
        return "BlobArchived"
    found = None if _lacks_credentials(error) else _STATUS.search(str(error))
    return _CLASSES.get(type(error).__name__, found[1] if found else "")


def _is_obstore(error: BaseException | None) -> bool:
    nameless = type(error) is FileNotFoundError and error.filename is None
    return nameless or type(error).__module__.startswith(("obstore", "pyo3_runtime"))


def _lacks_credentials(error: BaseException | None) -> bool:
    """Tell whether obstore found none that it could ask a store with."""
    said, _, details = str(error).partition("Debug source:")
    if type(error).__name__ == "PanicException":
        return True
    answered = _STATUS.search(said) is not None and "token request" not in said
    return not answered and _SETTINGS.search(details) is not None


@contextlib.contextmanager
def store_errors(address: StoreAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn what the libraries of the stores raise into an error of ours.

    Args:
        address: What is asked for.
        writing: Whether it is written.

    Raises:
        SourceError: It cannot be read.
        StorageError: It cannot be written.
    """
    try:
        yield
    except (OpsinError, BrokenOffError):
        raise
    except BaseException as error:  # obstore's panics are none of Exception
        if not isinstance(error, Exception) and not _is_obstore(error):
            raise
        kind = StorageError if writing else SourceError
        if isinstance(error, ValueError) and address.store != "s3":  # a path it does not ask for
            raise kind(*_refused("InvalidPath", address, writing=writing)) from error
        if code := _code(error):
            raise kind(*_refused(code, address, writing=writing)) from error
        if _is_obstore(error):
            raise kind(*_unanswered_by_obstore(error, address)) from error
        if isinstance(error, FileNotFoundError) or address.store != "s3":
            raise
        raise kind(*_unanswered(error, address)) from error


def _refused(code: str, address: StoreAddress, *, writing: bool) -> tuple[str, str, str]:
    """Return what is said where the store answered with an error."""
    if code == "NoSuchBucket" or (code == "404" and address.store != "s3"):
        return (
            "a bucket that exists",
            f"there is no bucket {address.bucket}",
            f"Check its name, and {ADDRESSES[address.store][0]} for a store of your own.",
        )
    if code in _EXPIRED:
        return (
            "credentials that are valid",
            f"those for {address} have expired",
            f"Renew them; {_GO_ON}.",
        )
    if code in _UNKNOWN:
        return (
            "credentials that the store knows",
            f"it does not accept those for {address} ({code})",
            f"Check {_CREDENTIALS[address.store]}.",
        )
    if code in _DENIED:
        return (
            f"the right to {'write' if writing else 'list and read'} {address}",
            "access is denied",
            f"Ask for that right, or use other credentials; {_GO_ON}.",
        )
    if code in _BUSY:
        return (
            "a store that answers",
            f"{address} was refused again and again ({code})",
            f"Try later; {_GO_ON}.",
        )
    if code in _ELSEWHERE:
        return (
            "the region of the bucket",
            f"{address.bucket} is in another ({code})",
            "Set AWS_REGION, or AWS_ENDPOINT_URL.",
        )
    if code in {"RequestTimeTooSkewed", "RequestInTheFuture"}:
        return "a clock that is right", "this machine's is not, the store says", "Set it."
    if code in {"InvalidObjectState", "BlobArchived"}:
        return (
            "an object that can be read at once",
            f"{address} is in an archive",
            "Restore it first, or leave it out.",
        )
    if code == "InvalidPath":
        return (
            "keys with a name between any two slashes",
            f"there are others below {address}, such as a//b or ../a",
            "Rename them; only s3:// reads such keys.",
        )
    return (
        f"a store that {'takes' if writing else 'gives'} {address}",
        f"it answered {code}",
        f"Look that up in the store's manual; {_GO_ON}.",
    )


def _unanswered_by_obstore(error: BaseException, address: StoreAddress) -> tuple[str, str, str]:
    """Return what is said where obstore got no answer, or did not ask."""
    if _lacks_credentials(error):
        return (
            "credentials and settings for the store",
            f"this account's cannot be used for {address}",
            f"Check {_CREDENTIALS[address.store]}; {_GO_ON}.",
        )
    return (
        "a store that can be reached",
        f"{address} got no answer",
        f"Check the network and {ADDRESSES[address.store][0]}; {_GO_ON}.",
    )


def _unanswered(error: BaseException, address: StoreAddress) -> tuple[str, str, str]:
    """Return what is said where there was no answer, or where nothing was asked."""
    from botocore import exceptions as told  # noqa: PLC0415  an extra

    where = _host(error)
    if isinstance(error, told.EndpointConnectionError | told.ConnectTimeoutError):
        return (
            "a store that can be reached",
            f"nothing answers at {where}",
            f"Check the network and AWS_ENDPOINT_URL; {_GO_ON}.",
        )
    if isinstance(error, told.SSLError):
        return (
            "a store with a valid certificate",
            f"that of {where} is not",
            "Set AWS_CA_BUNDLE where it is your own.",
        )
    if isinstance(error, told.HTTPClientError):  # silence, a closed connection, a proxy
        return (
            "a store that answers in time",
            f"{where} did not ({type(error).__name__.removesuffix('Error')})",
            f"Try later; {_GO_ON}.",
        )
    if isinstance(error, told.ParamValidationError | told.InvalidRegionError):
        return (
            "the name of a bucket and a key",
            f"got {address.bucket!r} and {address.key!r:.200}",
            "Check the address.",
        )
    if type(error).__name__ == "ResponseParserError":  # of no module that is meant for others
        return (
            "an answer of an object store",
            f"{where} sends something else",
            "Check AWS_ENDPOINT_URL.",
        )
    return (
        "credentials and settings for the store",
        f"this account's cannot be used ({type(error).__name__.removesuffix('Error')})",
        "Check AWS_PROFILE, ~/.aws and the variables AWS_…; renew them where they expire.",
    )


def _host(error: BaseException) -> str:
    """Return the machine that was asked, without what else its address may hold."""
    about: Any = getattr(error, "kwargs", {})
    parts = urlsplit(str(about.get("endpoint_url") or ""))
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname}{port}" if parts.hostname else "the store"
