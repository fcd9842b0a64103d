"""huggingface_hub, loaded when it is needed, and its errors as ours."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opsin._version import __version__
from opsin.core.errors import (
    DownloadError,
    MissingExtraError,
    ModelFileError,
    OpsinError,
    UploadError,
)
from opsin.core.storage import storage_errors
from opsin.hub.hub_name import HubName, hub_cache


@dataclass(frozen=True)
class HubConnection:
    """The library; the hub's address; and the seconds for which the hub may be silent."""

    library: Any
    endpoint: str
    seconds: float

    @property
    def api(self) -> Any:
        """What asks the hub."""
        return self.library.HfApi(
            endpoint=self.endpoint, library_name="opsin", library_version=__version__
        )


def connect(need: str) -> HubConnection:
    """Load huggingface_hub; nothing is asked yet."""
    # The library reads its variables when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub  # noqa: PLC0415  an extra, and half a second
        import huggingface_hub.constants  # noqa: PLC0415  it brings these when they are named
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(need, "hub") from error
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    seconds = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    return HubConnection(huggingface_hub, endpoint.rstrip("/"), seconds)


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextlib.contextmanager
def quiet(hub: HubConnection) -> Iterator[None]:
    """Keep the library from writing on its own: progress and errors are said once, by us."""
    utils = hub.library.utils
    level, had_bars = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity(utils.logging.CRITICAL)
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(level)
        if had_bars:
            utils.enable_progress_bars()


@contextlib.contextmanager
def hub_errors(hub: HubConnection, name: HubName, *, sending: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises over a repository into an error of ours."""
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        wraps = isinstance(error, hub.library.errors.LocalEntryNotFoundError | RuntimeError)
        cause = error.__cause__ if wraps and error.__cause__ else error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ConnectionError):
            with storage_errors(hub_cache(), "set HF_HOME"):
                raise cause from None
        trouble = _trouble(hub, cause, status, sending=sending)
        kind, *said = _SAID[trouble]
        reason = " ".join((str(cause) or type(cause).__name__).split())[:200]
        known = {
            "name": name.repository, "revision": name.revision, "host": hub.endpoint,
            "owner": name.repository.partition("/")[0], "status": status, "reason": reason,
            "seconds": f"{hub.seconds:g}", "verb": "to send" if sending else "to fetch",
        }  # fmt: skip
        kind = kind or (UploadError if sending else DownloadError)
        raise kind(*(text.format_map(known) for text in said)) from error


def _trouble(hub: HubConnection, error: BaseException, status: int | None, *, sending: bool) -> str:
    """Return which of `_SAID` an error is."""
    errors = hub.library.errors
    invalid = isinstance(error, errors.HFValidationError)
    if sending:
        of_status = {401: "token", 403: "right", 404: "right", 409: "conflict", 412: "conflict"}
        if status in of_status:
            return of_status[status]
        if status == 400 or invalid or "Invalid metadata" in str(error):
            return "card"
    elif isinstance(error, errors.GatedRepoError) or status == 403:
        return "gated"
    elif isinstance(error, errors.RevisionNotFoundError):
        return "revision"
    elif invalid or status in (401, 404):
        return "unknown"
    # The HTTP library of huggingface_hub, which is another in each of its versions.
    base = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    client = importlib.import_module(base.__module__.partition(".")[0])
    if isinstance(error, client.TimeoutException):
        return "silent"
    if status is not None:
        return "status"
    if isinstance(error, client.RequestError | ConnectionError):
        return "network"
    return "network" if isinstance(error, OSError) else "nonsense"


# What is said of each trouble: the error (default: of the upload or the download) and its parts.
_SAID: Final[dict[str, tuple[type[OpsinError] | None, str, str, str]]] = {
    "gated": (
        ModelFileError, "{name} to be open to you",
        "{host} says that its owners must let you in first",
        "Ask at {host}/{name}, sign in: hf auth login, and run it again.",
    ),
    "revision": (
        ModelFileError, "a revision of {name}", "{host} has no {revision} of it",
        "For the newest: {name}@main",
    ),
    "unknown": (
        ModelFileError, "the name of a repository on the hub", "{host} shows you no {name}",
        "Check the name; for one that is private, sign in: hf auth login.",
    ),
    "token": (
        UploadError, "a token that the hub accepts", "{host} does not accept yours",
        ("Make one that may write, and sign in with it: hf auth login. HF_TOKEN, where it is set, "
        "is used instead."),
    ),
    "right": (
        UploadError, "the right to write to {name}", "{host} does not give it to your token",
        ("Check that the token may write, and that you belong to {owner}; or use your own name: "
        "hf:YOU/NAME"),
    ),
    "conflict": (
        UploadError, "{name} to stay as it was while it is written",
        "{host} says that something else changed it", "Run it again.",
    ),
    "card": (
        UploadError, "{host} to take the repository's name and the card", "it does not: {reason}",
        "Choose another name, or another licence; or mend README.md.",
    ),
    "silent": (
        None, "the hub to go on", "{host} was silent for {seconds} seconds",
        "Run it again later. To wait longer: HF_HUB_DOWNLOAD_TIMEOUT=60",
    ),
    "status": (None, "{verb} {name}", "{host} answers {status}", "Try again later."),
    "network": (
        None, "{verb} {name}", "{host} cannot be reached, or breaks off ({reason})",
        "Check the network and run it again.",
    ),
    "nonsense": (
        None, "{host} to speak as the hub does", "its answer makes no sense ({reason})",
        "Check HF_ENDPOINT, and whether the network asks you to sign in first.",
    ),
}  # fmt: skip
