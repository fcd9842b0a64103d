"""The verb `find`: the photographs of a heap that are most like some."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from pydantic import BaseModel

from opsin.commands.predict.rows import Unreadable
from opsin.commands.predict.stream import check_drawing
from opsin.core.arguments import checked
from opsin.core.arrays import Floats, Pixels
from opsin.core.errors import ImageError, MissingExtraError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.data.cache import as_keys
from opsin.data.sources import Reading, open_stream
from opsin.data.spelling import nfc

try:
    from opsin.backbones.backbone import Backbone, open_backbone
    from opsin.backbones.feature_graph import usual_preparation
    from opsin.data.images import read_image
    from opsin.labelling.heap import Heap, read_heap
    from opsin.labelling.label_file import LabelFile
    from opsin.labelling.labelling import USUAL, usual_file
    from opsin.labelling.search import most_similar
except ImportError as error:
    raise MissingExtraError("searching", "evaluate") from error


class FoundImage(BaseModel, frozen=True):
    """A photograph that was found, and its similarity: a cosine, at most 1."""

    image: str
    similarity: float


class Found(BaseModel, frozen=True):
    """The result of `find`."""

    found: tuple[FoundImage, ...]  #: The photographs, the most similar first
    images: int  #: Photographs that were compared, copies once
    unreadable: Unreadable = ()  #: Name and reason of each file that was left out
    out: Path | None = None  #: The contact sheet


@checked
def find(
    source: str | os.PathLike[str],
    *like: str | os.PathLike[str],
    unlike: Sequence[str | os.PathLike[str]] = (),
    count: int = 20,
    out: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    backbone: str = USUAL,
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
) -> Found:
    """Find the photographs of a heap that are most like some.

    Features of a pretrained network are compared by their cosine, each photograph's. What the
    query names is not found again, and copies are found once.

    Args:
        source: Photographs, with or without classes: a folder, a table, an archive.
        *like: What to look for: names of the heap's photographs, classes of its labels (from
            `label`), image files, or folders of these.
        unlike: What to avoid, in the same way.
        count: Photographs to find at most.
        out: An image of the first 25 to write (PNG, SVG or PDF).
        file: Where the labels are kept (default: in the account's state folder, by the source).
        backbone: The network.
        watcher: Receives progress and notes.
        **reading: As for `opsin.Labelling.open`.

    Raises:
        SourceError: A source is missing, or holds no image that can be read.
        RecipeError: Nothing to look for, or an impossible option.
        ModelFileError: The network cannot be used.
        StorageError: The disk refuses a write.

    Example:
        >>> opsin.find("heap", "boot.jpg", unlike=["sandal.jpg"]).found[0].image  # doctest: +SKIP
        'img_0412.jpg'
    """
    if not like:
        raise RecipeError("There is nothing to look for", "Name an image, a folder, or a class.")
    if count < 1:
        raise RecipeError(f"The number of photographs must be 1 or more, not {count}")
    target = None if out is None else check_drawing(out)
    network = open_backbone(backbone, offline=True, watcher=watcher)
    stream = open_stream(source, watcher=watcher, **reading)
    heap = read_heap(stream, network, watcher=watcher)
    of_class = _rows_by_class(Path(file or usual_file(source)), heap)
    wanted, one = _points_of(like, heap, network, of_class, watcher)
    avoided, other = _points_of(unlike, heap, network, of_class, watcher)
    rows = np.unique(heap.first)
    open_rows = rows[~np.isin(as_keys(heap.digests[rows]), as_keys(np.concatenate([one, other])))]
    best, similarities = most_similar(heap.points, wanted, avoided, count, among=open_rows)
    if target is not None:
        name = os.path.basename(os.fspath(like[0])) or os.fspath(like[0])  # noqa: PTH119
        _draw(heap, network, best[:25].tolist(), target, name)
    return Found(
        found=tuple(
            FoundImage(image=heap.names[row], similarity=round(float(value), 4))
            for row, value in zip(best, similarities, strict=True)
        ),
        images=len(rows),
        unreadable=tuple(heap.unreadable),
        out=target,
    )


def _rows_by_class(labels: Path, heap: Heap) -> dict[str, list[int]]:
    """The rows of each class of the labels, whose names are compared in any letters."""
    rows = defaultdict[str, list[int]](list)
    if labels.is_file():
        with contextlib.closing(LabelFile(labels)) as file:
            for image, one in file.now().items():
                if one.label is not None and image in heap.row_of:
                    rows[one.label.casefold()].append(heap.row_of[image])
    return rows


def _points_of(
    terms: Sequence[str | os.PathLike[str]],
    heap: Heap,
    network: Backbone,
    of_class: Mapping[str, list[int]],
    watcher: Watcher,
) -> tuple[Floats, Pixels]:
    """The points of what a query names, ``float32[M, D]``, and their digests."""
    points, digests = [heap.points[:0]], [heap.digests[:0]]
    for term in (os.fspath(term) for term in terms):
        named, there = heap, heap.row_named.get(term)
        rows = of_class.get(nfc(term).casefold(), []) if there is None else [there]
        if not rows:
            if not os.path.lexists(os.path.expanduser(term)):  # noqa: PTH111
                raise SourceError(
                    f"{term!r:.120} is no photograph of {heap.source}, no class of its labels, "
                    "and no file",
                    "Name an image, a folder of images, or a class.",
                )
            named = read_heap(
                open_stream(term), network, projection=heap.projection, watcher=watcher
            )
            rows = list(range(len(named)))
        points.append(named.points[rows])
        digests.append(named.digests[rows])
    return np.concatenate(points), np.concatenate(digests)


def _draw(heap: Heap, network: Backbone, rows: Sequence[int], path: Path, like: str) -> None:
    """Draw a contact sheet."""
    from opsin.report.figures.dataset_figures import draw_grid  # noqa: PLC0415  needs matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    preparation, names, images = usual_preparation(network), list[str](), list[Pixels]()
    for row in rows:
        with contextlib.suppress(ImageError):  # it vanished since it was read
            images.append(read_image(heap.images[row], preparation, heap.names[row]))
            names.append(os.path.basename(heap.names[row]))  # noqa: PTH119
    if not images:
        raise SourceError("There is nothing to draw", "Give a heap of more photographs.")
    with styled():
        title = f"{counted(len(images), 'photograph')} most like {like}"
        save(draw_grid(images, names, title), path)
