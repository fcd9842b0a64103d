"""What can go wrong with the hub, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from opsin.core.errors import (
    DownloadError,
    ModelFileError,
    OpsinError,
    StorageError,
    UploadError,
)
from opsin.hub.hub_connection import HubConnection
from opsin.hub.hub_name import HubName

_FORBIDDEN: Final = 403
_UNKNOWN: Final = (401, 404)
_UNSIGNED: Final = 401
_CONFLICT: Final = (409, 412)
_BAD: Final = 400
_SIGN_IN: Final = "sign in: hf auth login"


def http_client(library: Any) -> ModuleType:
    """Return the HTTP library of huggingface_hub, which is another in each of its versions."""
    own = library.errors.HfHubHTTPError.__mro__
    base = next(kind for kind in own if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


@contextlib.contextmanager
def hub_errors(hub: HubConnection, name: HubName) -> Iterator[None]:
    """Turn what huggingface_hub raises while it fetches into an error of ours.

    Args:
        hub: From where.
        name: What is fetched.
    """
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        cause: BaseException = error
        if isinstance(error, hub.library.errors.LocalEntryNotFoundError) and error.__cause__:
            cause = error.__cause__
        said = _not_shown(hub, cause, name)
        if said is None:
            kept = "what was fetched is kept"
            what = f"{name.repository} from"
            said = _failed(hub, cause, DownloadError, what, seconds=hub.seconds, kept=kept)
        raise said from error


@contextlib.contextmanager
def upload_errors(hub: HubConnection, repository: str, seconds: float) -> Iterator[None]:
    """Turn what huggingface_hub raises while it sends into an error of ours.

    Args:
        hub: Where to.
        repository: ``owner/name``.
        seconds: For which the hub may be silent.
    """
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        # What sends a large file wraps what went wrong.
        wrapped = isinstance(error, RuntimeError) and error.__cause__ is not None
        cause = error.__cause__ if wrapped and error.__cause__ else error
        said = _not_taken(hub, cause, repository)
        if said is None:
            kept = "files that arrived are not sent again"
            what = f"to send {repository} to"
            said = _failed(hub, cause, UploadError, what, seconds=seconds, kept=kept)
        raise said from error


def _not_shown(hub: HubConnection, error: BaseException, name: HubName) -> OpsinError | None:
    """Return the error of a name that the hub does not show; ``None`` for any other."""
    status, errors = _status(error), hub.library.errors
    if isinstance(error, errors.GatedRepoError) or status == _FORBIDDEN:
        return ModelFileError(
            f"{name.repository} to be open to you",
            f"{hub.endpoint} says that its owners must let you in first",
            f"Ask at {hub.endpoint}/{name.repository}, {_SIGN_IN}, and run it again.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelFileError(
            f"a revision of {name.repository}",
            f"{hub.endpoint} has no {name.revision} of it",
            f"For the newest: {name.repository}@main",
        )
    if isinstance(error, errors.HFValidationError) or status in _UNKNOWN:
        return ModelFileError(
            "the name of a repository on the hub",
            f"{hub.endpoint} shows you no {name.repository}",
            f"Check the name; for one that is private, {_SIGN_IN}.",
        )
    return None


def _not_taken(hub: HubConnection, error: BaseException, repository: str) -> OpsinError | None:
    """Return the error of an upload that the hub refuses; ``None`` for any other."""
    status, owner = _status(error), repository.partition("/")[0]
    if status == _UNSIGNED:
        return UploadError(
            "a token that the hub accepts",
            f"{hub.endpoint} does not accept yours",
            "Make one that may write, and sign in with it: hf auth login. HF_TOKEN, where it is "
            "set, is used instead.",
        )
    if status in (_FORBIDDEN, *_UNKNOWN):
        return UploadError(
            f"the right to write to {repository}",
            f"{hub.endpoint} does not give it to your token",
            f"Check that the token may write, and that you belong to {owner}; or use your own "
            "name: hf:YOU/NAME",
        )
    if status in _CONFLICT:
        return UploadError(
            f"{repository} to stay as it was while it is written",
            f"{hub.endpoint} says that something else changed it",
            "Run it again.",
        )
    refused = isinstance(error, hub.library.errors.HFValidationError)
    if status == _BAD or refused or "Invalid metadata" in str(error):
        return UploadError(
            f"{hub.endpoint} to take the repository's name and the card",
            f"it does not: {_reason(error)}",
            "Choose another name, or another licence; or mend README.md.",
        )
    return None


def _failed(
    hub: HubConnection,
    error: BaseException,
    kind: type[DownloadError | UploadError],
    what: str,
    *,
    seconds: float,
    kept: str,
) -> OpsinError:
    """Return the error of what may succeed another time.

    Args:
        hub: Whom it was asked.
        error: What was raised.
        kind: What the error is.
        what: What was expected of the hub.
        seconds: For which the hub may be silent.
        kept: What need not be done again.
    """
    client, status, host = http_client(hub.library), _status(error), hub.endpoint
    if isinstance(error, client.TimeoutException):
        return kind(
            "the hub to go on" + (" sending" if kind is DownloadError else ""),
            f"{host} was silent for {seconds:g} seconds",
            f"Run it again later: {kept}. To wait longer: HF_HUB_DOWNLOAD_TIMEOUT=60",
        )
    if status is not None:
        return kind(f"{what} the hub", f"{host} answers {status}", f"Try again later: {kept}.")
    if isinstance(error, client.RequestError | ConnectionError):
        return kind(
            f"{what} the hub",
            f"{host} cannot be reached, or breaks off ({_reason(error)})",
            f"Check the network and run it again: {kept}.",
        )
    if isinstance(error, OSError) and error.errno:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StorageError(
            "the hub's cache to take a file",
            (error.strerror or _reason(error)).lower(),
            f"{'Free some space' if full else 'Check its rights, or set HF_HOME'}, and run again.",
        )
    return kind(
        f"{host} to speak as the hub does",
        f"its answer makes no sense ({_reason(error)})",
        "Check HF_ENDPOINT, and whether the network asks you to sign in first.",
    )


def _reason(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
