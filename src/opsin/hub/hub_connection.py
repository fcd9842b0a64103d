"""huggingface_hub, loaded when it is needed: it has the connection, its sign-in and its errors."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opsin._version import __version__
from opsin.core.errors import MissingExtraError

_USUAL_ENDPOINT: Final = "https://huggingface.co"


@dataclass(frozen=True)
class HubConnection:
    """The library, and whom it speaks with.

    Args:
        library: huggingface_hub.
        endpoint: Address of the hub: ``HF_ENDPOINT``, or the usual one.
        seconds: For which the hub may be silent: ``HF_HUB_DOWNLOAD_TIMEOUT``, or ten.
    """

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
    """Load huggingface_hub; nothing is asked yet.

    Args:
        need: What it is for, as the error says where it is not installed.

    Raises:
        MissingExtraError: It is not.
    """
    # The library reads its variables when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub  # noqa: PLC0415  an extra, and half a second
        import huggingface_hub.constants  # noqa: PLC0415  it brings these when they are named
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(need, "hub") from error
    return HubConnection(
        huggingface_hub,
        (os.environ.get("HF_ENDPOINT") or _USUAL_ENDPOINT).rstrip("/"),
        huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextlib.contextmanager
def quiet(hub: HubConnection) -> Iterator[None]:
    """Keep the library from writing on its own: progress and errors are said once, by us."""
    utils = hub.library.utils
    level, without_bars = utils.logging.get_verbosity(), utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where its variable says otherwise
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(level)
        if not without_bars:
            utils.enable_progress_bars()
