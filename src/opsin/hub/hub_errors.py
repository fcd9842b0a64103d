"""What can go wrong with the hub, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from opsin.core.errors import DownloadError, ModelFileError, OpsinError, StorageError
from opsin.hub.hub_name import HubName

_FORBIDDEN = 403
_UNKNOWN = (401, 404)


def http_client(library: Any) -> ModuleType:
    """Return the HTTP library of huggingface_hub, which is another in each of its versions."""
    own = library.errors.HfHubHTTPError.__mro__
    base = next(kind for kind in own if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


@contextlib.contextmanager
def hub_errors(library: Any, name: HubName, endpoint: str, seconds: float) -> Iterator[None]:
    """Turn what huggingface_hub raises into an error of ours.

    Args:
        library: huggingface_hub.
        name: What is fetched.
        endpoint: From where.
        seconds: For which the hub may be silent.
    """
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        cause: BaseException = error
        if isinstance(error, library.errors.LocalEntryNotFoundError) and error.__cause__:
            cause = error.__cause__
        said = _refused(library, cause, name, endpoint)
        raise said or _failed(library, cause, name, endpoint, seconds) from error


def _refused(library: Any, error: BaseException, name: HubName, host: str) -> OpsinError | None:
    """Return the error of a name that the hub does not show; ``None`` for any other."""
    status = _status(error)
    sign_in = "sign in: hf auth login"
    if isinstance(error, library.errors.GatedRepoError) or status == _FORBIDDEN:
        return ModelFileError(
            f"{name.repository} to be open to you",
            f"{host} says that its owners must let you in first",
            f"Ask at {host}/{name.repository}, {sign_in}, and run it again.",
        )
    if isinstance(error, library.errors.RevisionNotFoundError):
        return ModelFileError(
            f"a revision of {name.repository}",
            f"{host} has no {name.revision} of it",
            f"For the newest: {name.repository}@main",
        )
    if isinstance(error, library.errors.HFValidationError) or status in _UNKNOWN:
        return ModelFileError(
            "the name of a network on the hub",
            f"{host} shows you no {name.repository}",
            f"Check the name, or see opsin backbones; for one that is private, {sign_in}.",
        )
    return None


def _failed(
    library: Any, error: BaseException, name: HubName, host: str, seconds: float
) -> OpsinError:
    """Return the error of a fetch that may succeed another time."""
    client = http_client(library)
    status = _status(error)
    reason = (str(error) or type(error).__name__).partition("\n")[0][:200]
    if isinstance(error, client.TimeoutException):
        return DownloadError(
            "the hub to go on sending",
            f"{host} was silent for {seconds:g} seconds",
            "Run it again later: what was fetched is kept. To wait longer: "
            "HF_HUB_DOWNLOAD_TIMEOUT=60",
        )
    if status is not None:
        return DownloadError(
            f"{name.repository} from the hub", f"{host} answers {status}", "Try again later."
        )
    if isinstance(error, client.RequestError | ConnectionError):
        return DownloadError(
            f"{name.repository} from the hub",
            f"{host} cannot be reached, or breaks off ({reason})",
            "Check the network and run it again: what was fetched is kept.",
        )
    if isinstance(error, OSError) and error.errno:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StorageError(
            "the hub's cache to take a file",
            (error.strerror or reason).lower(),
            f"{'Free some space' if full else 'Check its rights, or set HF_HOME'}, and run again.",
        )
    return DownloadError(
        f"{host} to speak as the hub does",
        f"its answer makes no sense ({reason})",
        "Check HF_ENDPOINT, and whether the network asks you to sign in first.",
    )


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
