"""Uploads arranged as sources."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from opsin.core.errors import SourceError
from opsin.core.files import legal_name
from opsin.core.platform import NOT_IN_NAMES, sync_all
from opsin.core.storage import publish_directory, scratch_directory, storage_errors
from opsin.data.formats import NAMED
from opsin.data.image_tree import is_image_name, is_visible
from opsin.data.sources import archive
from opsin.data.spelling import nfc
from opsin.data.split import part_named
from opsin.studio.datasets.dataset_search import check_archive

_MOST_BYTES: Final = 255
# Most files named in an error.
_NAMED: Final = 3
_DEEPEST: Final = 32

_Names = tuple[str, ...]


class SentFile(TypedDict):
    """The browser's description of an uploaded file."""

    key: str
    name: str
    path: str
    size: int


def arrange(
    files: Mapping[Path, str], into: Path, *, loose: str = "", labelled: bool = True
) -> Path:
    """Arrange files as a source: all of them, or none."""
    archives = [path for path, name in files.items() if _packed(name)]
    if archives and len(files) == 1:
        return _keep_archive(archives[0], files[archives[0]], into, check=labelled)
    if len(archives) > 1:
        raise SourceError(f"{len(archives):,} archives were sent", "Send them one by one.")
    parts = {path: _parts(name) for path, name in files.items()}
    kept = {path: names for path, names in parts.items() if _is_image(names)}
    if labelled:
        kept = _in_classes(kept, loose)
    else:
        kept = {path: tuple(map(legal_name, names)) for path, names in kept.items()}
    if not kept:
        names = [f"{name.rpartition('/')[2]!r:.80}" for name in files.values()][:_NAMED]
        more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
        reason = f"No images or archive: {', '.join(names)}{more}" if names else "Nothing was sent"
        raise SourceError(reason, f"Send {NAMED}; archives end in .zip or .tar.")
    if archives:
        raise SourceError("An archive and other images were sent", "Send it by itself.")
    if into.is_dir():
        with storage_errors(into):
            _move(kept, into)
    else:
        with scratch_directory(into.parent) as scratch:
            moved = _move(kept, scratch)
            try:
                sync_all()  # once for all files
                publish_directory(scratch, into)
            except BaseException:
                _move_back(moved)
                raise
    return into


def usable(name: str) -> bool:
    """Whether a file name is that of an image or of a source."""
    return bool(_packed(name)) or is_image_name(name)


def common_name(files: Sequence[SentFile]) -> str:
    """An upload's default name: its archive, or its common folder."""
    around = {file["path"].partition("/")[0] for file in files if "/" in file["path"]}
    if len(around) == 1:
        return around.pop()
    name = files[0]["name"]
    return name[: -len(_packed(name))] if len(files) == 1 and _packed(name) else ""


def file_name(title: str) -> str:
    """A name for a folder or file that is legal everywhere and close to a title."""
    name = legal_name(title).lstrip(". ")
    return name if name and is_visible(name) else "Upload"


def class_name(text: str) -> str:
    """A class's name, valid for a folder."""
    name = nfc(text.strip())  # one folder for a class, from any system
    with contextlib.suppress(UnicodeEncodeError):
        fits = 0 < len(os.fsencode(name)) <= _MOST_BYTES and not set(name) & set(NOT_IN_NAMES)
        if fits and is_visible(name) and name.isprintable():
            return name
    raise SourceError(
        f"{name!r:.80} cannot be a class's name" if name else "The class's name is empty",
        f"Use up to {_MOST_BYTES} bytes of printable characters but {' '.join(NOT_IN_NAMES)}, and "
        "no dot at the beginning.",
    )


def _packed(name: str) -> str:
    """The suffix of an archive or a table with images."""
    known = sorted((*archive.SUFFIXES, ".npz", ".parquet"), key=len, reverse=True)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _keep_archive(path: Path, name: str, into: Path, *, check: bool) -> Path:
    if into.exists():
        raise SourceError(
            f"{name!r:.80} is an archive, which is a set by itself",
            "Let it become a new set, or unpack it and send the images.",
        )
    suffix = _packed(name)
    target = into.with_name(f"{into.name}{suffix}")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    try:
        if check and (archive.is_archive(target) or suffix == ".parquet"):
            check_archive(target)
    except BaseException as error:
        if isinstance(error, SourceError):
            target.unlink()
            # Users know the archive's name, not its path here.
            error.replace(str(target), name.rpartition("/")[2])
        else:
            target.rename(path)
        with contextlib.suppress(OSError):  # it may be in use
            target.parent.rmdir()
        raise
    return target


def _in_classes(files: dict[Path, _Names], loose: str) -> dict[Path, _Names]:
    """Each image's target: class folder, subfolders, name."""
    in_folders = [names for names in files.values() if len(names) > 1]
    wrapped = 0
    while in_folders and _is_wrapped(in_folders, wrapped):
        wrapped += 1
    without = len(files) - len(in_folders)
    if without and not loose.strip():
        raise SourceError(
            f"{without:,} of {len(files):,} images are in no folder, which would be their class",
            "Name the class of these, or send a folder with a sub-folder for each class.",
        )
    label = class_name(loose) if without else ""
    return {
        path: (label, legal_name(names[0]))
        if len(names) == 1
        else (class_name(names[wrapped]), *map(legal_name, names[wrapped + 1 :]))
        for path, names in files.items()
    }


def _is_wrapped(names: list[_Names], depth: int) -> bool:
    """Whether all are in one extra folder that is neither a class nor a split part."""
    around = {parts[depth] if len(parts) > depth + 2 else "" for parts in names}
    return len(around) == 1 and "" not in around and part_named(around.pop()) is None


def _parts(name: str) -> _Names:
    parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > _DEEPEST or not parts:
        raise SourceError(
            f"{name!r:.120} leads out of the folder that was sent", "Send the folder itself."
        )
    return parts


def _is_image(parts: _Names) -> bool:
    return all(map(is_visible, parts)) and is_image_name(parts[-1])


def _move(places: dict[Path, _Names], root: Path) -> list[tuple[Path, Path]]:
    """Move files into a folder, all or none; return sources and targets."""
    moved: list[tuple[Path, Path]] = []
    try:
        for path, (*within, name) in places.items():
            # Subfolders of a class only keep equal names apart.
            folder = root.joinpath(*within)
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / name
            if not _reserve(target):
                if filecmp.cmp(path, target, shallow=False):
                    continue
                # By content, so that many equal names take linear time.
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                target = target.with_name(f"{target.stem}-{digest}{target.suffix}")
                if not _reserve(target):
                    continue
            moved.append((path, target))
            path.replace(target)
    except BaseException:
        _move_back(moved)
        raise
    return moved


def _move_back(moved: list[tuple[Path, Path]]) -> None:
    for path, target in reversed(moved):
        with contextlib.suppress(OSError):
            if path.exists():  # its move failed: only the name was reserved
                target.unlink()
            else:
                target.rename(path)


def _reserve(name: Path) -> bool:
    """Reserve a name against other windows; ``False`` if it is taken."""
    with contextlib.suppress(FileExistsError):
        name.touch(exist_ok=False)
        return True
    return False
