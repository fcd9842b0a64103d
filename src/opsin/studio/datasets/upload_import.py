"""What was uploaded becomes a source."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from opsin.core.errors import SourceError
from opsin.core.file_names import RESERVED, is_device
from opsin.core.platform import NOT_IN_NAMES, sync_all
from opsin.core.storage import publish_directory, scratch_directory, storage_errors
from opsin.data.formats import NAMED
from opsin.data.image_tree import is_image_name, is_visible
from opsin.data.sources import archive
from opsin.data.spelling import nfc
from opsin.data.split import part_named
from opsin.studio.datasets.dataset_search import check_archive

_MOST_BYTES: Final = 255
# Bytes of a name that others are made of, with a suffix.
_NAME_MOST: Final = 200
# Digits of an image's content that tell it from others of its name.
_DIGITS: Final = 16
# Files that an error names.
_NAMED: Final = 3
_DEEPEST: Final = 32


class SentFile(TypedDict):
    """What the browser says about a file that it sends."""

    key: str
    name: str
    path: str
    size: int


def arrange(
    files: Mapping[Path, str], into: Path, *, loose: str = "", labelled: bool = True
) -> Path:
    """Lay files out as a source: all of them, or none."""
    packed = {path: suffix for path, name in files.items() if (suffix := _packed(name))}
    if packed and len(files) == 1:
        ((path, suffix),) = packed.items()
        return _keep_archive(path, files[path], into, suffix, check=labelled)
    if len(packed) > 1:
        raise SourceError(
            "images, or one archive of them",
            f"{len(packed):,} archives were sent",
            "Send them one by one.",
        )
    places = _places(files, loose) if labelled else _as_they_came(files)
    if not places:
        raise SourceError(
            "images, or one archive of them",
            _none_of_these(files.values()) if files else "nothing was sent",
            f"Send {NAMED}; archives end in .zip or .tar.",
        )
    if packed:
        raise SourceError(
            "images, or one archive of them", "both were sent", "Send the archive by itself."
        )
    if into.is_dir():
        with storage_errors(into), _all_or_none() as moved:
            _move(places, into, moved)
    else:
        with scratch_directory(into.parent) as scratch, _all_or_none() as moved:
            _move(places, scratch, moved)
            sync_all()  # once for all, for there may be many
            publish_directory(scratch, into)
    return into


def usable(name: str) -> bool:
    """Tell by its name whether a file can be an image of a source, or a source by itself."""
    return bool(_packed(name)) or is_image_name(name)


def common_name(files: Sequence[SentFile]) -> str:
    """Return what an upload is called by itself: its archive, or the folder around it."""
    around = {file["path"].partition("/")[0] for file in files if "/" in file["path"]}
    if len(around) == 1:
        return around.pop()
    name = files[0]["name"]
    return name[: -len(_packed(name))] if len(files) == 1 and _packed(name) else ""


def file_name(title: str) -> str:
    """Return a name for a folder or file that is legal everywhere and close to the given one."""
    clean = "".join("-" if each in RESERVED else each for each in title if each.isprintable())
    clean = nfc(clean.encode("utf-8", "ignore").decode()).strip().lstrip(".").strip()
    while len(clean.encode()) > _NAME_MOST:
        clean = clean[:-1]
    clean = clean.rstrip(" .")
    return clean if clean and is_visible(clean) and not is_device(clean) else "Upload"


def class_name(text: str) -> str:
    """Return a class's name, fit to be a folder's."""
    name = nfc(text.strip())  # one folder for a class, whichever system its name comes from
    try:
        long = len(os.fsencode(name)) > _MOST_BYTES
    except UnicodeEncodeError:
        long = True
    if (
        name
        and is_visible(name)
        and name.isprintable()
        and not (long or set(name) & set(NOT_IN_NAMES))
    ):
        return name
    raise SourceError(
        f"a class name of 1 to {_MOST_BYTES} bytes that a folder can have",
        f"got {name!r:.80}" if name else "it is empty",
        f"Use printable characters but {' '.join(NOT_IN_NAMES)}, and no dot at the beginning.",
    )


def _packed(name: str) -> str:
    known = sorted((*archive.SUFFIXES, ".npz", ".parquet"), key=len, reverse=True)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _keep_archive(path: Path, name: str, into: Path, suffix: str, *, check: bool) -> Path:
    if into.exists():
        raise SourceError(
            "images to add to the others",
            f"{name!r:.80} is an archive, which is a set by itself",
            "Let it become a new set, or unpack it and send the images.",
        )
    target = into.with_name(f"{into.name}{suffix}")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    try:
        if check and (archive.is_archive(target) or suffix == ".parquet"):
            _check_archive(target, name.rpartition("/")[2])
    except BaseException as error:
        if isinstance(error, SourceError):
            target.unlink()
        else:
            target.rename(path)
        with contextlib.suppress(OSError):  # others may use it
            target.parent.rmdir()
        raise
    return target


def _check_archive(path: Path, name: str) -> None:
    """Unpack an archive into the cache, where `opsin data` finds it."""
    try:
        check_archive(path)
    except SourceError as error:
        # People know their archive, and not where it lies.
        texts = (error.expected, error.received, error.advice)
        raise SourceError(*(text.replace(str(path), name) for text in texts)) from None


def _places(files: Mapping[Path, str], loose: str) -> dict[Path, tuple[str, ...]]:
    """Return where each image belongs: the class's folder, folders within it, its name."""
    parts = {path: _parts(name) for path, name in files.items()}
    kept = {path: names for path, names in parts.items() if _is_image(names)}
    sorted_ones = [names for names in kept.values() if len(names) > 1]
    wrapped = 0
    while sorted_ones and _is_wrapped(sorted_ones, wrapped):
        wrapped += 1
    without = sum(len(names) == 1 for names in kept.values())
    if without and not loose.strip():
        raise SourceError(
            "each image in a folder, which is its class",
            f"{without:,} of {len(kept):,} came without",
            "Name the class of these, or send a folder with a sub-folder for each class.",
        )
    label = class_name(loose) if without else ""
    return {
        path: (label, *map(_short, names))
        if len(names) == 1
        else (class_name(names[wrapped]), *map(_short, names[wrapped + 1 :]))
        for path, names in kept.items()
    }


