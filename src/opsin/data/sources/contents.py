"""The contents of a source before decoding: images, labels and parts."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.files import MISSING, file_stamp, free_name
from opsin.core.platform import sync
from opsin.core.storage import write_json
from opsin.core.stored_arrays import read_arrays
from opsin.core.stored_json import JsonObject
from opsin.data.cache import ABOUT, digest_rows
from opsin.data.image_stream import Listed
from opsin.data.image_tree import add_up, natural
from opsin.data.images import PackedImage
from opsin.data.lazy_images import LazyImages, subset
from opsin.data.spelling import nfc, places_among
from opsin.data.split import TEST, TRAIN, UNASSIGNED
from opsin.stores.bucket import StoredObject

_PER_IMAGE: Final = (
    "images", "labels", "source_parts", "names", "groups", "digests", "source_digests", "sizes",
    "ranges", "rows", "source_labels",
)  # fmt: skip
_Table = TypeVar("_Table")


@dataclass(frozen=True)
class LocatedSource:
    """A source that was located, and not yet read."""

    key: str
    open: Callable[[], LabelledImages]
    left_out: tuple[LeftOut, ...] | None = None


@dataclass(frozen=True)
class LabelledImages:
    """The images of a source, ``N``, with their labels, parts and groups."""

    source: str
    classes: tuple[str, ...]
    #: Class index of each image, ``int64[N]``.
    labels: NDArray[np.int64]
    #: Split code of each image (`opsin.data.split`), ``uint8[N]``.
    source_parts: NDArray[np.uint8]
    #: What each image is called: its path below the source, or ``train/123``.
    names: Sequence[str]
    #: Of any kind, or arrays in one ``uint8`` or ``uint16[N, H, W, C]``.
    images: Sequence[Listed] | NDArray[np.uint8 | np.uint16]
    #: What images share (a person, a film), to stay on one side of a split; ``""`` for nothing.
    groups: Sequence[str] = ()
    #: Whether a mirrored image is still of its class.
    mirrored: bool = True
    left_out: tuple[LeftOut, ...] = ()
    #: Rows of a table that named an image once more, which are left out.
    repeated: int = 0

    def __len__(self) -> int:
        return int(self.labels.size)

    def keep(self, classes: Sequence[str] | None) -> LabelledImages:
        """Return the images of some classes, in the order given; each must exist once."""
        if not classes:
            return self
        indices = places_among(classes, self.classes)
        unknown = [name for name, index in zip(classes, indices, strict=True) if index < 0]
        if unknown or len(set(indices)) < len(indices):
            raise SourceError(
                f"{', '.join(unknown or classes)}: different classes among "
                f"{', '.join(self.classes)} are expected"
            )
        new_label = np.full(len(self.classes), -1, np.int64)
        new_label[indices] = np.arange(len(indices))
        kept = take(self, np.flatnonzero(new_label[self.labels] >= 0))
        names = tuple(self.classes[index] for index in indices)
        return replace(kept, classes=names, labels=new_label[kept.labels])

    def check(self) -> None:
        """Refuse contents unfit for training: see `check_classes`."""
        check_classes(self.source, self.classes, self.labels, self.source_parts)

    def located(self) -> LocatedSource:
        """Return a source whose key is a hash of its content; of files, of their stamps."""
        key = hashlib.sha256(repr((self.classes, self.names, self.groups, self.repeated)).encode())
        if isinstance(self.images, np.ndarray):
            key.update(digest_rows(self.images).tobytes())
        else:
            key.update(key_of_files(*self.images).encode())
        key.update(self.labels.tobytes() + self.source_parts.tobytes())
        return LocatedSource(key.hexdigest(), lambda: self, self.left_out)


def take(table: _Table, rows: NDArray[np.int64]) -> _Table:
    """Return some images, ready or not, in the order of ``rows``."""
    taken: dict[str, Any] = {}
    for name in _PER_IMAGE:
        value = getattr(table, name, None)
        if isinstance(value, np.memmap | LazyImages):
            taken[name] = subset(value, rows)
        elif isinstance(value, np.ndarray):
            taken[name] = value[rows]
        elif value:
            taken[name] = [value[row] for row in rows]
    return replace(table, **taken)  # type: ignore[type-var]  # both kinds are dataclasses


def write_facts(folder: Path, contents: LabelledImages, *, arrays: Any, **more: Any) -> None:
    """Write what is known of each image beside its pixels."""
    arrays = {"labels": contents.labels, "source_parts": contents.source_parts, **arrays}
    np.savez(folder / "columns.npz", **arrays, allow_pickle=False)
    sync(folder / "columns.npz")
    about: JsonObject = {name: getattr(contents, name) for name in ("mirrored", "repeated")}
    about |= {name: list(getattr(contents, name)) for name in ("classes", "names", "groups")}
    left_out = [entry.model_dump() for entry in contents.left_out]
    write_json(folder / ABOUT, about | more | {"left_out": left_out})


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what `write_facts` wrote; of damaged files, mostly a `ValueError`."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    about["classes"] = tuple(about["classes"])
    about["left_out"] = tuple(map(LeftOut.model_validate, about["left_out"]))
    return {**about, **read_arrays(folder / "columns.npz")}


def key_of_files(*files: Any) -> str:
    """Return a key of files' names, sizes and times of change; some may be missing."""
    key = hashlib.sha256()
    for file in files:
        if isinstance(file, PackedImage | StoredObject):  # these state their version
            key.update(repr(file).encode())
            continue
        stamp = file_stamp(file)
        known = (-1, -1) if stamp == MISSING else (stamp.size, stamp.mtime_ns)
        # Names that are not Unicode have lone surrogates, which repr escapes.
        key.update(repr((os.path.abspath(file), *known)).encode())  # noqa: PTH100
    return key.hexdigest()


