"""What the hub's own cache has on this machine, found without its library.

Its layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from opsin.hub.hub_name import HubName, is_commit

#: Files that say what a network takes for pixels.
PREPARATION: Final = ("preprocessor_config.json", "config.json")
#: What a classifier is called in every repository that Opsin writes.
CLASSIFIER: Final = "classifier.onnx"


class Wanted(StrEnum):
    """Which file of a repository is meant."""

    NETWORK = "network"
    CLASSIFIER = "classifier"

    def choose(self, names: Iterable[str]) -> str | None:
        """Return the name of the file among a repository's; ``None`` where it is not clear."""
        networks = [name for name in names if name.endswith(".onnx")]
        if self is Wanted.NETWORK:
            networks = [name for name in networks if "/model_" not in f"/{name}"]
        found = next((name for name in self.usual if name in networks), None)
        return found or (networks[0] if len(networks) == 1 else None)

    @property
    def usual(self) -> tuple[str, ...]:
        """How it is usually called, the preferred name first."""
        return ("onnx/model.onnx", "model.onnx") if self is Wanted.NETWORK else (CLASSIFIER,)


@dataclass(frozen=True)
class HubFile:
    """A file of the hub that is on this machine, and the commit that it is of."""

    path: Path
    where: HubName


def hub_cache() -> Path:
    """Return the folder that the hub's programs share, as its variables say."""
    environment = os.environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(os.path.expandvars(environment[name])).expanduser()
    usual = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{usual}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def _folder_of(name: HubName) -> Path:
    return hub_cache() / f"models--{name.repository.replace('/', '--')}"


def snapshot_of(name: HubName) -> Path:
    """Return where the files of a commit are."""
    return _folder_of(name) / "snapshots" / name.revision


def commit_of(name: HubName) -> HubName | None:
    """Return a name with the commit that its revision was at; ``None`` where none is known."""
    if name.is_pinned:
        return name
    try:
        commit = (_folder_of(name) / "refs" / name.revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return HubName(name.repository, commit) if is_commit(commit) else None


def found_here(name: HubName, wanted: Wanted = Wanted.NETWORK) -> HubFile | None:
    """Return a file of a repository that is on this machine; ``None`` where it is not."""
    where = commit_of(name)
    if where is None:
        return None
    folder = snapshot_of(where)
    chosen = wanted.choose(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    if chosen is None or not (folder / chosen).is_file():
        return None
    return HubFile(folder / chosen, where)
