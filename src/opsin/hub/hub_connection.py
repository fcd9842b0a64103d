"""huggingface_hub, loaded lazily, and its errors as ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    """The library, the hub's address, and the timeout in seconds."""

    library: Any
    endpoint: str
    seconds: float

    @property
    def api(self) -> Any:
        """The library's client."""
        return self.library.HfApi(
            endpoint=self.endpoint, library_name="opsin", library_version=__version__
        )


def connect(need: str, *, patience: int = 1) -> HubConnection:
    """Load huggingface_hub; sends no request."""
    # The library reads its variables on import.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub  # noqa: PLC0415  an extra, and half a second
        import huggingface_hub.constants  # noqa: PLC0415  it brings these when they are named
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(need, "hub") from error
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    seconds = patience * huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    return HubConnection(huggingface_hub, endpoint.rstrip("/"), seconds)


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids requests."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextlib.contextmanager
def quiet(hub: HubConnection) -> Iterator[None]:
    """Silence the library: we report progress and errors."""
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
    """Turn huggingface_hub's errors about a repository into ours."""
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        wraps = isinstance(error, hub.library.errors.LocalEntryNotFoundError | RuntimeError)
        cause = error.__cause__ if wraps and error.__cause__ else error
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ConnectionError):
            with storage_errors(hub_cache(), "set HF_HOME"):
                raise cause from None
        status = getattr(getattr(cause, "response", None), "status_code", None)
        reason = " ".join((str(cause) or type(cause).__name__).split())[:200]
        refused = _upload_refused if sending else _fetch_refused
        explained = refused(hub, cause, name, status, reason)
        kind = UploadError if sending else DownloadError
        raise explained or kind(
            f"{hub.endpoint} cannot be reached, or refuses ({status or reason})",
            "Check the network and HF_ENDPOINT, and run it again.",
        ) from error


def _upload_refused(
    hub: HubConnection, error: BaseException, name: HubName, status: int | None, reason: str
) -> OpsinError | None:
    host, repository = hub.endpoint, name.repository
    if status == 401:
        return UploadError(
            f"{host} does not accept your token",
            "Make one that may write: hf auth login. HF_TOKEN, where it is set, is used instead.",
        )
    if status in (403, 404):
        return UploadError(
            f"{host} does not let your token write to {repository}",
            f"Check the token, and that you belong to {repository.partition('/')[0]}; or use your "
            "own name: hf:YOU/NAME",
        )
    if status in (409, 412):
        return UploadError(f"{repository} was changed while it was written", "Run it again.")
    invalid = isinstance(error, hub.library.errors.HFValidationError)
    if status == 400 or invalid or "Invalid metadata" in str(error):
        return UploadError(
            f"{host} does not take the repository's name or the card: {reason}",
            "Choose another name, or another licence; or mend README.md.",
        )
    return None


def _fetch_refused(
    hub: HubConnection, error: BaseException, name: HubName, status: int | None, _: str
) -> OpsinError | None:
    errors, host, repository = hub.library.errors, hub.endpoint, name.repository
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return ModelFileError(
            f"The owners of {repository} must let you in first, says {host}",
            f"Ask at {host}/{repository}, sign in: hf auth login, and run it again.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelFileError(
            f"{repository} has no {name.revision}", f"For the newest: {repository}@main"
        )
    if isinstance(error, errors.HFValidationError) or status in (401, 404):
        return ModelFileError(
            f"{host} shows you no {repository}",
            "Check the name; for one that is private, sign in: hf auth login.",
        )
    return None
