"""Files uploaded to the hub in one commit.

Large files go first, by digest, and the commit names them all at the end: an interrupted
upload changes nothing, and what had arrived is not sent again.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from opsin.core.errors import UploadError
from opsin.core.events import SILENT, Watcher
from opsin.hub.hub_fetch import HubConnection, asking, connect, is_offline
from opsin.hub.hub_name import CLASSIFIER, HubName

# Files that the hub puts into a new repository.
_OF_THE_HUB: Final = frozenset({".gitattributes", "README.md"})


@dataclass(frozen=True)
class Uploaded:
    """The repository's page, its newest commit, and its visibility."""

    address: str
    commit: str
    private: bool


def upload(
    repository: str, files: Mapping[str, bytes], *, public: bool, watcher: Watcher = SILENT
) -> Uploaded:
    """Upload files, creating the repository if needed."""
    hub = connect("uploading to the hub", patience=3)  # answers take longer
    if is_offline():
        raise UploadError("HF_HUB_OFFLINE forbids to ask the hub", "Unset it, and run it again.")
    if hub.library.get_token() is None:
        raise UploadError(
            "There is no token of the hub on this machine",
            "Make one that may write on the hub's page of settings, and sign in: hf auth login",
        )
    session = hub.library.utils.get_session()
    before, session.timeout = session.timeout, hub.seconds  # most requests have no timeout
    try:
        with asking(hub, HubName(repository), sending=True):
            private = _ready(hub, repository, public=public, watcher=watcher)
            commit = _commit(hub, repository, files, watcher)
    finally:
        session.timeout = before
    return Uploaded(f"{hub.endpoint}/{repository}", commit, private)


def _ready(hub: HubConnection, repository: str, *, public: bool, watcher: Watcher) -> bool:
    """Create the repository if needed, and return whether it is private."""
    try:
        info = hub.api.model_info(repository)
    except hub.library.errors.RepositoryNotFoundError:
        hub.api.create_repo(repository, private=not public, exist_ok=True)
        return not public
    names = {file.rfilename for file in info.siblings or ()}
    if CLASSIFIER not in names and names - _OF_THE_HUB:
        raise UploadError(
            f"{repository} holds no {CLASSIFIER}, but {', '.join(sorted(names)[:4])}",
            "Choose another name; nothing was changed.",
        )
    private = bool(info.private)
    if public and private:
        watcher.note(f"{repository} is private, and stays so: its settings on the hub change that")
    elif not public and not private:
        watcher.note(f"{repository} is public: everybody sees what is sent")
    return private


def _commit(
    hub: HubConnection, repository: str, files: Mapping[str, bytes], watcher: Watcher
) -> str:
    """Upload the files in one commit, or none if all are there already."""
    sent = {name: _Counted(content) for name, content in files.items()}
    operations = [hub.library.CommitOperationAdd(name, file) for name, file in sent.items()]
    if CLASSIFIER in sent:  # until now it was read for its digest
        sent[CLASSIFIER].advance = watcher.advance
    watcher.begin(f"Sending {repository}", len(files.get(CLASSIFIER, b"")), "B")
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            done = hub.api.create_commit(
                repository, operations, commit_message="Classifier by Opsin"
            )
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                watcher.note(" ".join(str(warning.message).split()))
    finally:
        watcher.end()
    return str(done.oid)


class _Counted(io.BytesIO):
    """A file's content that reports how far it was read."""

    advance: Callable[[int], None] = staticmethod(lambda _: None)

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.advance(self.tell())
        return part
