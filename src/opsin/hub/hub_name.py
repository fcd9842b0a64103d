"""Names on the hub (``owner/name[@revision]``), and their files in its cache.

The cache is read without the hub's library. Its layout:
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from opsin.core.errors import RecipeError

_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_NAME: Final = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")
#: Prefix of such a name where a path is possible, too.
PREFIX: Final = "hf:"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository on the hub at a revision: a branch, a tag or a commit."""

    repository: str
    revision: str = "main"
    kind: Literal["model", "dataset"] = "model"

    @classmethod
    def read(cls, text: str) -> HubName | None:
        """Parse a name; ``None`` if it is not one."""
        text = text.removeprefix(PREFIX)
        match = _NAME.fullmatch(text)
        if match is None or text.endswith(".onnx") or ".." in text or "--" in match[1]:
            return None
        return cls(match[1], match[2] or "main")

    @classmethod
    def prefixed(cls, text: str) -> HubName | None:
        """Parse ``hf:owner/name[@revision]``; ``None`` without the prefix."""
        if not text.startswith(PREFIX):
            return None
        # Windows may have turned the slashes.
        name = cls.read(text.replace("\\", "/"))
        if name is None:
            raise RecipeError(
                f"{text!r} is no name on the hub, such as {PREFIX}owner/name or "
                f"{PREFIX}owner/name@revision",
                "Copy it from the repository's page.",
            )
        return name

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None


#: Files that state a network's preprocessing.
PREPARATION: Final = ("preprocessor_config.json", "config.json")
#: A classifier's file name in repositories that Opsin writes.
CLASSIFIER: Final = "classifier.onnx"


class Wanted(StrEnum):
    """The kind of file wanted from a repository."""

    NETWORK = "network"
    CLASSIFIER = "classifier"

    def choose(self, names: Iterable[str]) -> str | None:
        """The matching file of a repository; ``None`` if ambiguous."""
        networks = [name for name in names if name.endswith(".onnx")]
        if self is Wanted.NETWORK:
            networks = [name for name in networks if "/model_" not in f"/{name}"]
        usual = next((name for name in self.usual if name in networks), None)
        return usual or (networks[0] if len(networks) == 1 else None)

    @property
    def usual(self) -> tuple[str, ...]:
        """Usual file names, the preferred one first."""
        return ("onnx/model.onnx", "model.onnx") if self is Wanted.NETWORK else (CLASSIFIER,)


@dataclass(frozen=True)
class HubFile:
    """A local file of the hub, and its commit."""

    path: Path
    where: HubName


def hub_cache() -> Path:
    """The hub's shared cache folder, by its environment variables."""
    known = os.environ.get
    home = known("HF_HOME") or f"{known('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = known("HF_HUB_CACHE") or known("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(folder)).expanduser()


def snapshot_of(name: HubName) -> Path:
    """The folder of a commit's files."""
    return _folder_of(name) / "snapshots" / name.revision


def _folder_of(name: HubName) -> Path:
    return hub_cache() / f"{name.kind}s--{name.repository.replace('/', '--')}"


def commit_of(name: HubName) -> HubName | None:
    """A name with its revision's last known commit, if any."""
    if name.is_pinned:
        return name
    try:
        commit = (_folder_of(name) / "refs" / name.revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    pinned = replace(name, revision=commit)
    return pinned if pinned.is_pinned else None


def found_here(name: HubName, wanted: Wanted = Wanted.NETWORK) -> HubFile | None:
    """A repository's file on this machine, if any."""
    where = commit_of(name)
    if where is None:
        return None
    folder = snapshot_of(where)
    chosen = wanted.choose(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    if chosen is None or not (folder / chosen).is_file():
        return None
    return HubFile(folder / chosen, where)