def check_classes(
    source: str, classes: Sequence[str], labels: NDArray[np.int64], source_parts: NDArray[np.uint8]
) -> None:
    """Refuse images unfit for training."""
    if not labels.size:
        raise SourceError(f"{source} has no images")
    if len(classes) < 2:
        one = f"{source} has one class only ({', '.join(classes)}); two or more are expected"
        raise SourceError(one, "Add a sub-folder with images of something else.")
    counts = np.bincount(labels, minlength=len(classes))
    if few := [f"{name!r} has {n}" for name, n in zip(classes, counts, strict=True) if n < 2]:
        problem = f"At least two images of each class are expected: {', '.join(few[:5])}"
        raise SourceError(problem, "Add images, or leave the class out with --classes.")
    learnt = set(labels[source_parts <= TRAIN].tolist())
    unlearnt = [name for label, name in enumerate(classes) if label not in learnt]
    if np.any(source_parts == TRAIN) and unlearnt:
        raise SourceError(
            f"{source} has {', '.join(unlearnt[:5])} in another part, but none to train",
            "Call the classes alike in each part, or leave these out with --classes.",
        )


def join(sources: Sequence[str], parts: Sequence[LabelledImages], *, test: bool) -> LabelledImages:
    """Concatenate sources; with ``test``, the last one is the test part of the others."""
    others = parts[:-1] if test else parts
    lists = [part.classes for part in others]
    same = len({tuple(map(nfc, names)) for names in lists}) == 1
    written = {nfc(name): name for names in reversed(lists) for name in names}
    classes = lists[0] if same else tuple(written[name] for name in sorted(written, key=natural))
    source_parts = [part.source_parts for part in parts]
    if test:
        _check_test(sources, parts, classes)
        # Unassigned images of the others are for training and validation.
        source_parts = [
            np.where(codes == UNASSIGNED, TRAIN, codes).astype(np.uint8) for codes in source_parts
        ]
        source_parts[-1] = np.full(len(parts[-1]), TEST, np.uint8)
    _check_once(sources, parts)
    titles = titles_of(sources, test=test)
    groups = [group for part in parts for group in (part.groups or [""] * len(part))]
    arrays = [part.images for part in parts if isinstance(part.images, np.ndarray)]
    alike = len(arrays) == len(parts) and len({(a.shape[1:], a.dtype) for a in arrays}) == 1
    labels = [np.array(places_among(part.classes, classes))[part.labels] for part in parts]
    return LabelledImages(
        " + ".join(sources),
        classes,
        np.concatenate(labels),
        np.concatenate(source_parts),
        [f"{title}/{name}" for title, p in zip(titles, parts, strict=True) for name in p.names],
        np.concatenate(arrays) if alike else [image for part in parts for image in part.images],
        groups if any(groups) else (),
        all(part.mirrored for part in parts),
        add_up(part.left_out for part in parts),
        sum(part.repeated for part in parts),
    )


def titles_of(sources: Sequence[str], *, test: bool) -> list[str]:
    """Return what names of images begin with in joined sources; a further one changes none."""
    titles: dict[str, str] = {}
    for source in (*sources[-1:], *sources[:-1]) if test else sources:
        path = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111  never raises
        title = Path(path).name.lstrip(".").split(".")[0] or "images"
        titles[source] = free_name(title, set(titles.values()).__contains__)
    return [titles[source] for source in sources]


def _check_once(sources: Sequence[str], parts: Sequence[LabelledImages]) -> None:
    """Refuse images in two sources, such as a folder inside another."""
    real, seen = functools.cache(os.path.realpath), dict[str, str]()
    for source, part in zip(sources, parts, strict=True):
        for file in part.images:
            if isinstance(file, str):
                folder, name = os.path.split(file)
                path = os.path.join(real(folder), name)  # noqa: PTH118  a million as text
                if seen.setdefault(path, source) != source:
                    raise SourceError(
                        f"{path} is in {seen[path]} and in {source}", "Leave one of the two out."
                    )


def _check_test(
    sources: Sequence[str], parts: Sequence[LabelledImages], classes: Sequence[str]
) -> None:
    known = set(map(nfc, classes))
    if unknown := [name for name in parts[-1].classes if nfc(name) not in known]:
        what = f"{sources[-1]} has classes that the training images lack: {', '.join(unknown[:5])}"
        raise SourceError(what, f"They have {', '.join(classes[:10])}.")
    for source, part in zip(sources[:-1], parts, strict=False):
        if np.any(part.source_parts == TEST):
            problem = f"{source} has a test part of its own beside {sources[-1]}"
            raise SourceError(problem, "Leave --test out, or give the training part alone.")
