"""The verb `classify`: many images, answers in files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

from opsin._version import __version__
from opsin.commands.classify.each import (
    open_classifier,
    open_streams,
    refuse_swapped_sources,
    tell_of_views,
)
from opsin.commands.classify.journal import Journal
from opsin.commands.classify.results import Results
from opsin.commands.classify.selection import Selection
from opsin.commands.classify.sorting import By, Sorter
from opsin.commands.classify.sorting_log import RESULTS
from opsin.commands.classify.work import Work
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.data.image_stream import Stream
from opsin.runtime.classifier import Classifier


@dataclass(frozen=True)
class Classified:
    """What `classify` did; earlier calls for the same results are counted in, unless said.

    Args:
        out: The results.
        images: Images that are done.
        answered: Those with a class as their answer.
        refused: Those whose answer is ``none of these``.
        unreadable: Files that could not be read.
        left_out: How many of all these ``where`` and ``min_confidence`` kept out of the results.
        resumed: How many were done by earlier calls.
        answers: How many rows have each answer, the most frequent first.
        sorted_into: The folder that images were sorted into.
        placed: Images that this call placed there.
        unplaced: Images that it could not place.
        seconds: How long this call took.
    """

    out: Path
    images: int
    answered: int
    refused: int
    unreadable: int
    left_out: int
    resumed: int
    answers: dict[str, int]
    sorted_into: Path | None
    placed: int
    unplaced: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as ``--json`` prints it."""
        sorted_into = None if self.sorted_into is None else str(self.sorted_into)
        return asdict(self) | {"out": str(self.out), "sorted_into": sorted_into}


@checked
def classify(
    model: str | os.PathLike[str] | Classifier,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Stream,
    *,
    out: str | os.PathLike[str] | None = None,
    top: int = 5,
    where: Sequence[str] = (),
    min_confidence: float = 0.0,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    sort_into: str | os.PathLike[str] | None = None,
    sort_by: By = "copy",
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    stdin: BinaryIO | None = None,
    watcher: Watcher = SILENT,
) -> Classified:
    """Answer any number of images, into a file and, if wanted, into folders.

    Stopped or killed at any moment, the same call goes on where it was; called again when it is
    done, it answers what was added to the source since, or replaced: a file of another size or
    time, a member of an archive of another content. Sorted images keep their places and answers.
    Memory does not grow with their number, but for 16 bytes for each image that was done before,
    is named by a table or a list, or lies in an archive.

    Args:
        model: A run directory, a ``classifier.onnx``, or an open classifier; only with
            ``threads=1`` are its answers the same, bit for bit, whatever it is asked together with.
        source: A folder, an archive, a table, an image, or ``-``, see `open_stream`; or several
            of these; or the stream of them.
        out: Results: ``.jsonl``, ``.csv`` or ``.parquet``; with ``sort_into`` by default the file
            ``results.jsonl`` in that folder.
        top: How many classes each row names.
        where: Which rows to keep: ``label=CLASS``, ``answer=CLASS``, ``answer=none of these``,
            ``answer=unreadable``; of the same key any must hold, of both keys each.
        min_confidence: Least probability of the label in rows to keep, 0 to 1.
        reject: Whether images unlike the training images are answered by ``none of these``.
        as_is: Leave backgrounds as they are.
        tta: Average the answers to a few variations of each image, if these helped on the
            validation images; else ``watcher`` is told why not.
        sort_into: Folder in which each kept image gets a place in the folder of its answer. Files
            that cannot be read stay where they are: they have no class, and may be repaired.
        sort_by: ``copy``, ``link`` (a second name for the same file) or ``move``. Nothing is ever
            overwritten; `unsort` takes it back.
        columns: Names of a table's columns, where they are others.
        follow_links: Whether to enter folders through symbolic links.
        outside: Whether a table may name images outside its folder.
        stdin: What ``-`` reads.
        watcher: Is told how far the work is.

    Raises:
        RecipeError: Options that cannot work, or results that were begun otherwise.
        SourceError: The source cannot be found or understood.
        RunError: There is no such run, or it has no classifier yet.
        ModelFileError: The classifier is damaged.
        MissingExtraError: Parquet is wanted and pyarrow is not installed.
        StorageError: The disk refuses a write; what is done is kept, and the same call goes on.
        KeyboardInterrupt: Ctrl-C; likewise.

    Example:
        >>> done = classify("runs/boots", "photos", out="answers.csv")  # doctest: +SKIP
        >>> done.answers  # doctest: +SKIP
        {'Ankle boot': 812, 'Sneaker': 94, 'none of these': 7}
    """
    began = time.monotonic()
    folder = None if sort_into is None else Path(sort_into)
    path = _where_to(out, folder, sort_by)
    if not isinstance(source, Stream):
        refuse_swapped_sources(model, source)
    classifier = open_classifier(model)
    if tta:
        tell_of_views(classifier, watcher)
    results = Results(path, _checked_top(top, classifier))
    rejects = reject and classifier.metadata.reject is not None
    selection = Selection(where, min_confidence, classifier.classes, rejects=rejects)
    if isinstance(source, Stream):
        stream = source
    else:
        stream = open_streams(
            source,
            stdin=stdin,
            columns=columns,
            follow_links=follow_links,
            outside=outside,
            watcher=watcher,
        )
    if folder is not None:
        _check_places(stream, folder, sort_by)
    begun = {
        "the classifier": hashlib.sha256(classifier.content).hexdigest()[:16],
        "the source": _place(stream.source),
        "top": results.top,
        "where": selection.where,
        "min_confidence": float(min_confidence),
        "reject": reject,
        "as_is": as_is,
        "tta": tta,
        "sort_into": None if folder is None else os.path.realpath(folder),
        "sort_by": None if folder is None else sort_by,
    }
    with ExitStack() as stack:
        journal = stack.enter_context(
            Journal(
                path,
                results.rows,
                begun,
                heading=results.heading,
                version=__version__,
                answers=len(classifier.classes) + 2,
                # A sorted image has its place already.
                stamps=folder is None,
            )
        )
        results.check(journal.key)
        work = Work(classifier.classes, results, selection, journal, reject=reject, watcher=watcher)
        if folder is not None:
            sources = [Path(_place(stream.source))] if stream.kind == "folder" else []
            work.sorter = Sorter(folder, sort_by, work.answers, journal, watcher, sources=sources)
            stack.callback(work.sorter.close)
        try:
            work.run(classifier, stream, as_is=as_is, tta=tta)
            journal.tidy()
            results.finish(journal.key, journal.tidied)
        except KeyboardInterrupt:
            watcher.note(
                f"{counted(journal.images, 'image is', 'images are')} done and kept; the same "
                "command goes on there"
            )
            raise
    return _summary(work, folder, time.monotonic() - began)