def _as_they_came(files: Mapping[Path, str]) -> dict[Path, tuple[str, ...]]:
    parts = {path: _parts(name) for path, name in files.items()}
    return {path: (*map(_short, names),) for path, names in parts.items() if _is_image(names)}


def _none_of_these(names: Iterable[str]) -> str:
    """Say of files that are neither images nor archives what they are called."""
    called = [name.rpartition("/")[2] for name in names]
    more = f" and {len(called) - _NAMED:,} more" if len(called) > _NAMED else ""
    return f"{', '.join(f'{name!r:.80}' for name in called[:_NAMED])}{more}: that is none of these"


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > _DEEPEST or not parts:
        raise SourceError(
            "names of files within the folder that was sent",
            f"got {name!r:.120}",
            "Send the folder itself.",
        )
    return parts


def _is_image(parts: tuple[str, ...]) -> bool:
    return all(map(is_visible, parts)) and is_image_name(parts[-1])


def _is_wrapped(names: list[tuple[str, ...]], depth: int) -> bool:
    """Tell whether all lie in one more folder that is no class and no part of a split."""
    around = {each[depth] for each in names if len(each) > depth + 2}
    only = around.pop() if len(around) == 1 else ""
    return (
        bool(only)
        and part_named(only) is None
        and all(len(each) > depth + 2 and each[depth] == only for each in names)
    )


def _move(places: dict[Path, tuple[str, ...]], root: Path, moved: list[tuple[Path, Path]]) -> None:
    made: set[Path] = set()
    for path, (*within, name) in places.items():
        # Folders inside a class say nothing here, but keep equal names apart.
        folder = root.joinpath(*within)
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        target = _free(folder / name, path)
        if target is not None:
            try:
                path.rename(target)
            except BaseException:
                target.unlink()
                raise
            moved.append((path, target))


def _free(target: Path, path: Path) -> Path | None:
    """Take a name that is free, or return ``None`` where the same image is there already."""
    if _taken(target):
        return target
    if filecmp.cmp(path, target, shallow=False):
        return None
    # By the content: of ten thousand images with one name, none looks for the others' numbers.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    named = target.with_name(f"{target.stem}-{digest}{target.suffix}")
    return named if _taken(named) else None


def _taken(name: Path) -> bool:
    """Take a name, so that no other window gets it; ``False``: one has it."""
    with contextlib.suppress(FileExistsError):
        name.touch(exist_ok=False)
        return True
    return False


def _short(name: str) -> str:
    """Return a name that file systems take: its end, where the suffix stands, is kept."""
    clean = "".join(each if each.isprintable() else "_" for each in name)
    while len(clean.encode("utf-8", "replace")) > _MOST_BYTES - _DIGITS - 1:
        clean = clean[1:] if len(clean) < _MOST_BYTES else clean[-_MOST_BYTES:]
    return clean


@contextlib.contextmanager
def _all_or_none() -> Iterator[list[tuple[Path, Path]]]:
    """Yield a list of what is moved where; after an error everything is moved back."""
    moved: list[tuple[Path, Path]] = []
    try:
        yield moved
    except BaseException:
        for path, target in reversed(moved):
            with contextlib.suppress(OSError):
                target.rename(path)
        raise
