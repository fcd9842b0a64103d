"""What the hub's own cache has on this machine, found without its library.

    <cache>/models--<owner>--<name>/refs/<revision>          the commit that it was at
                                    snapshots/<commit>/…     files by their names
                                    blobs/<digest>           their content
    <cache>/.locks/models--<owner>--<name>/<digest>.lock     held while one is fetched

Other programs share it: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from opsin.core.storage import atomic_file, storage_errors, write_bytes
from opsin.hub.hub_name import PREFIX, HubName, is_commit

#: Files that say what a network takes for pixels.
PREPARATION: Final = ("preprocessor_config.json", "config.json")
# The usual names of a network with weights of 32 bits, the preferred first.
_USUAL: Final = ("onnx/model.onnx", "model.onnx")
#: What a classifier is called in every repository that Opsin writes.
CLASSIFIER: Final = "classifier.onnx"


class Wanted(StrEnum):
    """Which file of a repository is meant."""

    NETWORK = "network"
    CLASSIFIER = "classifier"

    def choose(self, names: Iterable[str]) -> str | None:
        """Return the name of the file among a repository's; ``None`` where it is not clear."""
        return choose(names) if self is Wanted.NETWORK else choose_classifier(names)

    @property
    def usual(self) -> str:
        """How it is usually called."""
        return " or ".join(_USUAL) if self is Wanted.NETWORK else CLASSIFIER

    @property
    def otherwise(self) -> str:
        """What to do where it is not clear."""
        if self is Wanted.NETWORK:
            return "Fetch the file that you mean and give its path, or name another repository."
        return (
            "Name a repository that opsin export wrote. A file of another program becomes a "
            "classifier by: opsin import FILE"
        )

    def how_to_fetch(self, name: HubName) -> str:
        """Return the command that fetches it."""
        if self is Wanted.NETWORK:
            return f"opsin backbones {name}"
        return f"opsin predict {PREFIX}{name} IMAGE"


@dataclass(frozen=True)
class HubFile:
    """A file of the hub that is on this machine.

    Args:
        path: Where it is.
        where: Repository and commit.
    """

    path: Path
    where: HubName

    @property
    def folder(self) -> Path:
        """Where the repository's files are."""
        return snapshot_of(self.where)

    def is_surely(self, wanted: Wanted) -> bool:
        """Tell whether nothing of it is missing, though not all of the repository may be here.

        Of a network, a file beside it says what it takes for pixels.
        """
        if wanted is Wanted.CLASSIFIER:
            return self.path.name == CLASSIFIER
        return any((self.folder / name).is_file() for name in PREPARATION)


def hub_cache() -> Path:
    """Return the folder that the hub's programs share, as its variables say."""
    environment = os.environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(os.path.expandvars(environment[name])).expanduser()
    home = environment.get("HF_HOME")
    if not home:
        usual = environment.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.path.join(usual, "huggingface")  # noqa: PTH118  variables come first
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def folder_of(name: HubName) -> Path:
    """Return where a repository is kept."""
    return hub_cache() / f"models--{name.repository.replace('/', '--')}"


def lock_of(name: HubName, digest: str) -> Path:
    """Return the lock of a content that is being fetched."""
    return hub_cache() / ".locks" / folder_of(name).name / f"{digest}.lock"


def snapshot_of(name: HubName) -> Path:
    """Return where the files of a commit are."""
    return folder_of(name) / "snapshots" / name.revision


def commit_of(name: HubName) -> HubName | None:
    """Return a name with the commit that its revision was at; ``None`` where none is known."""
    if name.is_pinned:
        return name
    try:
        commit = (folder_of(name) / "refs" / name.revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return HubName(name.repository, commit) if is_commit(commit) else None


def keep_commit(name: HubName, commit: str) -> None:
    """Note which commit a revision is at."""
    if not name.is_pinned:
        write_bytes(folder_of(name) / "refs" / name.revision, commit.encode())


def link_content(where: HubName, file: str, blob: Path) -> None:
    """Give a content the name that it has in a commit."""
    pointer = snapshot_of(where) / file
    if pointer.exists():
        return
    with storage_errors(pointer):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)  # its content may be gone
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:  # Windows lets few make links; the library, too, copies there
            with atomic_file(pointer) as scratch:
                shutil.copyfile(blob, scratch)


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


def choose(names: Iterable[str]) -> str | None:
    """Return which file of a repository is the network.

    ``onnx/model.onnx``, else ``model.onnx``, else the only ``.onnx`` there is. Variants of fewer
    bits (``model_int8.onnx``) are never meant: what was fetched of a repository may be one of them.

    Example:
        >>> choose(["onnx/model_fp16.onnx", "onnx/model.onnx", "README.md"])
        'onnx/model.onnx'
        >>> choose(["a.onnx", "b.onnx"]) is None
        True
    """
    networks = [
        name
        for name in names
        if name.endswith(".onnx") and not name.rpartition("/")[2].startswith("model_")
    ]
    for usual in _USUAL:
        if usual in networks:
            return usual
    return networks[0] if len(networks) == 1 else None


def choose_classifier(names: Iterable[str]) -> str | None:
    """Return which file of a repository is the classifier.

    ``classifier.onnx``, else the only ``.onnx`` there is.

    Example:
        >>> choose_classifier(["classifier.onnx", "classifier-int8.onnx", "README.md"])
        'classifier.onnx'
        >>> choose_classifier(["boots.onnx"]), choose_classifier(["a.onnx", "b.onnx"])
        ('boots.onnx', None)
    """
    networks = [name for name in names if name.endswith(".onnx")]
    if CLASSIFIER in networks:
        return CLASSIFIER
    return networks[0] if len(networks) == 1 else None
