"""The verbs `label` and `find`: labels for a heap of photographs, and those most like some."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal, Unpack

import numpy as np
from pydantic import BaseModel

from opsin.commands.predict.answers_file import Answer, AnswersFile
from opsin.commands.predict.rows import Unreadable
from opsin.commands.predict.sorting import RESULTS, SORTED, By, Sorter
from opsin.commands.predict.stream import check_drawing
from opsin.core.arguments import checked
from opsin.core.arrays import Floats, Pixels
from opsin.core.csv_cells import read_row, write_rows
from opsin.core.errors import ImageError, MissingExtraError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.storage import atomic_file, check_new_file, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.cache import as_keys
from opsin.data.image_stream import ListedImage
from opsin.data.images import read_image
from opsin.data.sources import Reading, open_stream
from opsin.data.spelling import nfc

try:
    from opsin.backbones.backbone import Backbone, open_backbone
    from opsin.backbones.feature_graph import usual_preparation
    from opsin.labelling.heap import Heap, read_heap
    from opsin.labelling.label_file import LabelFile
    from opsin.labelling.labelling import USUAL, Labelling, Progress, Question, usual_file
    from opsin.labelling.search import most_similar
except ImportError as error:
    raise MissingExtraError("labelling or searching", "evaluate") from error

# Photographs that are placed together.
_BATCH: Final = 256


class Labelled(BaseModel, frozen=True):
    """The result of `label`."""

    next: tuple[Question, ...]  #: The photographs to ask about next, with the present guess
    progress: Progress  #: How many labels there are, and how good what they teach is
    taken: int = 0  #: Photographs that a table labelled
    undone: int = 0  #: Photographs whose last answer was taken back
    unreadable: Unreadable = ()  #: Name and reason of each file that was left out
    out: Path | None = None  #: What was written
    written: int = 0  #: Photographs in it


@checked
def label(
    source: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    next: int = 0,  # noqa: A002  as the flag
    labels: str | os.PathLike[str] | None = None,
    undo: bool = False,
    who: str = "",
    overlap: float = 0.0,
    write: Literal["folders", "csv"] | None = None,
    out: str | os.PathLike[str] | None = None,
    by: By = "copy",
    file: str | os.PathLike[str] | None = None,
    backbone: str = USUAL,
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
) -> Labelled:
    """Label a heap of photographs, a few questions at a time.

    Features of a pretrained network tell photographs apart. What to ask next is what teaches most,
    and one in five at random, from which the accuracy is measured (`opsin.Labelling` for one
    process that goes on; ``python -m benchmarks.labelling`` for how many labels that saves).

    Args:
        source: Photographs without classes: a folder, a table, an archive.
        classes: Names of classes to begin with; labels bring further ones.
        next: Photographs to ask about now.
        labels: A table (CSV) of answers to take first: columns ``path`` and ``label``; a label may
            be ``none of the classes`` or ``unclear``.
        undo: Take back the last answers.
        who: Whose answers these are: no photograph is asked of two people, but for the overlap.
        overlap: The share of questions that is asked of everybody, for Cohen's kappa.
        write: Write the labelled photographs into a folder for each class, or their names into a
            table, which `train` takes.
        out: The new folder or table to write.
        by: Whether ``write="folders"`` copies photographs or moves them; `undo` of that folder
            takes either back.
        file: Where labels are kept (default: in the account's state folder, by the source).
        backbone: The network.
        watcher: Receives progress and notes.
        **reading: As for `opsin.Labelling.open`.

    Raises:
        SourceError: The source is missing or damaged, holds no image that can be read, or a label
            is of no photograph in it.
        RecipeError: The file of labels, or the table, is damaged; or an option is impossible.
        ModelFileError: The network cannot be used.
        StorageError: What is to be written is there already, or the disk refuses it.

    Example:
        >>> opsin.label("heap", classes=["paper", "metal"], next=1).next[0].image  # doctest: +SKIP
        'img_0412.jpg'
    """
    if (write is None) != (out is None):
        raise RecipeError("--write and --out belong together", "Give both: --write csv --out FILE.")
    if write == "folders" and out is not None and os.path.lexists(out):
        raise RecipeError(f"{out} is there already", "Give another folder.")
    labelling = Labelling.open(
        source,
        classes=classes,
        file=file,
        backbone=backbone,
        who=who,
        overlap=overlap,
        watcher=watcher,
        **reading,
    )
    taken = 0 if labels is None else labelling.label(_read_labels(Path(labels)), how="file")
    undone, written = labelling.undo() if undo else 0, 0
    if out is not None and write == "folders":
        written = _to_folders(labelling, Path(out), by, watcher)
    elif out is not None:
        written = _to_table(labelling, Path(out))
    progress = labelling.progress()  # first: it tells how to choose questions
    return Labelled(
        next=tuple(labelling.next(next)) if next else (),
        progress=progress,
        taken=taken,
        undone=undone,
        unreadable=tuple(labelling.heap.unreadable),
        out=None if out is None else Path(out),
        written=written,
    )


def _read_labels(path: Path) -> dict[str, str]:
    """The answers of a table, by the photographs' names."""
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            rows = map(read_row, csv.reader(file))
            columns = next(rows, [])
            if not {"path", "label"} <= set(columns):
                raise RecipeError(f"{path} has no columns path and label", "Name them so.")
            image, answer = columns.index("path"), columns.index("label")
            answered = (row for row in rows if row[answer:] and row[answer].strip())
            return {row[image]: row[answer].strip() for row in answered}
    except (OSError, csv.Error, IndexError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "It must be a table (CSV).") from error


def _to_table(labelling: Labelling, out: Path) -> int:
    """Write the labels as a table, which `train` takes."""
    check_new_file(out, ".csv")
    heap, rows, beside = labelling.heap, [("path", "label")], out.absolute().parent
    for name, answer in labelling.labels().items():
        image = heap.images[heap.row_named[name]]
        rows.append((os.path.relpath(image, beside) if isinstance(image, str) else name, answer))
    with (
        storage_errors(out),
        atomic_file(out) as scratch,
        scratch.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        write_rows(file, rows)
    return len(rows) - 1


def _to_folders(labelling: Labelling, out: Path, by: By, watcher: Watcher) -> int:
    """Copy or move photographs into folders, as `opsin predict --sort-into` does."""
    heap, classes = labelling.heap, labelling.file.classes
    labels = [
        (ListedImage(name, heap.images[heap.row_named[name]]), answer)
        for name, answer in labelling.labels().items()
    ]
    about: JsonObject = {"the labels": str(labelling.file.path)}
    with storage_errors(out):
        out.mkdir(parents=True)
    with (
        AnswersFile(out / SORTED, out / RESULTS, about, kinds=len(classes)) as answers,
        closing(Sorter(out, by, classes, answers, watcher)) as sorter,
    ):
        watcher.begin("Write", len(labels), "images")
        for start in range(0, len(labels), _BATCH):
            part = labels[start : start + _BATCH]
            said = [Answer(image.name, classes.index(answer), None) for image, answer in part]
            sorter.place(part, said)
            watcher.advance(start + len(part))
        watcher.end()
        return sorter.placed


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
        with closing(LabelFile(labels)) as file:
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
        with suppress(ImageError):  # it vanished since it was read
            images.append(read_image(heap.images[row], preparation, heap.names[row]))
            names.append(os.path.basename(heap.names[row]))  # noqa: PTH119
    if not images:
        raise SourceError("There is nothing to draw", "Give a heap of more photographs.")
    with styled():
        title = f"{counted(len(images), 'photograph')} most like {like}"
        save(draw_grid(images, names, title), path)
