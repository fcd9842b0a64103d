"""Networks and classifiers fetched from the hub, by huggingface_hub, which is loaded lazily."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from opsin._version import __version__
from opsin.core.errors import DownloadError, MissingExtraError, ModelFileError, OpsinError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import storage_errors
from opsin.hub.hub_name import (
    PREFIX,
    PREPARATION,
    HubFile,
    HubName,
    Wanted,
    found_here,
    hub_cache,
    snapshot_of,
)

#: Files that may state a network's licence, in order of preference.
CARDS: Final = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
# Most bytes of a text fetched beside a network, and of a network.
_LARGEST_TEXT: Final = 1 << 20
_LARGEST: Final = (2 << 30) - 1


@dataclass(frozen=True)
class HubConnection:
    """The library, its client, the hub's address, and the timeout in seconds."""

    library: Any
    api: Any
    endpoint: str
    seconds: float


def connect(need: str) -> HubConnection:
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
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    api = huggingface_hub.HfApi(endpoint, library_name="opsin", library_version=__version__)
    seconds = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    return HubConnection(huggingface_hub, api, endpoint, seconds)


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids requests."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextlib.contextmanager
def asking(hub: HubConnection, name: HubName) -> Iterator[None]:
    """Silence huggingface_hub, and turn its errors about a repository into ours."""
    utils = hub.library.utils
    level, had_bars = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity(utils.logging.CRITICAL)
    utils.disable_progress_bars()
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
        raise _refused(hub, cause, name, status) or DownloadError(
            f"{hub.endpoint} cannot be reached, or refuses ({status or reason})",
            "Check the network and HF_ENDPOINT, and run it again.",
        ) from error
    finally:
        utils.logging.set_verbosity(level)
        if had_bars:
            utils.enable_progress_bars()


def _refused(
    hub: HubConnection, error: BaseException, name: HubName, status: int | None
) -> OpsinError | None:
    """Return what a refusal means, if it is known."""
    host, repository, errors = hub.endpoint, name.repository, hub.library.errors
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


def fetch(
    name: HubName,
    wanted: Wanted = Wanted.NETWORK,
    *,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> HubFile:
    """A file of the hub, fetched if it is not on this machine."""
    here = found_here(name, wanted)
    if here is not None and name.is_pinned:
        texts = [snapshot_of(here.where) / file for file in PREPARATION]
        if wanted is Wanted.CLASSIFIER or any(map(Path.is_file, texts)):
            return here
    if offline or is_offline():
        if here is not None:
            return here
        network = wanted is Wanted.NETWORK
        fetches = f"opsin backbones {name}" if network else f"opsin predict {PREFIX}{name} IMAGE"
        raise ModelFileError(
            f"{name} is not on this machine, and nothing may be fetched",
            f"Fetch it where there is a network: {fetches}",
        )
    try:
        hub = connect("fetching from the hub")
        with asking(hub, name):
            return _fetched(hub, name, wanted, watcher)
    except (DownloadError, MissingExtraError) as error:
        if here is None:
            raise
        watcher.note(f"{error.message}: {here.where}, which is here, is used")
        return here


def _fetched(hub: HubConnection, name: HubName, wanted: Wanted, watcher: Watcher) -> HubFile:
    where, files = listed(hub, name)
    chosen = wanted.choose(files)
    if chosen is None:
        networks = [file for file in files if file.endswith(".onnx")]
        raise ModelFileError(
            f"{name} has {', '.join(networks[:8]) or 'no ONNX file'}; one {wanted}, as "
            f"{' or '.join(wanted.usual)}, is expected",
            "Fetch the file that you mean and give its path, or name another repository. "
            "A file of another program becomes a classifier by: opsin import FILE",
        )
    outside = [file for file in files if file in (f"{chosen}_data", f"{chosen}.data")]
    if outside:
        raise ModelFileError(
            f"The weights of {name} lie in a file of their own, {outside[0]}",
            "Name another repository, or save it in one file and give its path.",
        )
    if (files[chosen].size or 0) > _LARGEST:
        raise ModelFileError(f"{chosen} of {name} is larger than 2 GB")
    if wanted is Wanted.NETWORK:  # its descriptions first, so that it never lacks them
        for text in (*PREPARATION, *CARDS):
            if text in files and (files[text].size or 0) <= _LARGEST_TEXT:
                download(hub, where, text, SILENT)
    # By the revision's name, so that the library records its commit.
    path, stated = Path(download(hub, name, chosen, watcher)), files[chosen].lfs
    watcher.end()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if stated and digest != stated.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"The hub sent other bytes of {name} than it announces (SHA-256)", "Run it again."
        )
    return HubFile(path, where)


def listed(hub: HubConnection, name: HubName) -> tuple[HubName, dict[str, Any]]:
    """The commit of a revision, and its files by their names."""
    info = hub.api.repo_info(
        name.repository,
        revision=name.revision,
        repo_type=name.kind,
        timeout=hub.seconds,
        files_metadata=True,
    )
    where = replace(name, revision=info.sha or "")
    if not where.is_pinned:
        raise ValueError("it names no commit")
    files = {file.rfilename: file for file in info.siblings or ()}
    inside = [name for name in files if ".." not in name and re.match(r"[A-Za-z0-9_]", name)]
    return where, {name: files[name] for name in inside}


def download(hub: HubConnection, name: HubName, file: str, watcher: Watcher) -> str:
    """Fetch one file into the hub's cache, and return its path."""

    class Progress(contextlib.nullcontext[Any]):
        """A stand-in for the library's progress bars."""

        def __init__(self, *, total: int | None = None, initial: int = 0, **_: object) -> None:
            super().__init__(self)
            self._done = initial
            watcher.begin(f"Fetching {name.repository}", total or 0, "B")

        def update(self, more: int = 0) -> None:
            self._done += more
            watcher.advance(self._done)

    path: str = hub.library.hf_hub_download(
        name.repository,
        file,
        revision=name.revision,
        repo_type=name.kind,
        cache_dir=hub_cache(),
        endpoint=hub.endpoint,
        library_name="opsin",
        etag_timeout=hub.seconds,
        tqdm_class=Progress,
    )
    return path