def _summary(work: Work, folder: Path | None, seconds: float) -> Classified:
    """Return what was done."""
    journal, classes = work.journal, len(work.answers) - 2
    answers: dict[str, int] = {}
    for number, count in journal.kept.most_common():
        answer = work.answers[number]
        answers[answer] = answers.get(answer, 0) + count
    refused, unreadable = journal.answers[classes], journal.answers[classes + 1]
    return Classified(
        out=work.results.out,
        images=journal.images,
        answered=journal.images - refused - unreadable,
        refused=refused,
        unreadable=unreadable,
        left_out=journal.images - journal.kept.total(),
        resumed=journal.resumed,
        answers=answers,
        sorted_into=folder,
        placed=work.sorter.placed if work.sorter else 0,
        unplaced=work.sorter.unplaced if work.sorter else 0,
        seconds=seconds,
    )


def _checked_top(top: int, classifier: Classifier) -> int:
    if top < 1:
        raise RecipeError("one class or more to name", f"got {top}", "Give 5, say.")
    return min(top, len(classifier.classes))


def _where_to(out: str | os.PathLike[str] | None, folder: Path | None, by: str) -> Path:
    """Return where the results go.

    Raises:
        RecipeError: Nowhere, or they would be sorted in no known way.
    """
    if by not in get_args(By):
        raise RecipeError("copy, link or move", f"got {by!r}", "Choose one of them.")
    if out is not None:
        if folder is None and by != "copy":
            raise RecipeError(
                f"a folder to {by} the images into", "there is none", "Give sort_into as well."
            )
        return Path(out)
    if folder is None:
        raise RecipeError(
            "a file for the answers or a folder to sort into",
            "there is neither",
            "Give out='results.jsonl', or use predict_each for answers one by one.",
        )
    return folder / RESULTS


def _check_places(stream: Stream, folder: Path, by: str) -> None:
    """See that images of this source can be placed below the folder.

    Raises:
        RecipeError: They cannot.
    """
    if stream.kind == "archive" and by != "copy":
        raise RecipeError(
            "images in files of their own to link or move",
            f"{stream.source} is one file",
            "Sort by copy.",
        )
    source, target = Path(_place(stream.source)), Path(os.path.realpath(folder))
    inside = source.is_relative_to(target) or target.is_relative_to(source)
    if stream.kind == "folder" and inside:
        # Sorted images would be found again and answered a second time.
        raise RecipeError(
            "a folder to sort into that lies beside the source",
            f"{folder} and {stream.source} lie in one another",
            "Give another folder.",
        )
    if by == "link" and stream.kind in ("folder", "table", "file"):
        parent = target
        while not parent.exists():
            parent = parent.parent
        if source.exists() and source.stat().st_dev != parent.stat().st_dev:
            raise RecipeError(
                "source and folder on one file system, as hard links need",
                f"{stream.source} and {folder} lie on different ones",
                "Sort by copy.",
            )


def _place(source: str) -> str:
    path = os.path.expanduser(source)  # noqa: PTH111  no error where there is no home
    return os.path.realpath(path) if os.path.lexists(path) else source
