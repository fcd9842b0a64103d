"""The verb `predict` with a file: many images, answers in a table."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

from pydantic import BaseModel, PlainSerializer

from opsin._version import __version__
from opsin.commands.predict.answers_file import Answer, AnswersFile
from opsin.commands.predict.out_file import OutFile, shard_facts
from opsin.commands.predict.rows import RowFormat, json_line, row_of
from opsin.commands.predict.sorting import RESULTS, SORTED, Sorter
from opsin.commands.predict.stream import (
    Progress,
    Sources,
    classify_stream,
    open_classifier,
    open_streams,
)
from opsin.commands.test_set_usage import noting_looks
from opsin.core.arguments import checked
from opsin.core.errors import ImageError, OpsinError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject
from opsin.data.image_stream import ListedImage, Shard, Stream
from opsin.data.sources import Reading
from opsin.data.sources.archive import is_archive
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.runtime.prediction import NONE_OF_THESE, Prediction
from opsin.stores.bucket import StoreAddress, is_stored


class Classified(BaseModel, frozen=True):
    """The result of `classify`, including earlier calls for the same file."""

    out: Annotated[Path | StoreAddress, PlainSerializer(str)]  #: The results
    images: int  #: Images that are done
    answered: int  #: Those with a class as their answer
    refused: int  #: Those whose answer is ``none of these``
    unreadable: int  #: Files that could not be read
    left_out: int  #: How many of all these ``min_confidence`` kept out of the results
    resumed: int  #: How many were done by earlier calls
    answers: dict[str, int]  #: How many rows have each answer, the most frequent first
    sorted_into: Path | None  #: The folder that images were sorted into
    placed: int  #: Images that this call placed there
    unplaced: int  #: Images that it could not place
    device: str  #: Where they were computed
    seconds: float  #: How long this call took


@checked
def classify(
    model: str | os.PathLike[str] | Classifier,
    source: Sources,
    *,
    out: str | os.PathLike[str] | None = None,
    top: int = 5,
    min_confidence: float = 0.0,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    sort_into: str | os.PathLike[str] | None = None,
    sort_by: Literal["copy", "move"] = "copy",
    shard: str | None = None,
    on: str = "local",
    device: str = "auto",
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
) -> Classified:
    """Answer any number of images, into a file and, if wanted, into folders.

    Killed at any moment, the same call continues where it was; later, it answers what was added
    since. Memory grows by 16 bytes for each image that was done before, or that a table, a list
    or an archive names.

    Args:
        model: A run, a ``classifier.onnx`` or an open classifier. With ``threads=1``, an image has
            the same answer in any batch, bit for bit.
        source: What `open_stream` takes, or several of these.
        out: ``.jsonl``, ``.csv`` or ``.parquet``; by default ``results.jsonl`` in ``sort_into``.
            On an object store (``s3://…``) it appears whole, at the end.
        top: How many classes each row names.
        min_confidence: Least probability of the label in rows to keep, 0 to 1.
        reject: Answer ``none of these`` for images unlike the training images.
        as_is: Leave backgrounds as they are.
        tta: Average over variations of an image, if that helped on the validation images.
        sort_into: Folder for the kept images, each in the folder of its answer. Files that cannot
            be read stay where they are. `undo` takes it back.
        sort_by: ``copy`` or ``move``. Nothing is overwritten.
        shard: ``2/3``: only the second of three equal parts of the source, into
            ``results-00002-of-00003.jsonl.sqlite``, from which `merge` makes the results.
        on: Where images are answered: ``local``, or on a Ray cluster, ``ray`` or
            ``ray://HOST:PORT``; the answers are the same.
        device: Where each machine computes: see `Classifier`; an open one stays where it is.
        watcher: Receives progress and notes.
        **reading: How it is read: ``columns={"path": "file"}``, if a table calls its columns
            otherwise; ``follow_links=True``, to enter folders through symbolic links;
            ``outside=True``, to let a table name images outside its folder.

    Raises:
        OpsinError: `RecipeError` for options that cannot work, or others than the results were
            begun with; `SourceError`, `RunError`, `ModelFileError`; `MissingExtraError` for
            Parquet without pyarrow; `StorageError` for a full disk: what is done is kept.

    Example:
        >>> done = classify("runs/boots", "photos", out="answers.csv")  # doctest: +SKIP
    """
    began = time.monotonic()
    folder = None if sort_into is None else Path(sort_into)
    part = None if shard is None else Shard.parse(shard)
    _check_options(out, folder, sort_by, part, top=top, min_confidence=min_confidence)
    out = out or Path(folder or "") / RESULTS
    target = OutFile.read(out, part)
    stream = open_streams(source, shard=part, watcher=watcher, **reading)
    classifier = open_classifier(model, device=device, tta=tta, watcher=watcher)
    with target.errors(), ExitStack() as stack:
        rows = target.path if part is None else Path(out)
        form = RowFormat(rows, min(top, len(classifier.classes)))
        if folder is not None:
            _check_places(source, folder)
        begun: JsonObject = {
            "the classifier": hashlib.sha256(classifier.content).hexdigest()[:16],
            "top": form.top,
            "where": [],
            "min_confidence": float(min_confidence),
            "reject": reject,
            "as_is": as_is,
            "tta": tta,
            **_source_facts(stream, target, folder, sort_by),
        }
        there = target.claim()
        cluster = stack.enter_context(Cluster(on, stream.sample())) if is_elsewhere(on) else None
        database = folder / SORTED if folder else target.database
        answers = AnswersFile(database, target.path, begun, kinds=len(classifier.classes) + 2)
        stack.enter_context(answers)
        work = _Work(classifier, stream, answers, watcher, form.top, reject, min_confidence)
        if folder is not None:
            work.sorter = Sorter(folder, sort_by, work.labels, answers, watcher)
            stack.callback(work.sorter.close)
        try:
            work.answer(cluster, target.shown, as_is=as_is, tta=tta)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                done = counted(answers.counts()[0].total(), "image is", "images are")
                watcher.note(f"{done} done and kept; the same command goes on there")
            # Shards and objects on a store appear when they are complete.
            if not answers.is_shard and target.address is None:
                with suppress(OpsinError):
                    answers.finish(form.write)
            raise
        answers.finish(form.write)
        target.publish(there, keep=True)
        return work.result(target.shown, folder, time.monotonic() - began)


def _check_options(
    out: object,
    folder: Path | None,
    sort_by: str,
    shard: Shard | None,
    *,
    top: int,
    min_confidence: float,
) -> None:
    if folder is None and out is None:
        raise RecipeError(
            "There is neither a file for the answers nor a folder to sort into",
            "Give out='results.jsonl', or use predict_each for answers one by one.",
        )
    if folder is None and sort_by != "copy":
        raise RecipeError(f"There is no folder to {sort_by} the images into")
    if folder is not None and shard is not None:
        raise RecipeError("The images of a shard cannot be sorted into folders")
    if top < 1:
        raise RecipeError(f"top must be at least 1, not {top}")
    if not 0 <= min_confidence <= 1:
        raise RecipeError(f"--min-confidence must be 0 to 1, not {min_confidence}")


@dataclass
class _Work:
    classifier: Classifier
    stream: Stream
    answers: AnswersFile
    watcher: Watcher
    top: int
    reject: bool
    min_confidence: float
    sorter: Sorter | None = None
    inside: int = 0  # images that lie where sorted ones go

    @property
    def labels(self) -> list[str]:
        """Every answer, in the order of its number in the file."""
        return [*self.classifier.classes, NONE_OF_THESE, "unreadable"]

    def answer(
        self, cluster: Cluster | None, out: Path | StoreAddress, *, as_is: bool, tta: bool
    ) -> None:
        """Answer the remaining images, here or on a cluster."""
        stream, watcher = self.stream, self.watcher
        if resumed := self.answers.resumed:
            watcher.fact("Resumed", f"{counted(resumed, 'image was', 'images were')} done before")
            if (version := self.answers.about.opsin) != __version__:
                watcher.note(
                    f"they were answered by Opsin {version}, the others will be by "
                    f"{__version__}; for answers of one version give another file"
                )
        self._progress = Progress("Predict", stream.count(), watcher, self._keep)
        answered = classify_stream(
            self.classifier,
            replace(stream, each=self._not_done),
            as_is=as_is,
            tta=tta,
            cluster=cluster,
        )
        inputs = None if stream.inputs is None else stream.inputs.fingerprint
        noted = noting_looks(answered, self.classifier, watcher, inputs=inputs)
        try:
            with closing(answered), closing(noted):
                for image, answer in noted:
                    self._take(image, answer)
        finally:  # the last answers before an error must not be lost
            self._progress.keep()
            watcher.end()
        if self.inside and self.sorter is not None:
            lie = counted(self.inside, "image lies", "images lie")
            watcher.note(f"{lie} in {self.sorter.folder}, where sorted ones go; passed over")
        self._progress.note_unreadable(f"; their rows in {out} say why")

    def _not_done(self) -> Iterator[ListedImage]:
        any_found = False
        try:
            for image in self.stream:
                any_found = True
                if self.sorter is not None and self.sorter.has_inside(image):
                    self.inside += 1
                elif self.answers.claim(image.name, unique=self.stream.unique):
                    yield image
                else:
                    self._progress.passed += 1
        except SourceError:
            moved = self.sorter is not None and self.sorter.by == "move" and self.answers.resumed
            # A folder from which all images were moved holds none, as expected.
            if any_found or not moved or self.stream.kind != "folder":
                raise

    def _take(self, image: ListedImage, answer: Prediction | ImageError) -> None:
        row = row_of(image.name, answer, self.top, reject=self.reject)
        if isinstance(answer, ImageError):
            self._progress.add_unreadable(image.name, str(row["error"]))
        if isinstance(image.image, bytes):
            image = replace(image, image=b"")  # rows may wait for long, and contents are large
        self._progress.add((image, row))

    def _keep(self, batch: list[tuple[ListedImage, dict[str, Any]]]) -> None:
        answers: list[Answer] = []
        wanted: list[tuple[ListedImage, str]] = []
        numbers = {label: number for number, label in enumerate(self.classifier.classes)}
        none = len(numbers)
        for image, row in batch:
            label, confidence = row["label"], row["confidence"]
            number = none + 1 if label is None else none if row["rejected"] else numbers[label]
            keep = confidence is None or confidence >= self.min_confidence
            answers.append(Answer(image.name, number, json_line(row) if keep else None))
            if keep and label is not None:
                wanted.append((image, row["answer"]))
        if self.sorter is None:
            self.answers.append(answers)
        else:
            self.sorter.place(wanted, answers)

    def result(self, out: Path | StoreAddress, folder: Path | None, seconds: float) -> Classified:
        answers, kept = self.answers.counts()
        labels, kept_labels = self.labels, dict[str, int]()
        for number, count in kept.most_common():  # a class may be called "unreadable"
            label = labels[number]
            kept_labels[label] = kept_labels.get(label, 0) + count
        images, classes = answers.total(), len(self.classifier.classes)
        refused, unreadable = answers[classes], answers[classes + 1]
        return Classified(
            out=out,
            images=images,
            answered=images - refused - unreadable,
            refused=refused,
            unreadable=unreadable,
            left_out=images - kept.total(),
            resumed=self.answers.resumed,
            answers=kept_labels,
            sorted_into=folder,
            placed=self.sorter.placed if self.sorter else 0,
            unplaced=self.sorter.unplaced if self.sorter else 0,
            device=self.classifier.device,
            seconds=seconds,
        )


def _source_facts(stream: Stream, target: OutFile, folder: Path | None, by: str) -> JsonObject:
    """Return where images come from and go to, which must not change on resuming."""
    if stream.inputs is not None:
        return shard_facts(stream.inputs)
    sorting: JsonObject = {"sort_into": None, "sort_by": None, "out": None}
    if folder is not None:
        out = os.path.realpath(target.path)
        sorting = {"sort_into": os.path.realpath(folder), "sort_by": by, "out": out}
    return {"the source": _real(stream.source), **sorting}


def _check_places(sources: Sources, folder: Path) -> None:
    """Refuse sources whose images cannot be placed below the folder."""
    if is_stored(folder):
        raise RecipeError(f"{folder} is on a store; images are sorted into a folder here")
    target = Path(os.path.realpath(folder))
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        if is_stored(source):
            raise RecipeError(f"{source} is on a store; images are sorted from folders here")
        path = Path(_real(os.fspath(source)))
        if path.is_file() and is_archive(path):
            raise RecipeError(f"{source} is one file", "Unpack it to sort its images.")
        if path.is_dir() and (path.is_relative_to(target) or target.is_relative_to(path)):
            # Sorted images would be found again and answered a second time.
            raise RecipeError(f"{folder} and {source} lie in one another", "Sort into another.")


def _real(source: str) -> str:
    path = os.path.expanduser(source)  # noqa: PTH111  no error where there is no home
    return os.path.realpath(path) if os.path.lexists(path) else source
