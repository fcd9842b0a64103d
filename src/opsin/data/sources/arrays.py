"""Images and labels in arrays: ``.npz`` files and IDX files (yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.files import open_regular
from opsin.core.stored_arrays import Budget, StoredArrays
from opsin.data.pixel_values import to_bytes
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.rows import SourceKind, SourceRequest
from opsin.data.spelling import nfc
from opsin.data.split import TEST, TRAIN, UNASSIGNED

# The largest label accepted; bytes of memory per image besides its pixels: name, digest and so on.
_MAX_LABEL, _BESIDE = 99_999, 256
#: Names of the arrays of a file, and Keras' names for them.
_NAMES: Final = {
    "images": "x_train", "labels": "y_train", "test_images": "x_test", "test_labels": "y_test",
    "classes": "classes",
}  # fmt: skip
_ADVICE: Final = "Save it with numpy.savez(path, images=…, labels=…)."


def from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[int],
    classes: Sequence[str] | None = None,
    *,
    source: str = "arrays",
    test: tuple[NDArray[Any], NDArray[Any] | Sequence[int]] | None = None,
    mirrored: bool = True,
    note: Callable[[str], None] | None = None,
) -> LabelledImages:
    """Check arrays and return them as a source; scaled ones are refused, or told to ``note``."""
    images, labels = _checked(images, labels, source, note)
    source_parts = np.full(labels.size, TRAIN if test else UNASSIGNED, np.uint8)
    names = [f"train/{i}" if test else str(i) for i in range(labels.size)]
    if test:
        test_images, test_labels = _checked(*test, f"{source} (test)", note)
        if test_images.shape[1:] != images.shape[1:]:
            raise SourceError(
                f"{source} has test images {list(test_images.shape[1:])}, and others "
                f"{list(images.shape[1:])} to train"
            )
        images = np.concatenate([images, test_images])
        labels = np.concatenate([labels, test_labels])
        source_parts = np.concatenate([source_parts, np.full(test_labels.size, TEST, np.uint8)])
        names += [f"test/{i}" for i in range(test_labels.size)]
    count = int(labels.max()) + 1
    names_of = tuple(map(str, range(count) if classes is None else classes))
    if len(names_of) < count or len(set(map(nfc, names_of))) < len(names_of):
        raise SourceError(
            f"{source} has {len(names_of)} class names ({', '.join(names_of[:5])} …); {count} "
            f"different ones, for the labels from 0 to {count - 1}, are expected"
        )
    return LabelledImages(source, names_of, labels, source_parts, names, images, mirrored=mirrored)


def open_npz(path: Path) -> LabelledImages:
    """Read a file with ``images`` and ``labels``, or with Keras' names."""
    try:
        with StoredArrays(path) as file:
            there = {
                ours: name
                for ours, keras in _NAMES.items()
                for name in (keras, ours)
                if name in file.members
            }
            if not {"images", "labels"} <= set(there):
                holds = ", ".join(list(file.members)[:20]) or "nothing"
                raise SourceError(f"{path} holds {holds}, and not images and labels", _ADVICE)
            for ours, name in there.items():
                rows = math.prod(file.stated(name).shape[:1])
                Budget(path.stat().st_size).take(_BESIDE * rows)
                if ours == "classes" and rows > _MAX_LABEL + 1:
                    raise ValueError(f"it names {rows:,} classes")
            content = {ours: file.read(name) for ours, name in there.items()}
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error})", _ADVICE) from error
    both = {"test_images", "test_labels"} <= set(content)
    test = (content["test_images"], content["test_labels"]) if both else None
    names = content.get("classes")
    classes = None if names is None else list(map(str, np.atleast_1d(names)))
    return from_arrays(content["images"], content["labels"], classes, source=str(path), test=test)


