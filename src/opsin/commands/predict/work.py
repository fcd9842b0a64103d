"""Images taken up and answers kept, in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from opsin._version import __version__
from opsin.commands.own_images import noting_looks
from opsin.commands.predict.answers_file import Answer
from opsin.commands.predict.output import Output
from opsin.commands.predict.rows import UNREADABLE, ResultRow, row_of
from opsin.commands.predict.selection import Selection
from opsin.commands.predict.sorting import Sorter
from opsin.commands.predict.stream import Answered, classify_stream, held_bytes, prepare
from opsin.core.errors import ImageError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.read_ahead import read_ahead
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster, Unseen, unseen_or
from opsin.runtime.prediction import NONE_OF_THESE, Prediction, Prepared

# Answers are kept at least this often: images, and seconds.
_BATCH: Final = 512
_OFTEN: Final = 0.5
# Seconds between two lines where the number of images is unknown.
_SILENCE: Final = 10.0
_NAMED: Final = 3


class Work:
    """Takes up images that are not done, keeps their answers, and has them sorted."""

    def __init__(
        self,
        classes: Sequence[str],
        output: Output,
        selection: Selection,
        *,
        reject: bool,
        watcher: Watcher,
    ) -> None:
        self.kept = output.answers
        self.sorter: Sorter | None = None
        #: Every answer, at the place of its number in the file.
        self.answers = [*classes, NONE_OF_THESE, UNREADABLE]
        self._output, self._selection = output, selection
        self._reject, self._watcher = reject, watcher
        self._numbers = {label: number for number, label in enumerate(classes)}
        self._batch: list[tuple[ListedImage, ResultRow]] = []
        self._written = self._said = time.monotonic()
        self._passed = self._unreadable = self._inside = 0
        # How many images there are, where that is known.
        self._total: int | None = None
        self._one_at_a_time = threading.Lock()
        self._failure: BaseException | None = None

    def run(
        self,
        classifier: Classifier,
        stream: Stream,
        *,
        as_is: bool,
        tta: bool,
        cluster: Cluster | None,
    ) -> None:
        """Answer what is not done yet, here or on a cluster."""
        watcher = self._watcher
        if resumed := self.kept.resumed:
            watcher.fact("Resumed", f"{counted(resumed, 'image was', 'images were')} done before")
            if (version := self.kept.about.opsin) != __version__:
                watcher.note(
                    f"they were answered by Opsin {version}, the others will be by "
                    f"{__version__}; for answers of one version give another file"
                )
        self._total = stream.count()
        if self._total:
            watcher.begin("Predict", self._total, "images")
        try:
            left = replace(stream, each=lambda: self._not_done(stream))
            if cluster is None:
                answers = classify_stream(classifier, left, as_is=as_is, tta=tta)
            else:
                answers = _classify_on(cluster, classifier, left, as_is=as_is, tta=tta)
            self._take_all(classifier, stream, answers)
        finally:
            watcher.end()
        if self._inside and self.sorter is not None:
            lie = counted(self._inside, "image lies", "images lie")
            watcher.note(
                f"{lie} in {self.sorter.folder}, where sorted ones go; they were passed over"
            )
        if self._unreadable > _NAMED:
            watcher.note(
                f"{counted(self._unreadable, 'file')} could not be read; their rows in "
                f"{self.kept.out} say why"
            )

    def _take_all(
        self, classifier: Classifier, stream: Stream, answers: Generator[Answered]
    ) -> None:
        shard = None if stream.inputs is None else stream.inputs.fingerprint
        noted = noting_looks(answers, classifier, self._watcher, inputs=shard)
        try:
            # The stream first: a thread may be waiting for a name on standard input.
            with (
                closing(answers),
                closing(noted),
                closing(stream),
                self._written_in_time(stream),
            ):
                for image, answer in noted:
                    with self._one_at_a_time:
                        if self._failure is not None:
                            break
                        self._take(image, answer)
        except SourceError:
            # An archive that is torn ends here each time; its last answers must not be lost.
            self._write()
            raise
        if self._failure is not None:
            raise self._failure
        self._write()

    @contextmanager
    def _written_in_time(self, stream: Stream) -> Iterator[None]:
        """Keep answers after a while, even when no further name comes on standard input."""
        if stream.kind not in ("paths", "several"):
            yield
            return
        over = threading.Event()

        def look() -> None:
            while not over.wait(_OFTEN):
                with self._one_at_a_time:
                    try:
                        if self._batch:
                            self._write()
                    except Exception as error:  # noqa: BLE001  raised in the waiting thread
                        self._failure = error
                        stream.close()
                        return

        thread = threading.Thread(target=look, name="opsin-predict-write", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _not_done(self, stream: Stream) -> Iterator[ListedImage]:
        found = False
        try:
            for image in stream:
                found = True
                if self.sorter is not None and self.sorter.has_inside(image):
                    self._inside += 1
                elif self.kept.claim(image.name, unique=stream.unique):
                    yield image
                else:
                    self._passed += 1
        except SourceError:
            moved = self.sorter is not None and self.sorter.by == "move" and self.kept.resumed
            # A folder from which all images were moved holds none, as expected.
            if found or not moved or stream.kind != "folder":
                raise

    def _take(self, image: ListedImage, answer: Prediction | ImageError) -> None:
        row = row_of(image.name, answer, self._output.form.top, reject=self._reject)
        if row.error is not None:
            self._unreadable += 1
            if self._unreadable <= _NAMED:
                self._watcher.note(f"{row.image}: {row.error}")
        if self.sorter is None and isinstance(image.image, bytes):
            image = replace(image, image=b"")  # rows may wait for long, and contents are large
        self._batch.append((image, row))
        # Images to be sorted wait with their contents.
        most = _BATCH if self.sorter is None else _BATCH // 4
        if len(self._batch) >= most or time.monotonic() - self._written >= _OFTEN:
            self._write()

    def _write(self) -> None:
        """Keep the answers that there are, and place their images."""
        answers: list[Answer] = []
        wanted: list[tuple[ListedImage, str]] = []
        for image, row in self._batch:
            keep = self._selection.keeps(row)
            line = row.to_json_line() if keep else None
            answers.append(Answer(image.name, self._number(row), line))
            if keep and row.answer is not None:
                wanted.append((image, row.answer))
        if self.sorter is None:
            self._output.append(answers)
        else:
            self.sorter.place(wanted, answers)
        self._batch.clear()
        self._written = time.monotonic()
        done = self._passed + self.kept.images - self.kept.resumed
        if self._total:
            self._watcher.advance(min(done, self._total))
        elif self._written - self._said >= _SILENCE:
            self._said = self._written
            self._watcher.note(f"{done:,} images so far")

    def _number(self, row: ResultRow) -> int:
        if row.error is not None:
            return len(self._numbers) + 1
        return len(self._numbers) if row.rejected else self._numbers[row.label or ""]


def _classify_on(
    cluster: Cluster, classifier: Classifier, stream: Stream, *, as_is: bool, tta: bool
) -> Generator[Answered]:
    """Yield what `classify_stream` does, computed by the machines of a cluster."""
    answer = _BlockAnswerer(classifier, as_is, tta)
    return cluster.answers(answer, stream, cost=held_bytes, count=stream.count())


@dataclass(frozen=True, eq=False)
class _BlockAnswerer:
    """Answers blocks of images in another process, one after the other."""

    classifier: Classifier
    as_is: bool
    tta: bool

    def __call__(self, items: list[ListedImage]) -> list[Prediction | ImageError | Unseen]:
        answers: dict[int, Prediction | ImageError | Unseen] = {}
        ready: dict[int, Prepared] = {}

        def compute() -> None:
            found = self.classifier.predict_prepared(list(ready.values()), tta=self.tta)
            answers.update(
                (place, answer.without_pixels()) for place, answer in zip(ready, found, strict=True)
            )
            ready.clear()

        for place, item in enumerate(read_ahead(items)):
            try:
                ready[place] = prepare(self.classifier, item, as_is=self.as_is)
            except ImageError as error:
                answers[place] = unseen_or(error, item.path)
            if len(ready) >= max(8, self.classifier.batch_size):
                compute()
        compute()
        return [answers[place] for place in range(len(items))]
