"""Networks and classifiers fetched from the hub."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import DownloadError, MissingExtraError, ModelFileError
from opsin.core.events import SILENT, Watcher
from opsin.hub.hub_connection import HubConnection, connect, hub_errors, is_offline, quiet
from opsin.hub.hub_name import (
    PREFIX,
    PREPARATION,
    HubFile,
    HubName,
    Wanted,
    commit_of,
    found_here,
    hub_cache,
    is_commit,
    snapshot_of,
)

#: Files that may state a network's licence, in order of preference.
CARDS: Final = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
# Most bytes of a text fetched beside a network, and of a network.
_LARGEST_TEXT: Final = 1 << 20
_LARGEST: Final = (2 << 30) - 1
_BASE: Final = re.compile(r"^base_model:[ \t]*(?:\n-[ \t]*)?[\"']?([^\s\"']+)", re.MULTILINE)


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
        if here is None:
            fetches = f"opsin backbones {name}"
            if wanted is Wanted.CLASSIFIER:
                fetches = f"opsin predict {PREFIX}{name} IMAGE"
            raise ModelFileError(
                f"{name} is not on this machine, and nothing may be fetched",
                f"Fetch it where there is a network: {fetches}",
            )
        return here
    try:
        hub = connect("fetching from the hub")
        with quiet(hub), hub_errors(hub, name):
            return _fetched(hub, name, wanted, watcher)
    except (DownloadError, MissingExtraError) as error:
        if here is None:
            raise
        watcher.note(f"{error.message}: {here.where}, which is here, is used")
        return here


def base_of(card: Path) -> HubName | None:
    """The base model that a model card states."""
    with contextlib.suppress(OSError):
        match = _BASE.search(card.read_text(encoding="utf-8", errors="replace")[:_LARGEST_TEXT])
        return HubName.read(match[1]) if match else None
    return None


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
        _fetch_texts(hub, where, files, (*PREPARATION, *CARDS))
        base = base_of(snapshot_of(where) / "README.md")
        if base is not None and commit_of(base) is None:
            # Often only the base model states the licence.
            with contextlib.suppress(Exception):
                _fetch_texts(hub, base, listed(hub, base)[1], CARDS)
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
        name.repository, revision=name.revision, repo_type=name.kind, timeout=hub.seconds,
        files_metadata=True,
    )  # fmt: skip
    if not is_commit(info.sha or ""):
        raise ValueError("it names no commit")
    files = {file.rfilename: file for file in info.siblings or ()}
    inside = {file: about for file, about in files.items()
              if ".." not in file and re.match(r"[A-Za-z0-9_]", file)}  # fmt: skip
    return replace(name, revision=info.sha), inside


def _fetch_texts(
    hub: HubConnection, name: HubName, files: Mapping[str, Any], wanted: tuple[str, ...]
) -> None:
    for file in wanted:
        if file in files and (files[file].size or 0) <= _LARGEST_TEXT:
            download(hub, name, file, SILENT)


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
        name.repository, file, revision=name.revision, repo_type=name.kind, cache_dir=hub_cache(),
        endpoint=hub.endpoint, library_name="opsin", etag_timeout=hub.seconds,
        tqdm_class=Progress,
    )  # fmt: skip
    return path
