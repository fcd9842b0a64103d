"""Images taken up and answers written, in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from opsin._version import __version__
from opsin.commands.classify.journal import Journal, JournalEntry
from opsin.commands.classify.pipeline import Answered, classify_on, classify_stream
from opsin.commands.classify.results import UNREADABLE, ResultRow, Results, row_of
from opsin.commands.classify.selection import Selection
from opsin.commands.classify.sorting import Sorter
from opsin.commands.classify.stamps import UNKNOWN, stamp_of
from opsin.commands.own_images import noting_looks
from opsin.core.errors import ImageError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.data.image_stream import Stream, Unlabelled
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster
from opsin.runtime.prediction import NONE_OF_THESE, Prediction

# Answers are written at least this often: images, and seconds.
_BATCH: Final = 256
_OFTEN: Final = 0.5
# Seconds between two lines where the number of images is unknown.
_SILENCE: Final = 10.0
_NAMED: Final = 3


class Work:
    """Takes images up that are not done, and writes their answers.

    Args:
        classes: The classifier's classes.
        results: How rows are written.
        selection: Which of them.
        journal: What is done; open.
        reject: Whether strange images are answered by ``none of these``.
        watcher: Receives the progress.
    """

    def __init__(
        self,
        classes: Sequence[str],
        results: Results,
        selection: Selection,
        journal: Journal,
        *,
        reject: bool,
        watcher: Watcher,
    ) -> None:
        self.results, self.selection, self.journal = results, selection, journal
        self.reject, self.watcher = reject, watcher
        #: Every answer, at the place of its number in the journal.
        self.answers = [*classes, NONE_OF_THESE, UNREADABLE]
        self.sorter: Sorter | None = None
        self._numbers = {label: number for number, label in enumerate(classes)}
        self._batch: list[tuple[Unlabelled, ResultRow]] = []
        # Of what is on its way: as it was before it was read.
        self._stamps: dict[str, int] = {}
        self._written = self._said = time.monotonic()
        self._passed = self._unreadable = self._inside = 0
        # How many images there are, where that is known.
        self._total: int | None = None
        self._one_at_a_time = threading.Lock()
        self._over = threading.Event()
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
        """Answer what is not done yet, here or on a cluster.

        Raises:
            SourceError: The source turned out to be damaged; what came before that is kept.
            StorageError: The disk refuses a write.
        """
        journal, watcher = self.journal, self.watcher
        if journal.resumed:
            watcher.fact(
                "Resumed", f"{counted(journal.resumed, 'image was', 'images were')} done before"
            )
            if journal.version != __version__:
                watcher.note(
                    f"they were answered by Opsin {journal.version}, the others will be by "
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
                answers = classify_on(
                    cluster, classifier, left, count=self._total, as_is=as_is, tta=tta
                )
            self._take_all(classifier, stream, answers)
        finally:
            watcher.end()
        if journal.replaced:
            replaced = counted(journal.replaced, "image was", "images were")
            watcher.note(f"{replaced} replaced since and will be answered again")
        if self._inside and self.sorter is not None:
            watcher.note(
                f"{counted(self._inside, 'image lies', 'images lie')} in {self.sorter.folder}, "
                "where sorted ones go; "
                "they were passed over"
            )
        if self._unreadable > _NAMED:
            watcher.note(
                f"{counted(self._unreadable, 'file')} could not be read; their rows in "
                f"{self.results.out} say why"
            )

    def _take_all(
        self, classifier: Classifier, stream: Stream, answers: Generator[Answered]
    ) -> None:
        shard = None if stream.inputs is None else stream.inputs.fingerprint
        noted = noting_looks(answers, classifier, self.watcher, inputs=shard)
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
        """Write answers after a while, even when no further name comes on standard input."""
        if stream.kind not in ("paths", "several"):
            yield
            return

        def look() -> None:
            while not self._over.wait(_OFTEN):
                with self._one_at_a_time:
                    try:
                        if self._batch:
                            self._write()
                    except Exception as error:  # noqa: BLE001  raised in the waiting thread
                        self._failure = error
                        stream.close()
                        return

        thread = threading.Thread(target=look, name="opsin-classify-write", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _not_done(self, stream: Stream) -> Iterator[Unlabelled]:
        found = False
        try:
            for image in stream:
                found = True
                if self.sorter is not None and self.sorter.has_inside(image):
                    self._inside += 1
                elif self._is_new(image, unique=stream.unique):
                    yield image
                else:
                    self._passed += 1
        except SourceError:
            moved = self.sorter is not None and self.sorter.by == "move" and self.journal.resumed
            # A folder from which all images were moved holds none, as expected.
            if found or not moved or stream.kind != "folder":
                raise

    def _is_new(self, image: Unlabelled, *, unique: bool) -> bool:
        if self.sorter is not None:
            return self.journal.claim(image.name, unique=unique)
        stamp = stamp_of(image, self.journal.key)
        if new := self.journal.claim(image.name, unique=unique, stamp=stamp):
            self._stamps[image.name] = stamp
        return new

    def _take(self, image: Unlabelled, answer: Prediction | ImageError) -> None:
        row = row_of(image.name, answer, self.results.top, reject=self.reject)
        if row.error is not None:
            self._unreadable += 1
            if self._unreadable <= _NAMED:
                self.watcher.note(f"{row.image}: {row.error}")
        if self.sorter is None and isinstance(image.image, bytes):
            image = replace(image, image=b"")  # rows may wait for long, and contents are large
        self._batch.append((image, row))
        if len(self._batch) >= _BATCH or time.monotonic() - self._written >= _OFTEN:
            self._write()

    def _write(self) -> None:
        """Write the answers that there are, and place their images."""
        kept = [self.selection.keeps(row) for _, row in self._batch]
        entries = [
            JournalEntry(
                image.name,
                self._number(row),
                self.results.encode(row) if keep else b"",
                self._stamps.pop(image.name, UNKNOWN),
            )
            for (image, row), keep in zip(self._batch, kept, strict=True)
        ]
        if self.sorter is None:
            self.journal.append(entries)
        else:
            wanted = [
                (image, row.answer)
                for (image, row), keep in zip(self._batch, kept, strict=True)
                if keep and row.answer is not None
            ]
            self.sorter.place(wanted, lambda: self.journal.append(entries))
        self._batch.clear()
        self._written = time.monotonic()
        done = self.journal.images - self.journal.resumed
        if self._total:
            self.watcher.advance(min(self._passed + done, self._total))
        elif self._written - self._said >= _SILENCE:
            self._said = self._written
            self.watcher.note(f"{self._passed + done:,} images so far")

    def _number(self, row: ResultRow) -> int:
        if row.error is not None:
            return len(self._numbers) + 1
        return len(self._numbers) if row.rejected else self._numbers[row.label or ""]
