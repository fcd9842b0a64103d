"""Uploads arranged as sources."""

from __future__ import annotations

import contextlib
import errno
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
    files: Mapping[Path, str], into: Path, loose: str = "", *, labelled: bool = True,
    moved: list[Path] | None = None,
) -> Path:  # fmt: skip
    """Arrange files, by their names with folders, as a source: all of them, or none.

    Folders, also those of archives, become classes. Images without a folder go to the class
    ``loose``, or to the tray; ``moved`` receives the new paths of all. A new archive of anything
    but class folders is kept as it is.
    """
    packed = {path: name for path, name in files.items() if _packed(name)}
    if len(packed) == len(files) == 1 and not (labelled and into.exists()):
        [(path, name)] = packed.items()
        source = _keep_archive(path, name, into, check=labelled)
        if not labelled or (inner := _images_in(source)) is None:
            return source
        try:
            _place(_with_classes(inner, loose), into, moved)
        finally:
            _forget_archive(source)
        return into
    if packed and not labelled:
        raise SourceError("Archives and other files were sent", "Send archives one by one.")
    parts = {path: _parts(name) for path, name in files.items()}
    kept = {path: names for path, names in parts.items() if _is_image(names)}
    if not kept and not packed:
        names = [f"{name.rpartition('/')[2]!r:.80}" for name in files.values()][:_NAMED]
        more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
        reason = f"No images or archive: {', '.join(names)}{more}" if names else "Nothing was sent"
        raise SourceError(reason, f"Send {NAMED}; archives end in .zip or .tar.")
    if not labelled:
        _place({path: tuple(map(legal_name, names)) for path, names in kept.items()}, into, moved)
        return into
    places, opened = _with_classes(kept, loose), list[Path]()
    try:
        for path, name in packed.items():
            opened.append(_keep_archive(path, name, into.with_name(f".{path.name}"), check=True))
            inner = _images_in(opened[-1])
            if inner is None:
                raise SourceError(
                    f"{name!r:.80} is a table, or has parts for training and test",
                    "Make it a project of its own: drop it on the first page.",
                )
            places |= _with_classes(inner, loose)
        _place(places, into, moved)
    finally:
        for source in opened:
            _forget_archive(source)
    return into


def _images_in(source: Path) -> dict[Path, _Names] | None:
    """The images of an unpacked archive of class folders; ``None`` for another kind of source."""
    if not archive.is_archive(source):
        return None
    root = archive.unpack(source)
    if any(
        e.is_file() and is_visible(e.name) and not is_image_name(e.name) for e in root.iterdir()
    ):
        return None
    images = {root / name: tuple(name.split("/")) for name in ImageTree(root).images()}
    tops = {names[0] for names in images.values() if len(names) > 2}
    return None if any(part_named(name) == TRAIN for name in tops) else images


def _forget_archive(source: Path) -> None:
    """Remove an archive whose images lie elsewhere now."""
    shutil.rmtree(archive.unpacked_folder(source), ignore_errors=True)
    source.unlink(missing_ok=True)


def _with_classes(files: dict[Path, _Names], loose: str) -> dict[Path, _Names]:
    """Each image's place below the folder of the source; that of the tray begins with ``..``."""
    without = {path: names for path, names in files.items() if len(names) == 1}
    tray = (class_name(loose),) if loose.strip() else ("..", TRAY)
    places = {path: (*tray, legal_name(names[0])) for path, names in without.items()}
    return places | _in_classes({p: names for p, names in files.items() if p not in without})


def _place(places: dict[Path, _Names], into: Path, moved: list[Path] | None) -> None:
    """Move images into a source that may be new: all or none."""
    with storage_errors(into):
        fresh = not into.is_dir()
        into.mkdir(parents=True, exist_ok=True)
        pairs = list[tuple[Path, Path]]()
        try:
            pairs = _move(places, into)
            sync_all()  # once for all files
        except BaseException:
            _move_back(pairs)
            if fresh:
                shutil.rmtree(into, ignore_errors=True)
                with contextlib.suppress(OSError):
                    into.parent.rmdir()
            raise
    if moved is not None:
        moved += [Path(os.path.normpath(target)) for _, target in pairs]


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


def _in_classes(files: dict[Path, _Names]) -> dict[Path, _Names]:
    """Each image's target: class folder, subfolders, name."""
    in_folders, wrapped = list(files.values()), 0
    while in_folders and _is_wrapped(in_folders, wrapped):
        wrapped += 1
    return {
        path: (class_name(names[wrapped]), *map(legal_name, names[wrapped + 1 :]))
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
            if not folder.resolve().is_relative_to(root.parent.resolve()):  # through a link
                raise SourceError(
                    f"The class {within[0]!r:.80} is a link to another folder",
                    "Choose another class, or put a folder in its place.",
                )
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
            _rename(path, target)
    except BaseException:
        _move_back(moved)
        raise
    return moved


def _rename(path: Path, target: Path) -> None:
    """Move a file, to another disk as well, over one that reserves its name."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(path, target)
        path.unlink()


def _move_back(moved: list[tuple[Path, Path]]) -> None:
    for path, target in reversed(moved):
        with contextlib.suppress(OSError):
            if path.exists():  # its move failed: only the name was reserved
                target.unlink()
            else:
                _rename(target, path)


def _reserve(name: Path) -> bool:
    """Reserve a name against other windows; ``False`` if it is taken."""
    with contextlib.suppress(FileExistsError):
        name.touch(exist_ok=False)
        return True
    return False
