"""What can go wrong with an object store, each as one line that says what to do.

No text of a store or of a program that hands out credentials is shown: it may hold a secret.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from opsin.core.errors import OpsinError, SourceError, StorageError
from opsin.stores.store_address import StoreAddress

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
    code = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else ""
    return str(code)


@contextlib.contextmanager
def store_errors(address: StoreAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn what botocore raises into an error of ours.

    Args:
        address: What is asked for.
        writing: Whether it is written.

    Raises:
        SourceError: It cannot be read.
        StorageError: It cannot be written.
    """
    try:
        yield
    except (OpsinError, FileNotFoundError, BrokenOffError):
        raise
    except Exception as error:
        kind = StorageError if writing else SourceError
        from botocore import exceptions as told  # noqa: PLC0415  an extra

        if _code(error):
            raise kind(*_refused(_code(error), address, writing=writing)) from error
        raise kind(*_unanswered(error, told, address)) from error


def _refused(code: str, address: StoreAddress, *, writing: bool) -> tuple[str, str, str]:
    """Return what is said where the store answered with an error."""
    if code == "NoSuchBucket":
        return (
            "a bucket that exists",
            f"there is no bucket {address.bucket}",
            "Check its name, and AWS_ENDPOINT_URL where it is on a store of your own.",
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
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    if code in _DENIED:
        return (
            f"the right to {'write' if writing else 'list and read'} {address}",
            "access is denied",
            f"Ask for that right, or use other credentials (AWS_PROFILE); {_GO_ON}.",
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
    if code == "InvalidObjectState":
        return (
            "an object that can be read at once",
            f"{address} is in an archive",
            "Restore it first, or leave it out.",
        )
    return (
        f"a store that {'takes' if writing else 'gives'} {address}",
        f"it answered {code}",
        f"Look that up in the store's manual; {_GO_ON}.",
    )


def _unanswered(error: Exception, told: Any, address: StoreAddress) -> tuple[str, str, str]:
    """Return what is said where there was no answer, or where nothing was asked."""
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


def _host(error: Exception) -> str:
    """Return the machine that was asked, without what else its address may hold."""
    about: Any = getattr(error, "kwargs", {})
    parts = urlsplit(str(about.get("endpoint_url") or ""))
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname}{port}" if parts.hostname else "the store"
