"""Networks and classifiers fetched from the hub, once and only when they are named.

They lie in the hub's own cache, which its other programs share. What is in reach of this module is
``HF_ENDPOINT`` alone, and where that redirects to.
"""

from __future__ import annotations

import contextlib
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
    Wanted,
    commit_of,
    folder_of,
    found_here,
    keep_commit,
    link_content,
    lock_of,
    snapshot_of,
)
from opsin.hub.hub_connection import connect, is_offline, quiet
from opsin.hub.hub_download import download
from opsin.hub.hub_errors import http_client, hub_errors
from opsin.hub.hub_name import HubName, is_commit

#: Files that say under which licence a network is published, in the order of looking.
CARDS: Final = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
# Bytes of the largest text that is fetched beside a network, and of the largest network.
_LARGEST_TEXT: Final = 1 << 20
_LARGEST: Final = (2 << 30) - 1
# It has no such bytes: the file is another by now.
_NO_SUCH_PART: Final = 416
# Names that lead into a repository's folder, whatever the system.
_INSIDE: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_ ./+-]{0,199}")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BASE: Final = re.compile(r"^base_model:[ \t]*(?:\n-[ \t]*)?[\"']?([^\s\"']+)", re.MULTILINE)


def fetch(
    name: HubName,
    wanted: Wanted = Wanted.NETWORK,
    *,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> HubFile:
    """Return a file of the hub, fetched where it is not on this machine.

    A commit that is here is not asked for again; of a branch or tag the newest is, and where the
    hub cannot be reached, what is here is taken, with a note.

    Args:
        name: Repository and revision.
        wanted: Which of its files is meant.
        offline: Whether only what is here may be used; ``HF_HUB_OFFLINE=1`` says so, too.
        watcher: Receives how far the download is.

    Raises:
        ModelFileError: There is no such repository or revision, it may not be read, or no file
            in it could be used.
        DownloadError: The hub cannot be reached, is too slow, or sends something else.
        MissingExtraError: It is not here, and huggingface_hub is not installed.
        StorageError: The disk refuses it; what was fetched stays, and is not fetched again.
    """
    here = found_here(name, wanted)
    if here is not None and name.is_pinned and here.is_surely(wanted):
        return here
    if offline or is_offline():
        if here is None:
            raise ModelFileError(
                f"{name} on this machine, since nothing may be fetched",
                "it is not here",
                f"Fetch it where there is a network: {wanted.how_to_fetch(name)}",
            )
        return here
    try:
        return _Repository(name, wanted, watcher).fetched()
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


class _Repository:
    """One repository, asked through huggingface_hub.

    Args:
        name: Repository and revision.
        wanted: Which of its files is meant.
        watcher: Receives how far the download is.
    """

    def __init__(self, name: HubName, wanted: Wanted, watcher: Watcher) -> None:
        self._hub = connect("fetching from the hub")
        self._name, self._wanted, self._watcher = name, wanted, watcher

    def fetched(self) -> HubFile:
        """Fetch what is missing: first what lies beside the network, so that it is never alone."""
        with quiet(self._hub), hub_errors(self._hub, self._name):
            where, files = self._listed(self._name)
            chosen = self._chosen(list(files))
            if self._wanted is Wanted.NETWORK:
                self._said_of(where, files)
            self._fetch(where, files[chosen], watcher=self._watcher)
            keep_commit(self._name, where.revision)
        return HubFile(snapshot_of(where) / chosen, where)

    def _said_of(self, where: HubName, files: Mapping[str, Any]) -> None:
        """Fetch what is said of a network's pixels and licence."""
        self._texts(where, files, (*PREPARATION, *CARDS))
        base = base_of(snapshot_of(where) / "README.md")
        if base is not None and commit_of(base) is None:
            # Licences are often stated there alone; without it, it is unknown.
            with contextlib.suppress(Exception):
                there, theirs = self._listed(base)
                self._texts(there, theirs, CARDS)
                keep_commit(base, there.revision)

    def _listed(self, name: HubName) -> tuple[HubName, dict[str, Any]]:
        """Return the commit of a revision, and its files by their names."""
        info = self._hub.api.model_info(
            name.repository, revision=name.revision, timeout=self._hub.seconds, files_metadata=True
        )
        if not is_commit(info.sha or ""):
            raise ValueError("it names no commit")
        files = {each.rfilename: each for each in info.siblings or ()}
        inside = {file: about for file, about in files.items() if _INSIDE.fullmatch(file)}
        return HubName(name.repository, info.sha), inside

    def _chosen(self, files: Sequence[str]) -> str:
        """Return which file is meant, and see that it is whole by itself."""
        chosen = self._wanted.choose(files)
        networks = [name for name in files if name.endswith(".onnx")]
        if chosen is None:
            raise ModelFileError(
                f"one {self._wanted} in a repository, as {self._wanted.usual}",
                f"{self._name} has {', '.join(networks[:8]) or 'no ONNX file'}",
                self._wanted.otherwise,
            )
        outside = [name for name in files if name in (f"{chosen}_data", f"{chosen}.data")]
        if outside:
            raise ModelFileError(
                f"a {self._wanted} in one file",
                f"the weights of {self._name} lie in another, {outside[0]}",
                "Name another repository, or save it in one file and give its path.",
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
                "files of at most 2 GB", f"{file} of {where} is larger", "Name another."
            )
        blob, lock = folder_of(where) / "blobs" / digest, lock_of(where, digest)
        wait = "another process fetches the same file: waiting for it"
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
                        broken=(http_client(self._hub.library).RequestError, ConnectionError),
                        advance=watcher.advance,
                    )
                finally:
                    watcher.end()
            link_content(where, file, blob)

    @contextlib.contextmanager
    def _asked(self, where: HubName, file: str, start: int) -> Iterator[Any]:
        """Ask for a file from a byte on."""
        utils = self._hub.library.utils
        headers = utils.build_hf_headers(library_name="opsin", library_version=__version__)
        # Parts are parts of the file, not of something compressed.
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        url = self._hub.library.hf_hub_url(
            where.repository, file, revision=where.revision, endpoint=self._hub.endpoint
        )
        with utils.get_session().stream(
            "GET", url, headers=headers, timeout=self._hub.seconds
        ) as response:
            if response.status_code != _NO_SUCH_PART:
                utils.hf_raise_for_status(response)
            yield response
