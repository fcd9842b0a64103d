"""The verb `classify`: many images, answers in files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, get_args

from opsin._version import __version__
from opsin.commands.classify.each import (
    note_unused_views,
    open_classifier,
    open_streams,
    refuse_swapped_sources,
)
from opsin.commands.classify.journal import Journal
from opsin.commands.classify.results import Results
from opsin.commands.classify.selection import Selection
from opsin.commands.classify.sorting import By, Sorter
from opsin.commands.classify.sorting_log import RESULTS
from opsin.commands.classify.work import Work
from opsin.commands.out_file import OutFile
from opsin.commands.shards import ShardTask
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.storage import rename_file
from opsin.core.stored_json import JsonObject
from opsin.data.image_stream import Stream
from opsin.data.shard import Shard
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.stores.store_address import StoreAddress, is_stored


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
        device: Where they were computed.
        seconds: How long this call took.
    """

    out: Path | StoreAddress
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
    device: str
    seconds: float

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        sorted_into = None if self.sorted_into is None else str(self.sorted_into)
        return asdict(self) | {"out": str(self.out), "sorted_into": sorted_into}


@checked
def classify(
    model: str | os.PathLike[str] | Classifier,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Stream, *,
    out: str | os.PathLike[str] | None = None, top: int = 5,
    where: Sequence[str] = (), min_confidence: float = 0.0,
    reject: bool = True, as_is: bool = False, tta: bool = False,
    sort_into: str | os.PathLike[str] | None = None, sort_by: By = "copy",
    columns: Mapping[str, str] | None = None, follow_links: bool = False, outside: bool = False,
    stdin: BinaryIO | None = None, shard: str | None = None, on: str = "local",
    device: str = "auto", watcher: Watcher = SILENT,
) -> Classified:  # fmt: skip
    """Answer any number of images, into a file and, if wanted, into folders.

    Killed at any moment, the same call goes on where it was; later, it answers what was added or
    replaced since. Memory grows by 16 bytes for each image that was done before, or that a table,
    a list or an archive names.

    Args:
        model: A run, a ``classifier.onnx`` or an open classifier. With ``threads=1``, an image has
            the same answer in any batch, bit for bit.
        source: What `open_stream` takes, several of these, or the stream of them.
        out: ``.jsonl``, ``.csv`` or ``.parquet``; by default ``results.jsonl`` in ``sort_into``.
            On an object store (``s3://…``) it appears whole, at the end.
        top: How many classes each row names.
        where: Rows to keep: ``label=CLASS``, ``answer=CLASS``, ``answer=none of these``,
            ``answer=unreadable``. Of one key any must hold, of both keys each.
        min_confidence: Least probability of the label in rows to keep, 0 to 1.
        reject: Answer ``none of these`` for images unlike the training images.
        as_is: Leave backgrounds as they are.
        tta: Average over variations of an image, if that helped on the validation images.
        sort_into: Folder for the kept images, each in the folder of its answer. Files that cannot
            be read stay where they are. `unsort` takes it back.
        sort_by: ``copy``, ``link`` (a second name) or ``move``. Nothing is overwritten.
        columns: Names of a table's columns, where they are others.
        follow_links: Enter folders through symbolic links.
        outside: Let a table name images outside its folder.
        stdin: What ``-`` reads.
        shard: ``2/3``: only the second of three equal parts of the source, into
            ``results-00002-of-00003.jsonl``, for `merge`.
        on: Where images are answered: ``local``, or on a Ray cluster, ``ray`` or
            ``ray://HOST:PORT``; the answers are the same.
        device: Where each machine computes: see `Classifier`; an open one stays where it is.
        watcher: Receives progress and notes.

    Raises:
        OpsinError: `RecipeError` for options that cannot work, or others than the results were
            begun with; `SourceError`, `RunError`, `ModelFileError`; `MissingExtraError` for
            Parquet without pyarrow; `StorageError` for a full disk: what is done is kept.

    Example:
        >>> done = classify("runs/boots", "photos", out="answers.csv")  # doctest: +SKIP
    """
    began = time.monotonic()
    options = _Options(top, where, min_confidence, reject, as_is, tta, sort_into, sort_by, on)
    place = OutFile.read(_where_to(out, options))
    if not isinstance(source, Stream):
        refuse_swapped_sources(model, source)
        source = open_streams(
            source, columns=columns, follow_links=follow_links, outside=outside,
            stdin=stdin, shard=None if shard is None else Shard.parse(shard), watcher=watcher,
        )  # fmt: skip
    classifier = open_classifier(model, device=device, watcher=watcher)
    part = None if source.inputs is None else source.inputs.shard
    place = _file_of(part, place, options.folder)
    with place.errors():
        return _answer(
            classifier, source, place, options, watcher=place.watcher(watcher), began=began
        )