def _checked(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[int],
    source: str,
    note: Callable[[str], None] | None,
) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.int64]]:
    images, labels = as_array(images, f"{source} (images)"), as_array(labels, f"{source} (labels)")
    if labels.ndim == 2 and labels.shape[1] == 1:  # as CIFAR-10 has them in Keras
        labels = labels[:, 0]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:3]:
        raise SourceError(
            f"{source} has {images.dtype}{list(images.shape)}; uint8[N, H, W] or "
            "uint8[N, H, W, 3] from 0 to 255 is expected"
        )
    scaled, whole = None, images.dtype.kind in "iu" and images.size
    if whole and images.min() >= 0 and 255 < images.max() < 1 << 16:
        images = images.astype(np.uint16)  # for `fill_cache` to scale
    else:
        images, scaled = to_bytes(images, source)
    if scaled and note:
        note(f"{source}: {scaled}")
    elif scaled:
        problem = f"{source} has {scaled.partition(' taken')[0]}, and not 0 (black) to 255 (white)"
        raise SourceError(problem, "Scale them: (255.0 * images).round().astype('uint8')")
    if labels.ndim != 1 or labels.size != images.shape[0] or labels.size == 0:
        raise SourceError(
            f"{source} has {images.shape[0]:,} images and labels of shape {list(labels.shape)}; "
            "one for each image is expected"
        )
    whole = labels.dtype.kind in "iu"  # and no spans of time
    if not whole or labels.min() < 0 or labels.max() > _MAX_LABEL:
        there = f"such as {labels[0]!r}" if not whole else f"{labels.min()} to {labels.max()}"
        raise SourceError(
            f"{source} has labels of {labels.dtype}, {there}; whole numbers from 0 to at most "
            f"{_MAX_LABEL:,} are expected",
            "Number the classes from 0 and give their names as classes.",
        )
    return images, labels.astype(np.int64)


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Convert images or labels to a NumPy array."""
    try:
        return np.asarray(value)
    except Exception as error:
        problem = f"NumPy makes no array of {name}, a {type(value).__name__} ({error})"
        raise SourceError(problem, "Bring all images to one size: np.stack(images)") from error


@contextlib.contextmanager
def opened_plain(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, decompressing gzip."""
    with open_regular(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if packed else contextlib.nullcontext(file) as plain:
            yield cast(io.BufferedIOBase, plain)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, plain or gzip."""
    try:
        with opened_plain(path) as file:
            header = file.read(4)
            if header[:3] != b"\0\0\x08" or len(header) < 4:
                raise ValueError("it has no IDX header of bytes")
            stated = file.read(4 * header[3])
            sizes = [int.from_bytes(stated[i : i + 4], "big") for i in range(0, len(stated), 4)]
            count = math.prod(sizes)
            if not sizes or len(stated) != 4 * header[3] or not count:
                raise ValueError("its header states an impossible size")
            Budget(path.stat().st_size).take(max(count, _BESIDE * sizes[0]))
            values = np.frombuffer(file.read(count + 1), np.uint8)
            if values.size != count:
                raise ValueError(f"it holds another number of values than the {count:,} stated")
            return values.reshape(sizes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"{path} is no IDX file: {error}", "Fetch it again.") from error


def _labels_of(images: Path) -> Path:
    stem = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    for path in (images.with_name(stem), images.with_name(f"{stem}.gz")):
        if path.is_file() and path != images:
            return path
    raise SourceError(
        f"The labels of {images.name} are not beside it: there is no {stem}[.gz] in {images.parent}"
    )


def _idx_images(request: SourceRequest) -> list[Path]:
    """Return a file of images, or a folder's to train and to test."""

    def named(start: str) -> list[Path]:
        files = [request.path] if request.is_file else sorted(request.path.glob(f"{start}*"))
        return [file for file in files if re.search(r"idx3|images.*ubyte", file.name)][:1]

    if request.is_folder and (train := named("train")):
        return train + (named("t10k") or named("test"))
    return named("") if request.is_file else []


def _locate_idx(request: SourceRequest) -> LocatedSource:
    train, *test = _idx_images(request)
    files = [file for images in (train, *test) for file in (images, _labels_of(images))]

    def read() -> LabelledImages:
        arrays = list(map(read_idx, files))
        pair = (arrays[2], arrays[3]) if test else None
        return from_arrays(arrays[0], arrays[1], source=str(request.path), test=pair)

    return LocatedSource(key_of_files(*files), read)


#: A folder with ``train-images-idx3-ubyte`` and its like, or one images file.
IDX = SourceKind(
    "an IDX file of images", lambda request: bool(_idx_images(request)), _locate_idx, rank=1,
    match_packed=lambda request: bool(_idx_images(request)), files=("*idx[13]*", "*ubyte*"),
)  # fmt: skip
KINDS = (
    SourceKind(
        "an .npz file", lambda request: request.is_file_of(".npz"),
        lambda request: LocatedSource(key_of_files(request.path), lambda: open_npz(request.path)),
        match_packed=lambda request: request.is_file_of(".npz"), files=("*.npz",),
    ),
    IDX,
)  # fmt: skip
