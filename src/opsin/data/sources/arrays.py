"""Images and labels that are arrays already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.stored_arrays import Budget, StoredArrays
from opsin.data.array_image import to_bytes
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.data.spelling import nfc
from opsin.data.split import TEST, TRAIN, UNASSIGNED

#: Classes that a classifier can sensibly have.
_MAX_LABEL = 99_999
#: Bytes that an image takes beside its pixels: its name, its digest and the like.
_BESIDE = 256
#: The arrays of a file by our names, with those of Keras.
_NAMES = {
    "images": "x_train", "labels": "y_train", "test_images": "x_test", "test_labels": "y_test",
    "classes": "classes",
}  # fmt: skip
_ADVICE = "Save it with numpy.savez(path, images=…, labels=…)."


def from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[int],
    classes: Sequence[str] | None = None,
    *,
    source: str = "arrays",
    test: tuple[NDArray[Any], NDArray[Any] | Sequence[int]] | None = None,
    mirrored: bool = True,
) -> LabelledImages:
    """Check arrays and take them as a source."""
    images, labels = _checked(images, labels, source)
    given = np.full(labels.size, TRAIN if test else UNASSIGNED, np.uint8)
    names = [f"train/{i}" if test else str(i) for i in range(labels.size)]
    if test:
        test_images, test_labels = _checked(*test, f"{source} (test)")
        if test_images.shape[1:] != images.shape[1:]:
            raise SourceError(
                "test images of the same shape as the training images",
                f"{source} has {list(test_images.shape[1:])} and {list(images.shape[1:])}",
                "Resize one of them.",
            )
        images = np.concatenate([images, test_images])
        labels = np.concatenate([labels, test_labels])
        given = np.concatenate([given, np.full(test_labels.size, TEST, np.uint8)])
        names += [f"test/{i}" for i in range(test_labels.size)]
    count = int(labels.max()) + 1
    names_of = tuple(map(str, range(count) if classes is None else classes))
    if len(names_of) < count or len(set(map(nfc, names_of))) < len(names_of):
        raise SourceError(
            f"{count} different class names, one for each label from 0 to {count - 1}",
            f"{source} has {len(names_of)} ({', '.join(names_of[:5])} …)",
            "Give a name for each.",
        )
    return LabelledImages(source, names_of, labels, given, names, images, mirrored=mirrored)


def open_npz(path: Path) -> LabelledImages:
    """Read a file with ``images`` and ``labels``, or with the names that Keras gives them."""
    try:
        with StoredArrays(path) as file:
            there = {ours: name for ours, keras in _NAMES.items() for name in (keras, ours)
                     if name in file}  # fmt: skip
            if not {"images", "labels"} <= set(there):
                raise SourceError(
                    "the arrays images and labels",
                    f"{path} holds {', '.join(file.names[:20]) or 'nothing'}",
                    _ADVICE,
                )
            for ours, name in there.items():
                rows = math.prod(file.stated(name).shape[:1])
                check_count(path, rows)
                if ours == "classes" and rows > _MAX_LABEL + 1:
                    raise ValueError(f"it names {rows:,} classes")
            content = {ours: file.read(name) for ours, name in there.items()}
    except (OSError, ValueError) as error:
        raise SourceError(
            "an .npz file without Python objects", f"{path} cannot be read ({error})", _ADVICE
        ) from error
    test = None
    if {"test_images", "test_labels"} <= set(content):
        test = (content["test_images"], content["test_labels"])
    classes = (
        [str(name) for name in np.atleast_1d(content["classes"])] if "classes" in content else None
    )
    return from_arrays(content["images"], content["labels"], classes, source=str(path), test=test)


def check_count(path: Path, count: int) -> None:
    """Refuse more images than an honest file of its size holds, by a `ValueError`."""
    Budget(path.stat().st_size).take(_BESIDE * count)


def _checked(
    images: NDArray[Any], labels: NDArray[Any] | Sequence[int], source: str
) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.int64]]:
    """Bring both arrays to their shape and type, or say what is wrong with them."""
    images, labels = as_array(images, f"{source} (images)"), as_array(labels, f"{source} (labels)")
    if labels.ndim == 2 and labels.shape[1] == 1:  # as CIFAR-10 has them in Keras
        labels = labels[:, 0]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:3]:
        raise SourceError(
            "images uint8[N, H, W] or uint8[N, H, W, 3] with values from 0 to 255",
            f"{source} has {images.dtype}{list(images.shape)}",
            _reshaped(images.shape),
        )
    images, note = to_bytes_or_deep(images, source)
    if note:
        raise SourceError(
            "images of whole numbers from 0 (black) to 255 (white), such as uint8",
            f"{source} has {note.partition(' taken')[0]}",
            "Bring them there: (255.0 * images).round().astype('uint8')",
        )
    if labels.ndim != 1 or labels.size != images.shape[0] or labels.size == 0:
        raise SourceError(
            "one label for each image",
            f"{source} has {images.shape[0]:,} images and labels of shape {list(labels.shape)}",
            "Check that both come from the same set.",
        )
    whole = labels.dtype.kind in "iu"  # and no spans of time
    if not whole or labels.min() < 0 or labels.max() > _MAX_LABEL:
        there = f"such as {labels[0]!r}" if not whole else f"{labels.min()} to {labels.max()}"
        raise SourceError(
            f"labels that are whole numbers from 0 to at most {_MAX_LABEL:,}",
            f"{source} has {labels.dtype}, {there}",
            "Number the classes from 0 and give their names as classes.",
        )
    return images, labels.astype(np.int64)


def to_bytes_or_deep(
    images: NDArray[Any], source: str
) -> tuple[NDArray[np.uint8 | np.uint16], str | None]:
    """Do as `to_bytes`, but leave whole numbers of up to 16 bits for `fill_cache` to bring."""
    whole = images.dtype.kind in "iu" and images.size > 0
    if whole and images.min() >= 0 and 255 < images.max() < 1 << 16:
        return images.astype(np.uint16), None
    return to_bytes(images, source, "images")


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Return what NumPy makes of images or labels."""
    try:
        return np.asarray(value)
    except Exception as error:
        raise SourceError(
            "an array, or what NumPy can make one of",
            f"{name} is a {type(value).__name__} that it cannot ({error})",
            "Bring all images to one size: np.stack(images)",
        ) from error


def _reshaped(shape: tuple[int, ...]) -> str:
    """Say what to do with images whose axes are others."""
    if len(shape) == 4 and shape[1] in (1, 3):
        return "Put the channels last: images.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 4:
        return "Leave the transparency out: images[..., :3]"
    if len(shape) == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        return f"Give each its height and width: images.reshape(-1, {side}, {side})"
    return "Bring all images to one size and stack them: np.stack(images)"


def _matches(request: SourceRequest) -> bool:
    return request.is_file and request.path.suffix.lower() == ".npz"


KIND = SourceKind(
    title="an .npz file",
    rows=(
        SourceRow(
            "an `.npz` file",
            "arrays `images` and `labels`, and where there `classes`, `test_images`, "
            "`test_labels` (or Keras's `x_train`, `y_train`, `x_test`, `y_test`)",
            "as given",
        ),
    ),
    match=_matches,
    match_packed=_matches,
    files=("*.npz",),
    locate=lambda request: LocatedSource(
        key_of_files(request.path), lambda: open_npz(request.path)
    ),
)
