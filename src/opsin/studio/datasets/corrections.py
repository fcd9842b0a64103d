"""Label corrections of a dataset in one file, with undo, and those of a run's images in it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import BaseModel

from opsin.core.errors import SourceError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.format import counted
from opsin.core.storage import storage_errors, write_json
from opsin.data.cache import digest_names
from opsin.data.corrections import LEFT_OUT, Correction, correct, write_corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.people import record, require

# An image's digest, name, and labels before and after: "" leaves it out, None is the
# source's. By content and name, since rows change when a set grows.
_Change = tuple[str, str, str | None, str | None]
_Changes = list[_Change]

#: Most undo steps, also after a restart; fewer for changes of many images.
STEPS: Final = 200
_STEPS_IMAGES: Final = 20_000


class _History(BaseModel):
    """``corrections.json``, written before the table: what can be undone."""

    done: list[_Changes] = []
    now: str = ""  # `Corrections._state` of its table
    # `now` and `done` before, in case the table is not written; then what an earlier version redid.
    was: tuple[str, list[_Changes], list[_Changes]] = ("", [], [])

    @classmethod
    def read(cls, path: Path) -> _History:
        """Read the file; damage gives an empty history."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        return cls()


class Corrections:
    """Corrections of a set's labels; the sources are never changed."""

    def __init__(self, folder: Path, opened: DecodedDataset) -> None:
        self.path = folder / "corrections.csv"
        self._history_file = folder / "corrections.json"
        self._lock = FileLock(folder / ".corrections.lock", timeout=10)
        self._opened = opened
        #: Names of the classes to choose from.
        self.classes = opened.classes
        self._stamp: tuple[FileStamp, ...] = ()
        # Lines of images that no longer exist.
        self._strange: list[Correction] = []
        self._now: dict[int, str] = {}  # by row; "" is left out
        self._history = _History()

    @property
    def key(self) -> str:
        """The key of the decoded images whose rows are meant."""
        return self._opened.key

    def now(self) -> dict[int, str | None]:
        """The class of each corrected image, by row; ``None`` is left out."""
        with self._held():
            return {row: label or None for row, label in self._now.items()}

    def steps(self) -> int:
        """The number of undo steps."""
        with self._held():
            return len(self._history.done)

    def labels(self) -> NDArray[np.int64]:
        """Each image's corrected class, -1 if left out: ``int64[N]``."""
        numbers = {name: label for label, name in enumerate(self.classes)}
        labels = self._opened.decoded.labels.copy()
        for row, label in self.now().items():
            labels[row] = -1 if label is None else numbers[label]
        return labels

    def put(self, rows: Collection[int], label: str | None) -> int:
        """Relabel images, or leave them out; return how many changed."""
        if label is not None and label not in self.classes:
            raise SourceError(
                f"The source has no class {label!r:.80}, only {', '.join(self.classes[:20])}",
                "Choose one of them; a new class needs images in the source.",
            )
        return self._put(rows, label or "")

    def take_back(self, rows: Collection[int]) -> int:
        """Restore the source's labels of images; return how many changed."""
        return self._put(rows, None)

    def undo(self) -> bool:
        """Undo the last change; return whether there was one."""
        with self._held():
            *earlier, last = self._history.done or [[]]
            if last:
                swapped = [(digest, name, after, before) for digest, name, before, after in last]
                self._do(swapped, earlier)
            return bool(last)

    @property
    def gone(self) -> int:
        """The number of lines of images that no longer exist, as of the last read."""
        return len(self._strange)

    def forget_gone(self) -> None:
        """Drop the lines of images that no longer exist."""
        require("labeller")
        with self._held():
            self._strange = []
            self._write(self._now)

    def _put(self, rows: Collection[int], after: str | None) -> int:
        wanted = self._opened.source_rows(rows)
        with self._held():
            changes, count = dict[tuple[str, str], _Change](), 0
            for row in wanted:
                key = self._opened.digest(row), self._opened.name(row)
                same = self._rows[key]
                changed = sum(
                    self._now.get(r, self._own(r)) != (self._own(r) if after is None else after)
                    for r in same
                )
                if changed and key not in changes:
                    before = next((self._now[r] for r in same if r in self._now), None)
                    changes[key] = (*key, before, after)
                    count += changed
            if step := list(changes.values()):
                self._do(step, [*self._history.done, step])
            return count

    @functools.cached_property
    def _rows(self) -> Mapping[tuple[str, str], list[int]]:
        """Rows by digest and name: several if the table cannot distinguish images."""
        rows = defaultdict[tuple[str, str], list[int]](list)
        decoded = self._opened.decoded
        for row, key in enumerate(zip(digest_names(decoded.digests), decoded.names, strict=True)):
            rows[key].append(row)
        return rows

    def _own(self, row: int) -> str:
        return self.classes[self._opened.label(row)]

    def _do(self, changes: _Changes, done: list[_Changes]) -> None:
        """Write the history of a change, then the change."""
        require("labeller")
        now = dict(self._now)
        for digest, name, _, label in changes:
            for row in self._rows.get((digest, name), ()):
                if label is None or label == self._own(row):
                    now.pop(row, None)
                else:
                    now[row] = label
        if sum(not label for label in now.values()) == len(self._opened):
            raise SourceError("All images would be left out", "Keep some.")
        while len(done) > STEPS or (len(done) > 1 and sum(map(len, done)) > _STEPS_IMAGES):
            done = done[1:]
        self._keep(done, now)
        self._write(now)

    def _keep(self, done: list[_Changes], now: dict[int, str]) -> None:
        was = self._state(self._now), self._history.done, list[_Changes]()
        history = _History(done=done, now=self._state(now), was=was)
        write_json(self._history_file, history.model_dump())
        self._history = history

    def _write(self, now: dict[int, str]) -> None:
        # If a class is named like the mark, an empty cell leaves images out instead.
        left_out = "" if LEFT_OUT in self.classes else LEFT_OUT
        rows = [
            Correction(self._opened.digest(row), self._opened.name(row), label or left_out)
            for row, label in sorted(now.items())
        ]
        write_corrections(self.path, [*rows, *self._strange])
        self._now, self._stamp = now, self._stamps()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Lock the files, and first read others' changes."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = self._lock.acquire()
        with held:
            if self._stamps() != self._stamp:
                self._now, self._strange = _as_training_reads(self.path, self._opened)
                self._history = _History.read(self._history_file)
                known = self._history.now or self.path.is_file()
                state, (before, steps, _) = self._state(self._now), self._history.was
                if known and state != self._history.now:
                    # The table was not written after the history, or others changed or removed it.
                    self._keep(steps if state == before else [], self._now)
                self._stamp = self._stamps()
            yield

    def _state(self, now: Mapping[int, str]) -> str:
        opened = self._opened
        content = sorted((opened.digest(row), opened.name(row), now[row]) for row in now)
        return hashlib.blake2s(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _stamps(self) -> tuple[FileStamp, ...]:
        return file_stamp(self.path), file_stamp(self._history_file)


def _as_training_reads(
    path: Path, opened: DecodedDataset
) -> tuple[dict[int, str], list[Correction]]:
    """The images that a table relabels, and its lines without an image."""
    if not path.is_file():
        return {}, []
    whole = opened.decoded
    corrected = correct(whole, path, missing_ok=True)
    kept = corrected.rows
    now = dict.fromkeys(np.setdiff1d(np.arange(len(opened)), kept).tolist(), "")
    for index in np.flatnonzero(corrected.labels != whole.labels[kept]):
        now[int(kept[index])] = opened.classes[corrected.labels[index]]
    digests = set(digest_names(whole.digests))
    names = {*whole.names, *(name for name, _ in whole.unreadable)}
    rows = corrected.corrected.rows if corrected.corrected else ()
    known = any(row.digest in digests for row in rows)
    strange = [
        row
        for row in rows
        if not (row.digest in digests or (row.name in names and not (row.digest and known)))
    ]
    return now, strange


class RunCorrections:
    """Corrections of a run's images, by the run's rows; stored in its set."""

    def __init__(self, whole: Corrections, opened: DecodedDataset, rows: NDArray[np.int64]) -> None:
        self.whole = whole
        self._opened = opened
        self.rows = rows  # of the run's images in the set

    def now(self) -> dict[int, str | None]:
        """Return the class of each image that differs from training."""
        labels = self.whole.labels()[self.rows]
        now = np.array([*self.whole.classes, None], object)[labels]  # -1, left out, is the last
        trained = np.array(self._opened.classes, object)[self._opened.decoded.labels]
        return {int(row): now[row] for row in np.flatnonzero(now != trained)}

    def put(self, rows: Collection[int], label: str | None) -> int:
        """Like `Corrections.put`, with the run's rows."""
        number = self.whole.put(self._in_set(rows), label)
        if number:
            done = "left out" if label is None else f"corrected to {label}"
            record(f"{counted(number, 'photograph')} {done}")
        return number

    def take_back(self, rows: Collection[int]) -> int:
        """Like `Corrections.take_back`, with the run's rows."""
        number = self.whole.take_back(self._in_set(rows))
        if number:
            record(f"took back the correction of {counted(number, 'photograph')}")
        return number

    def _in_set(self, rows: Collection[int]) -> list[int]:
        self._opened.source_rows(rows)  # checks them
        return [int(self.rows[row]) for row in rows]
