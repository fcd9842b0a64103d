"""Files sent to the hub: a repository, in one commit.

Large files go first, each under its digest, and the commit names them all at the end: an upload
that broke off changed nothing, and what had arrived is not sent again.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from opsin.core.errors import UploadError
from opsin.core.events import SILENT, Watcher
from opsin.hub.hub_connection import HubConnection, connect, hub_errors, is_offline, quiet
from opsin.hub.hub_name import CLASSIFIER, HubName

# What the hub puts into a new repository.
_OF_THE_HUB: Final = frozenset({".gitattributes", "README.md"})


@dataclass(frozen=True)
class Uploaded:
    """What the hub has now: the page of the repository, its newest commit, who sees it."""

    address: str
    commit: str
    private: bool


def upload(
    repository: str, files: Mapping[str, bytes], *, public: bool, watcher: Watcher = SILENT
) -> Uploaded:
    """Send files, after making the repository where there is none."""
    hub = connect("uploading to the hub", patience=3)  # it does more before it answers
    if is_offline():
        raise UploadError("HF_HUB_OFFLINE forbids to ask the hub", "Unset it, and run it again.")
    if hub.library.get_token() is None:
        raise UploadError(
            "There is no token of the hub on this machine",
            "Make one that may write on the hub's page of settings, and sign in: hf auth login",
        )
    session = hub.library.utils.get_session()
    before, session.timeout = session.timeout, hub.seconds  # most requests wait for ever
    try:
        with quiet(hub), hub_errors(hub, HubName(repository), sending=True):
            private = _ready(hub, repository, public=public, watcher=watcher)
            commit = _commit(hub, repository, files, watcher)
    finally:
        session.timeout = before
    return Uploaded(f"{hub.endpoint}/{repository}", commit, private)


def _ready(hub: HubConnection, repository: str, *, public: bool, watcher: Watcher) -> bool:
    """Make the repository where there is none, and tell whether it is private."""
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
    """Send the files and name them in one commit; where all are there already, none is made."""
    sent = {name: _Counted(content) for name, content in files.items()}
    operations = [hub.library.CommitOperationAdd(name, file) for name, file in sent.items()]
    if CLASSIFIER in sent:  # it was read for its digest until now
        sent[CLASSIFIER].advance = watcher.advance
    watcher.begin(f"Sending {repository}", len(files.get(CLASSIFIER, b"")), "B")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
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
    """A file's content that says how far it was read."""

    advance: Callable[[int], None] = staticmethod(lambda _: None)

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.advance(self.tell())
        return part