@dataclass(frozen=True)
class _Options:
    """What `classify` was asked for, under the names of its arguments."""

    top: int
    where: Sequence[str]
    min_confidence: float
    reject: bool
    as_is: bool
    tta: bool
    sort_into: str | os.PathLike[str] | None
    sort_by: By
    on: str

    @property
    def folder(self) -> Path | None:
        """The folder to sort into."""
        return None if self.sort_into is None else Path(self.sort_into)

    def begun(
        self, classifier: Classifier, stream: Stream, top: int, where: list[str]
    ) -> JsonObject:
        """Return what rows depend on, as the journal keeps it."""
        folder = self.folder
        return {
            "the classifier": hashlib.sha256(classifier.content).hexdigest()[:16],
            "the source": _place(stream.source),
            "top": top,
            "where": where,
            "min_confidence": float(self.min_confidence),
            "reject": self.reject,
            "as_is": self.as_is,
            "tta": self.tta,
            "sort_into": None if folder is None else os.path.realpath(folder),
            "sort_by": None if folder is None else self.sort_by,
        }


# Of what rows depend on: where images come from and go to. The same images have the same answers
# elsewhere.
_PLACES: Final = ("the source", "sort_into", "sort_by")


def _answer(
    classifier: Classifier, stream: Stream, place: OutFile, options: _Options, *, watcher: Watcher,
    began: float,
) -> Classified:  # fmt: skip
    """Answer what is not done yet, and return what was done."""
    folder, inputs, path = options.folder, stream.inputs, place.path
    if options.tta:
        note_unused_views(classifier, watcher)
    results = Results(path, _checked_top(options.top, classifier), hidden=inputs is not None)
    rejects = options.reject and classifier.metadata.reject is not None
    selection = Selection(
        options.where, options.min_confidence, classifier.classes, rejects=rejects
    )
    if folder is not None:
        _check_places(stream, folder, options.sort_by)
    begun = options.begun(classifier, stream, results.top, selection.where)
    depends = {name: value for name, value in begun.items() if name not in _PLACES}
    task = None if inputs is None else ShardTask("predict", inputs, depends, path)
    claim = place.claim()
    if task is not None and (before := task.finished(claim.finished)) is not None:
        place.settle(claim)
        watcher.note(f"{path} is finished")
        return _as_before(place, before.summary, classifier.device, time.monotonic() - began)
    if inputs is not None:
        own = {"the list of images": inputs.fingerprint[:16], "the shard": str(inputs.shard)}
        begun = depends | own
    with ExitStack() as stack:
        cluster = None
        if is_elsewhere(options.on):
            cluster = stack.enter_context(Cluster(options.on, stream.sample()))
        journal = stack.enter_context(
            Journal(
                path,
                results.rows,
                begun,
                heading=results.heading,
                version=__version__,
                answers=len(classifier.classes) + 2,
                # A sorted image has its place already, and a shard's images stay as they are.
                stamps=folder is None and inputs is None,
            )
        )
        made = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
        results.check(made, journal.key.hex())
        work = Work(
            classifier.classes, results, selection, journal, reject=options.reject, watcher=watcher
        )
        if folder is not None:
            work.sorter = _sorter(folder, options.sort_by, stream, work)
            stack.callback(work.sorter.close)
        try:
            work.run(classifier, stream, as_is=options.as_is, tta=options.tta, cluster=cluster)
            journal.tidy()
            results.finish(made, journal.tidied)
        except KeyboardInterrupt:
            watcher.note(
                f"{counted(journal.images, 'image is', 'images are')} done and kept; the same "
                "command goes on there"
            )
            raise
        done = _summary(work, place, folder, classifier.device, time.monotonic() - began)
        if task is not None:
            _publish(task, results, journal, done)
        place.publish(claim, keep=task is None)
    return done


