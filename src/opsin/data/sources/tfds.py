"""Folders of TensorFlow Datasets, which are named and not read: their records need TensorFlow."""

from __future__ import annotations

from opsin.core.errors import SourceError
from opsin.data.sources.contents import LocatedSource
from opsin.data.sources.source_kind import SourceKind, SourceRequest


def _matches(request: SourceRequest) -> bool:
    folder = request.path
    return (request.is_folder and not request.holds_images) and (
        (folder / "features.json").is_file() or next(folder.glob("*.tfrecord*"), None) is not None
    )


def _refuse(request: SourceRequest) -> LocatedSource:
    raise SourceError(
        "images, or tables of them",
        f"{request.written} holds records of TensorFlow Datasets",
        "Write them out where TensorFlow is: images, labels = tfds.as_numpy(tfds.load(NAME, "
        'split="train", as_supervised=True, batch_size=-1)), then numpy.savez("images.npz", '
        "images=images, labels=labels).",
    )


KIND = SourceKind(
    title="",
    rows=(),
    match=_matches,
    locate=_refuse,
)
