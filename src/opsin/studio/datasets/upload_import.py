"""Uploads arranged as sources."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from opsin.core.errors import SourceError
from opsin.core.files import legal_name
from opsin.core.platform import NOT_IN_NAMES, sync_all
from opsin.core.storage import storage_errors
from opsin.data.formats import NAMED
from opsin.data.image_tree import ImageTree, is_image_name, is_visible
from opsin.data.sources import archive
from opsin.data.spelling import nfc
from opsin.data.split import TRAIN, part_named
from opsin.studio.datasets.dataset_search import check_archive

#: The folder, beside that of a source, of images that have no class yet.
TRAY: Final = ".not-sorted"
_MOST_BYTES: Final = 255
_DEEPEST: Final = 32

_Names = tuple[str, ...]


class SentFile(TypedDict):
    """The browser's description of an uploaded file."""

    key: str
    name: str
    path: str
    size: int


def arrange(
    files: Mapping[Path, str], into: Path, loose: str = "", moved: list[Path] | None = None
) -> Path:
    """Arrange files, by their names with folders, as a source: all of them, or none.

    Folders, also those of archives, become classes. Images without a folder go to the class
    ``loose``, or to the tray; ``moved`` receives the new paths of all. A new archive of anything
    but class folders is kept as it is.
    """
    packed = {path: name for path, name in files.items() if _packed(name)}
    alone = len(packed) == len(files) == 1 and not into.exists()
    images = {
        path: names for path, name in files.items()
        if path not in packed and all(map(is_visible, names := _parts(name)))
        and is_image_name(names[-1])
    }  # fmt: skip
    if not images and not packed:
        shown = ", ".join(f"{name.rpartition('/')[2]!r:.80}" for name in [*files.values()][:3])
        reason = f"No images or archive: {shown} …" if files else "Nothing was sent"
        raise SourceError(reason, f"Send {NAMED}; archives end in .zip or .tar.")
    places, opened = _with_classes(images, loose), list[Path]()
    try:
        for path, name in packed.items():
            kept = into.with_name((into.name if alone else f".{path.name}") + _packed(name))
            inner = _unpacked(path, name, kept)
            if inner is None and alone:
                return kept
            opened.append(kept)
            if inner is None:
                raise SourceError(
                    f"{name!r:.80} is a table, or has parts for training and test",
                    "Make it a project of its own: drop it on the first page.",
                )
            places |= _with_classes(inner, loose)
        _place(places, into, moved)
    finally:
        for kept in opened:
            shutil.rmtree(archive.unpacked_folder(kept), ignore_errors=True)
            kept.unlink(missing_ok=True)
    return into


def _unpacked(path: Path, name: str, kept: Path) -> dict[Path, _Names] | None:
    """Move an archive, and return its images; ``None`` where it is no archive of class folders."""
    with storage_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
    try:
        if archive.is_archive(kept) or kept.suffix == ".parquet":
            check_archive(kept)
        if not archive.is_archive(kept):
            return None
        root = archive.unpack(kept)
    except BaseException as error:
        if isinstance(error, SourceError):
            kept.unlink()
            # Users know the archive's name, not its path here.
            error.replace(str(kept), name.rpartition("/")[2])
        else:
            kept.rename(path)
        with contextlib.suppress(OSError):  # it may be in use
            kept.parent.rmdir()
        raise
    if any(
        e.is_file() and is_visible(e.name) and not is_image_name(e.name) for e in root.iterdir()
    ):
        return None
    images = {root / name: tuple(name.split("/")) for name in ImageTree(root).images()}
    tops = {names[0] for names in images.values() if len(names) > 2}
    return None if any(part_named(name) == TRAIN for name in tops) else images


def _with_classes(files: dict[Path, _Names], loose: str) -> dict[Path, _Names]:
    """Each image's place below the folder of the source; that of the tray begins with ``..``."""
    tray = (class_name(loose),) if loose.strip() else ("..", TRAY)
    # Folders around all that are neither a class nor a part are taken off.
    inside, wrapped = [names for names in files.values() if len(names) > 1], 0
    while (
        inside and part_named(around := inside[0][wrapped]) is None
        and all(len(names) > wrapped + 2 and names[wrapped] == around for names in inside)
    ):  # fmt: skip
        wrapped += 1
    return {
        path: (*tray, legal_name(names[0])) if len(names) == 1
        else (class_name(names[wrapped]), *map(legal_name, names[wrapped + 1 :]))
        for path, names in files.items()
    }  # fmt: skip


def _place(places: dict[Path, _Names], into: Path, moved: list[Path] | None) -> None:
    """Move images into a source that may be new: all or none."""
    fresh, done = not into.is_dir(), dict[Path, Path]()
    with storage_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        try:
            for path, (*within, name) in places.items():
                folder = into.joinpath(*within)
                if not folder.resolve().is_relative_to(into.parent.resolve()):  # through a link
                    raise SourceError(
                        f"The class {within[0]!r:.80} is a link to another folder",
                        "Choose another class, or put a folder in its place.",
                    )
                folder.mkdir(parents=True, exist_ok=True)
                # Subfolders of a class only keep equal names apart.
                target = folder / name
                if target.exists() and not filecmp.cmp(path, target, shallow=False):
                    # By content, so that many equal names take linear time.
                    with path.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                    target = target.with_name(f"{target.stem}-{digest}{target.suffix}")
                if not target.exists():
                    done[path] = target
                    shutil.move(path, target)  # to another disk as well
            sync_all()  # once for all files
        except BaseException:
            for path, target in reversed(done.items()):
                with contextlib.suppress(OSError):
                    if path.exists():  # its move failed
                        target.unlink(missing_ok=True)
                    else:
                        shutil.move(target, path)
            if fresh:
                shutil.rmtree(into, ignore_errors=True)
                with contextlib.suppress(OSError):
                    into.parent.rmdir()
            raise
    if moved is not None:
        moved += [Path(os.path.normpath(target)) for target in done.values()]


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


def _parts(name: str) -> _Names:
    parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > _DEEPEST or not parts:
        raise SourceError(
            f"{name!r:.120} leads out of the folder that was sent", "Send the folder itself."
        )
    return parts