def _sorter(folder: Path, by: By, stream: Stream, work: Work) -> Sorter:
    """Return what sorts the answered images into a folder."""
    sources = [Path(_place(stream.source))] if stream.kind == "folder" else []
    return Sorter(folder, by, work.answers, work.journal, work.watcher, sources=sources)


def _file_of(shard: Shard | None, place: OutFile, folder: Path | None) -> OutFile:
    """Return where rows go; a shard has a file of its own.

    Raises:
        RecipeError: A shard's images are to be sorted into folders.
    """
    if shard is not None and folder is not None:
        raise RecipeError(
            "answers in a file, from a shard", "they are to be sorted", "Leave one out."
        )
    return place.of_shard(shard)


def _publish(task: ShardTask, results: Results, journal: Journal, done: Classified) -> None:
    """Give a shard its manifest and its name; its journal has served."""
    content = results.out if results.form == "parquet" else results.rows
    summary = done.to_json()
    journal.sync()
    if content != task.file:
        rename_file(content, task.file)
    task.finish(journal.kept.total(), {name: summary[name] for name in _KEPT_OF_SHARD})
    journal.remove()


def _summary(
    work: Work, place: OutFile, folder: Path | None, device: str, seconds: float
) -> Classified:
    """Return what was done."""
    journal, classes = work.journal, len(work.answers) - 2
    answers: dict[str, int] = {}
    for number, count in journal.kept.most_common():
        answer = work.answers[number]
        answers[answer] = answers.get(answer, 0) + count
    refused, unreadable = journal.answers[classes], journal.answers[classes + 1]
    return Classified(
        out=place.shown,
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
        device=device,
        seconds=seconds,
    )


# Of a finished shard, what running it again says.
_KEPT_OF_SHARD: Final = ("images", "answered", "refused", "unreadable", "left_out", "answers")


def _as_before(
    place: OutFile, summary: Mapping[str, Any], device: str, seconds: float
) -> Classified:
    """Return what was done for a shard that is finished."""
    return Classified(
        out=place.shown, resumed=summary["images"], sorted_into=None, placed=0, unplaced=0,
        device=device, seconds=seconds, **{name: summary[name] for name in _KEPT_OF_SHARD},
    )  # fmt: skip


def _checked_top(top: int, classifier: Classifier) -> int:
    if top < 1:
        raise RecipeError("one class or more to name", f"got {top}", "Give 5, say.")
    return min(top, len(classifier.classes))


def _where_to(out: str | os.PathLike[str] | None, options: _Options) -> str | os.PathLike[str]:
    """Return where the results go.

    Raises:
        RecipeError: Nowhere, or they would be sorted in no known way.
    """
    folder, by = options.folder, options.sort_by
    if by not in get_args(By):
        raise RecipeError("copy, link or move", f"got {by!r}", "Choose one of them.")
    if folder is not None:
        return folder / RESULTS if out is None else out
    if out is None:
        raise RecipeError(
            "a file for the answers or a folder to sort into",
            "there is neither",
            "Give out='results.jsonl', or use predict_each for answers one by one.",
        )
    if by != "copy":
        raise RecipeError(
            f"a folder to {by} the images into", "there is none", "Give sort_into as well."
        )
    return out


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
    if is_stored(folder) or (is_stored(stream.source) and by != "copy"):
        raise RecipeError(
            f"a folder of this machine to {by} the images into"
            if is_stored(folder)
            else "images on this machine to link or move",
            f"{folder if is_stored(folder) else stream.source} is on a store",
            "Sort into a folder here, by copy.",
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
