"""The verb `predict` with a file: many images, answers in a table."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from opsin.commands.out_file import OutFile
from opsin.commands.predict.answers_file import AnswersFile, database_beside
from opsin.commands.predict.output import Output
from opsin.commands.predict.rows import RowFormat
from opsin.commands.predict.selection import Selection
from opsin.commands.predict.sorting import RESULTS, SORTED, By, Sorter
from opsin.commands.predict.stream import (
    Sources,
    open_classifier,
    open_streams,
    refuse_swapped_sources,
)
from opsin.commands.predict.work import Work
from opsin.commands.shards import ShardTask
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject
from opsin.data.image_stream import Stream
from opsin.data.shard import Shard
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.stores.store_address import StoreAddress, is_stored

# Of a finished shard, what running it again says.
_KEPT_OF_SHARD: Final = ("images", "answered", "refused", "unreadable", "left_out", "answers")


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

    Killed at any moment, the same call continues where it was; later, it answers what was added
    since. Memory grows by 16 bytes for each image that was done before, or that a table, a list
    or an archive names.

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
            be read stay where they are. `undo` takes it back.
        sort_by: ``copy`` or ``move``. Nothing is overwritten.
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
    folder = None if sort_into is None else Path(sort_into)
    place = OutFile.read(_where_to(out, folder, sort_by))
    if not isinstance(source, Stream):
        source = _opened(
            model, source, shard, columns=columns, follow_links=follow_links, outside=outside,
            stdin=stdin, watcher=watcher,
        )  # fmt: skip
    classifier = open_classifier(model, device=device, tta=tta, watcher=watcher)
    if source.inputs is not None:
        if folder is not None:
            raise RecipeError(
                "answers in a file, from a shard", "they are to be sorted", "Leave one out."
            )
        place = place.of_shard(source.inputs.shard)
    if top < 1:
        raise RecipeError("one class or more to name", f"got {top}", "Give 5, say.")
    with place.errors():
        rejects = reject and classifier.metadata.reject is not None
        predicting = _Predicting(
            classifier=classifier, stream=source, place=place, folder=folder, by=sort_by, on=on,
            form=RowFormat(place.path, min(top, len(classifier.classes))),
            selection=Selection(where, min_confidence, classifier.classes, rejects=rejects),
            reject=reject, as_is=as_is, tta=tta, watcher=place.watcher(watcher), began=began,
        )  # fmt: skip
        return predicting.run()


def _opened(
    model: str | os.PathLike[str] | Classifier, source: Sources, shard: str | None, **options: Any
) -> Stream:
    refuse_swapped_sources(model, source)
    return open_streams(source, shard=None if shard is None else Shard.parse(shard), **options)


@dataclass(frozen=True, kw_only=True)
class _Predicting:
    """One call of `classify`: what is to be answered, how, and where to."""

    classifier: Classifier
    stream: Stream
    place: OutFile
    form: RowFormat
    selection: Selection
    reject: bool
    as_is: bool
    tta: bool
    folder: Path | None
    by: By
    on: str
    watcher: Watcher
    began: float

    def run(self) -> Classified:
        """Answer what is not done yet, and return what was done."""
        if self.folder is not None:
            _check_places(self.stream, self.folder, self.by)
        task, claim = self._task(), self.place.claim()
        if task is not None and (before := task.finished(claim.finished)) is not None:
            self.place.settle(claim)
            self.watcher.note(f"{self.place.path} is finished")
            images = int(before.summary["images"])
            kept = {name: before.summary[name] for name in _KEPT_OF_SHARD}
            return self._classified(resumed=images, **kept)
        with ExitStack() as stack:
            cluster = None
            if is_elsewhere(self.on):
                cluster = stack.enter_context(Cluster(self.on, self.stream.sample()))
            path = self.place.path
            database = self.folder / SORTED if self.folder else database_beside(path)
            kinds = len(self.classifier.classes) + 2
            answers = stack.enter_context(AnswersFile(database, path, self._begun(), kinds=kinds))
            whole = self.place.address is not None or task is not None
            output = stack.enter_context(closing(Output(self.form, answers, whole=whole)))
            work = Work(
                self.classifier.classes, output, self.selection, reject=self.reject,
                watcher=self.watcher,
            )  # fmt: skip
            if self.folder is not None:
                folders = [Path(_real(self.stream.source))] if self.stream.kind == "folder" else []
                sorter = Sorter(
                    self.folder, self.by, work.answers, output, sources=folders,
                    watcher=self.watcher,
                )  # fmt: skip
                work.sorter = stack.enter_context(closing(sorter))
            try:
                work.run(
                    self.classifier, self.stream, as_is=self.as_is, tta=self.tta, cluster=cluster
                )
                output.finish()
            except KeyboardInterrupt:
                kept_now = counted(answers.images, "image is", "images are")
                self.watcher.note(f"{kept_now} done and kept; the same command goes on there")
                raise
            done = self._summary(work)
            if task is not None:
                summary = done.to_json()
                task.finish(answers.kept.total(), {name: summary[name] for name in _KEPT_OF_SHARD})
                answers.remove()
            self.place.publish(claim, keep=task is None)
        return done

    def _depends(self) -> JsonObject:
        """What rows depend on, wherever the images come from and go to."""
        return {
            "the classifier": hashlib.sha256(self.classifier.content).hexdigest()[:16],
            "top": self.form.top,
            "where": self.selection.where,
            "min_confidence": float(self.selection.min_confidence),
            "reject": self.reject,
            "as_is": self.as_is,
            "tta": self.tta,
        }

    def _begun(self) -> JsonObject:
        """What the work was begun with: with something else it cannot continue."""
        depends, inputs = self._depends(), self.stream.inputs
        if inputs is not None:
            own = {"the list of images": inputs.fingerprint[:16], "the shard": str(inputs.shard)}
            return depends | own
        sorting: JsonObject = {"sort_into": None, "sort_by": None, "out": None}
        if self.folder is not None:
            out = os.path.realpath(self.place.path)
            sorting = {"sort_into": os.path.realpath(self.folder), "sort_by": self.by, "out": out}
        return depends | {"the source": _real(self.stream.source), **sorting}

    def _task(self) -> ShardTask | None:
        inputs = self.stream.inputs
        if inputs is None:
            return None
        return ShardTask("predict", inputs, self._depends(), self.place.path)

    def _summary(self, work: Work) -> Classified:
        kept = work.kept
        counts: dict[str, int] = {}
        for number, count in kept.kept.most_common():
            answer = work.answers[number]
            counts[answer] = counts.get(answer, 0) + count
        classes = len(self.classifier.classes)
        refused, unreadable = kept.answers[classes], kept.answers[classes + 1]
        return self._classified(
            images=kept.images,
            answered=kept.images - refused - unreadable,
            refused=refused,
            unreadable=unreadable,
            left_out=kept.images - kept.kept.total(),
            resumed=kept.resumed,
            answers=counts,
            placed=work.sorter.placed if work.sorter else 0,
            unplaced=work.sorter.unplaced if work.sorter else 0,
        )

    def _classified(self, *, placed: int = 0, unplaced: int = 0, **counts: Any) -> Classified:
        return Classified(
            out=self.place.shown,
            sorted_into=self.folder,
            placed=placed,
            unplaced=unplaced,
            device=self.classifier.device,
            seconds=time.monotonic() - self.began,
            **counts,
        )


def _where_to(
    out: str | os.PathLike[str] | None, folder: Path | None, by: By
) -> str | os.PathLike[str]:
    """Where the results go; refuse nowhere."""
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


def _check_places(stream: Stream, folder: Path, by: By) -> None:
    """Refuse a source whose images cannot be placed below the folder."""
    if stream.kind == "archive" and by != "copy":
        raise RecipeError(
            "images in files of their own to move", f"{stream.source} is one file", "Sort by copy."
        )
    if is_stored(folder) or (is_stored(stream.source) and by != "copy"):
        raise RecipeError(
            f"a folder of this machine to {by} the images into"
            if is_stored(folder)
            else "images on this machine to move",
            f"{folder if is_stored(folder) else stream.source} is on a store",
            "Sort into a folder here, by copy.",
        )
    source, target = Path(_real(stream.source)), Path(os.path.realpath(folder))
    inside = source.is_relative_to(target) or target.is_relative_to(source)
    if stream.kind == "folder" and inside:
        # Sorted images would be found again and answered a second time.
        raise RecipeError(
            "a folder to sort into that lies beside the source",
            f"{folder} and {stream.source} lie in one another",
            "Give another folder.",
        )


def _real(source: str) -> str:
    path = os.path.expanduser(source)  # noqa: PTH111  no error where there is no home
    return os.path.realpath(path) if os.path.lexists(path) else source
