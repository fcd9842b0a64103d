"""Networks fetched from the hub, once and only when they are named.

They lie in the hub's own cache, which its other programs share. What is in reach of this module is
``HF_ENDPOINT`` alone, and where that redirects to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opsin._version import __version__
from opsin.core.errors import DownloadError, MissingExtraError, ModelFileError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import exclusive, storage_errors
from opsin.hub.hub_cache import (
    PREPARATION,
    HubFile,
    choose,
    commit_of,
    folder_of,
    found_here,
    keep_commit,
    link_content,
    lock_of,
    snapshot_of,
)
from opsin.hub.hub_download import download
from opsin.hub.hub_errors import http_client, hub_errors
from opsin.hub.hub_name import HubName, is_commit

#: Files that say under which licence a network is published, in the order of looking.
CARDS: Final = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
# Bytes of the largest text that is fetched beside a network, and of the largest network.
_LARGEST_TEXT: Final = 1 << 20
_LARGEST: Final = (2 << 30) - 1
_USUAL_ENDPOINT: Final = "https://huggingface.co"
# It has no such bytes: the file is another by now.
_NO_SUCH_PART: Final = 416
# Names that lead into a repository's folder, whatever the system.
_INSIDE: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_ ./+-]{0,199}")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BASE: Final = re.compile(r"^base_model:[ \t]*(?:\n-[ \t]*)?[\"']?([^\s\"']+)", re.MULTILINE)


def fetch(name: HubName, *, offline: bool = False, watcher: Watcher = SILENT) -> HubFile:
    """Return a network of the hub, fetched where it is not on this machine.

    A commit that is here is not asked for again; of a branch or tag the newest is, and where the
    hub cannot be reached, what is here is taken, with a note.

    Args:
        name: Repository and revision.
        offline: Whether only what is here may be used; ``HF_HUB_OFFLINE=1`` says so, too.
        watcher: Receives how far the download is.

    Raises:
        ModelFileError: There is no such repository or revision, it may not be read, or no network
            in it could be used.
        DownloadError: The hub cannot be reached, is too slow, or sends something else.
        MissingExtraError: It is not here, and huggingface_hub is not installed.
        StorageError: The disk refuses it; what was fetched stays, and is not fetched again.
    """
    here = found_here(name)
    if here is not None and name.is_pinned and here.has_preparation:
        return here
    if offline or _says_yes("HF_HUB_OFFLINE"):
        if here is None:
            raise ModelFileError(
                f"{name} on this machine, since nothing may be fetched",
                "it is not here",
                f"Fetch it where there is a network: opsin backbones {name}",
            )
        return here
    try:
        return _Hub(name, watcher).fetched()
    except (DownloadError, MissingExtraError) as error:
        if here is None:
            raise
        watcher.note(f"{error.received}: {here.where}, which is here, is used")
        return here


def base_of(card: Path) -> HubName | None:
    """Return the model that a model card says its weights are from."""
    with contextlib.suppress(OSError):
        found = _BASE.search(card.read_text(encoding="utf-8", errors="replace")[:_LARGEST_TEXT])
        return HubName.read(found[1]) if found else None
    return None


def _says_yes(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


class _Hub:
    """One repository, asked through huggingface_hub.

    Args:
        name: Repository and revision.
        watcher: Receives how far the download is.
    """

    def __init__(self, name: HubName, watcher: Watcher) -> None:
        # The library reads its variables when it is imported.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            import huggingface_hub  # noqa: PLC0415  an extra, and half a second
            import huggingface_hub.constants  # noqa: PLC0415  it brings these when they are named
            import huggingface_hub.errors  # noqa: PLC0415
            import huggingface_hub.utils  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("fetching pretrained networks", "hub") from error
        self._library: Any = huggingface_hub
        self._name = name
        self._watcher = watcher
        self._endpoint = (os.environ.get("HF_ENDPOINT") or _USUAL_ENDPOINT).rstrip("/")
        self._seconds: float = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT

    def fetched(self) -> HubFile:
        """Fetch what is missing: first what lies beside the network, so that it is never alone."""
        with _quiet(), hub_errors(self._library, self._name, self._endpoint, self._seconds):
            where, files = self._listed(self._name)
            chosen = self._chosen(list(files))
            self._texts(where, files, (*PREPARATION, *CARDS))
            base = base_of(snapshot_of(where) / "README.md")
            if base is not None and commit_of(base) is None:
                # Licences are often stated there alone; without it, it is unknown.
                with contextlib.suppress(Exception):
                    there, theirs = self._listed(base)
                    self._texts(there, theirs, CARDS)
                    keep_commit(base, there.revision)
            self._fetch(where, files[chosen], watcher=self._watcher)
            keep_commit(self._name, where.revision)
        return HubFile(snapshot_of(where) / chosen, where)

    def _listed(self, name: HubName) -> tuple[HubName, dict[str, Any]]:
        """Return the commit of a revision, and its files by their names."""
        info = self._library.HfApi(endpoint=self._endpoint).model_info(
            name.repository, revision=name.revision, timeout=self._seconds, files_metadata=True
        )
        if not is_commit(info.sha or ""):
            raise ValueError("it names no commit")
        files = {each.rfilename: each for each in info.siblings or ()}
        inside = {file: about for file, about in files.items() if _INSIDE.fullmatch(file)}
        return HubName(name.repository, info.sha), inside

    def _chosen(self, files: Sequence[str]) -> str:
        """Return which file is the network, and see that it is whole by itself."""
        chosen = choose(files)
        networks = [name for name in files if name.endswith(".onnx")]
        if chosen is None:
            raise ModelFileError(
                "one network in a repository, as onnx/model.onnx or model.onnx",
                f"{self._name} has {', '.join(networks[:8]) or 'no ONNX file'}",
                "Fetch the file that you mean and give its path, or name another repository.",
            )
        outside = [name for name in files if name in (f"{chosen}_data", f"{chosen}.data")]
        if outside:
            raise ModelFileError(
                "a network in one file",
                f"the weights of {self._name} lie in another, {outside[0]}",
                "Name another repository, or save the network in one file and give its path.",
            )
        return chosen

    def _texts(self, where: HubName, files: Mapping[str, Any], names: Sequence[str]) -> None:
        """Fetch what is said of a network, where it is there."""
        for name in names:
            if name in files and (files[name].size or 0) <= _LARGEST_TEXT:
                self._fetch(where, files[name])

    def _fetch(self, where: HubName, about: Any, *, watcher: Watcher = SILENT) -> None:
        """Fetch a file, where no other process has or does, and give it its name."""
        file, size = about.rfilename, about.size
        digest = about.lfs.sha256 if about.lfs else about.blob_id
        if not _DIGEST.fullmatch(digest or "") or size is None:
            raise ValueError(f"it gives {file} no digest")
        if size > _LARGEST:
            raise ModelFileError(
                "a network of at most 2 GB", f"{file} of {where} is larger", "Name another."
            )
        blob, lock = folder_of(where) / "blobs" / digest, lock_of(where, digest)
        wait = "another process fetches the same network: waiting for it"
        with storage_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(lock, lambda: watcher.note(wait)):
            if not blob.exists():
                watcher.begin(f"Fetching {where.repository}", size, "B")
                try:
                    download(
                        lambda start: self._asked(where, file, start),
                        blob,
                        size=size,
                        digest=digest,
                        broken=(http_client(self._library).RequestError, ConnectionError),
                        advance=watcher.advance,
                    )
                finally:
                    watcher.end()
            link_content(where, file, blob)

    @contextlib.contextmanager
    def _asked(self, where: HubName, file: str, start: int) -> Iterator[Any]:
        """Ask for a file from a byte on."""
        utils = self._library.utils
        headers = utils.build_hf_headers(library_name="opsin", library_version=__version__)
        # Parts are parts of the file, not of something compressed.
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        url = self._library.hf_hub_url(
            where.repository, file, revision=where.revision, endpoint=self._endpoint
        )
        with utils.get_session().stream(
            "GET", url, headers=headers, timeout=self._seconds
        ) as response:
            if response.status_code != _NO_SUCH_PART:
                utils.hf_raise_for_status(response)
            yield response


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from writing warnings of its own: what goes wrong is said once."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
