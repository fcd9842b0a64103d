"""Relabel, leave out, undo, in one file."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, TypedDict, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.files import ConfinedDir, FileStamp, file_stamp
from opsin.core.storage import storage_errors, write_json
from opsin.core.stored_json import EventLog
from opsin.data.apply_corrections import correct
from opsin.data.cache import as_keys, digest_names
from opsin.data.corrections import LEFT_OUT, Correction, write_corrections
from opsin.studio.datasets.audit_result import MOVED
from opsin.studio.datasets.decoded_dataset import DecodedDataset

# What one image was and became: its row, its class before and after; None is left out.
_Change = tuple[int, str | None, str | None]
# A line of the log: states of the table, and digest, name, class before and after of each image.
_Logged = TypedDict("_Logged", {
    "at": float, "do": str, "was": str, "is": str,
    "changes": list[tuple[str, str, str | None, str | None]],
})  # fmt: skip
_FIELDS: Final = {"do", "was", "is", "changes"}
#: Changes that can be taken back, after a restart too.
STEPS: Final = 200


class Corrections:
    """What people say about the labels of a set; the sources themselves are never changed."""

    def __init__(self, folder: Path, opened: DecodedDataset) -> None:
        self.path = folder / "corrections.csv"
        self._opened = opened
        self._log = folder / "undo.jsonl"
        self._lock = FileLock(folder / ".corrections.lock", timeout=10)
        self._classes = opened.classes
        self._own = opened.decoded.labels
        self._twins = _twins(opened)
        self._stamp: tuple[FileStamp, ...] = ()
        self._strange: list[Correction] = []
        self._now: dict[int, str | None] = {}
        self._done: list[list[_Change]] = []
        self._undone: list[list[_Change]] = []

    @property
    def classes(self) -> list[str]:
        """Names of the classes that an image may be given."""
        return list(self._classes)

    def now(self) -> dict[int, str | None]:
        """Return the class of each image that was corrected, by row; ``None`` is left out."""
        with self._held():
            return dict(self._now)

    def steps(self) -> tuple[int, int]:
        """Return how many changes can be taken back, and how many made again."""
        with self._held():
            return len(self._done), len(self._undone)

    def put(self, rows: Collection[int], label: str | None) -> int:
        """Give images a class, or leave them out."""
        if label is not None and label not in self._classes:
            raise SourceError(
                f"a class among {', '.join(self._classes[:20])}",
                f"the source has no {label!r:.80}",
                "Choose one of them; a new class needs images in the source.",
            )
        wanted = {twin for row in self._opened.source_rows(rows) for twin in self._same(row)}
        with self._held():
            changes = [
                (row, before, label)
                for row in sorted(wanted)
                if (before := self.label(row)) != label
            ]
            self._do("put", changes)
            return len(changes)

    def take_back(self, rows: Collection[int]) -> int:
        """Give images the class again that the source says."""
        wanted = {twin for row in self._opened.source_rows(rows) for twin in self._same(row)}
        with self._held():
            changes = [
                (row, self._now[row], self._classes[self._own[row]])
                for row in sorted(wanted & self._now.keys())
            ]
            self._do("put", changes)
            return len(changes)

    def undo(self) -> bool:
        """Take the last change back; return whether there was one."""
        with self._held():
            if not self._done:
                return False
            self._do("undo", [(row, new, old) for row, old, new in self._done[-1]])
            return True

    def redo(self) -> bool:
        """Make the last change that was taken back again; return whether there was one."""
        with self._held():
            if not self._undone:
                return False
            self._do("redo", self._undone[-1])
            return True

    def forget_gone(self) -> None:
        """Drop the lines that mean images which are not here any more."""
        with self._held():
            self._strange = []
            self._write(self._now)
            self._stamp = self._stamps()

    def labels(self) -> NDArray[np.int64]:
        """Return each image's class with its correction, -1 where it is left out: ``int64[N]``."""
        numbers = {name: label for label, name in enumerate(self._classes)}
        labels = self._own.copy()
        for row, said in self.now().items():
            labels[row] = -1 if said is None else numbers[said]
        return labels

    @property
    def gone(self) -> int:
        """How many lines of the table mean images that are not here any more."""
        return len(self._strange)

    def label(self, row: int) -> str | None:
        """Return an image's class with its correction, as of the last look at the file."""
        return self._now[row] if row in self._now else self._classes[self._own[row]]

    @property
    def source_labels(self) -> NDArray[np.int64]:
        """Class of each image as the source says, ``int64[N]``."""
        return self._own

    def _same(self, row: int) -> tuple[int, ...]:
        return self._twins.get(row, (row,))

    def _do(self, what: str, changes: list[_Change]) -> None:
        """Write a change down, then make it."""
        if not changes:
            return
        after = self._after(changes)
        if sum(label is None for label in after.values()) == len(self._own):
            raise SourceError("images that remain", "all would be left out", "Keep some.")
        opened = self._opened
        line: _Logged = {
            "at": time.time(),
            "do": what,
            "was": self._state(self._now),
            "is": self._state(after),
            # By content and name: the rows of a set that grows are others tomorrow.
            "changes": [
                (opened.digest(row), opened.name(row), old, new) for row, old, new in changes
            ],
        }
        with storage_errors(self._log), ConfinedDir(self._log.parent) as folder:
            EventLog(folder, self._log.name).append(line)
        self._write(after)
        self._now, self._stamp = after, self._stamps()
        self._step(what, changes)

    def _after(self, changes: list[_Change]) -> dict[int, str | None]:
        after = dict(self._now)
        for row, _, label in changes:
            if label == self._classes[self._own[row]]:
                after.pop(row, None)
            else:
                after[row] = label
        return after

    def _write(self, now: dict[int, str | None]) -> None:
        # A class may be called like the mark; an empty cell leaves images out as well.
        left_out = "" if LEFT_OUT in self._classes else LEFT_OUT
        opened = self._opened
        rows = [
            Correction(opened.digest(row), opened.name(row), left_out if said is None else said)
            for row, said in sorted(now.items())
        ]
        write_corrections(self.path, [*rows, *self._strange])
        self._count(now)

    def _count(self, now: Mapping[int, str | None]) -> None:
        """Keep for the list of sets how many images each class has more, or fewer."""
        moved: Counter[str] = Counter()
        for row, said in now.items():
            moved[self._classes[self._own[row]]] -= 1
            if said is not None:
                moved[said] += 1
        stamp = file_stamp(self.path)
        write_json(self.path.with_name(MOVED), {
            "table": [stamp.mtime_ns, stamp.size], "moved": moved,
        })  # fmt: skip

    def _step(self, what: str, changes: list[_Change]) -> None:
        """Remember what can be taken back and made again."""
        if what == "put":
            self._done = [*self._done, changes][-STEPS:]
            self._undone = []
        elif what == "undo" and self._done:
            self._undone.append(self._done.pop())
        elif what == "redo" and self._undone:
            self._done.append(self._undone.pop())

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Keep others out, and learn first what they have written."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = self._lock.acquire()
        with held:
            if self._stamps() != self._stamp:
                self._read()
                self._stamp = self._stamps()
            yield

    def _read(self) -> None:
        self._now, self._strange = _as_training_reads(self.path, self._opened)
        if self.path.is_file():
            self._count(self._now)
        self._done, self._undone = [], []
        lines = _logged(self._log)
        if not lines:
            return
        here = self._state(self._now)
        if here == lines[-1]["was"] != lines[-1]["is"]:
            # Killed between the line and the table.
            self._now = self._after(self._rows_of([lines[-1]])[0])
            self._write(self._now)
            here = self._state(self._now)
        own = [i for i in range(1, len(lines)) if lines[i]["was"] != lines[i - 1]["is"]]
        lines = lines[own[-1] if own else 0 :] if here == lines[-1]["is"] else []
        for line, changes in zip(lines, self._rows_of(lines), strict=True):
            self._step(line["do"], changes)

    def _rows_of(self, lines: list[_Logged]) -> list[list[_Change]]:
        wanted = {(digest, name) for line in lines for digest, name, _, _ in line["changes"]}
        digests = {digest for digest, _ in wanted}
        rows: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, digest in enumerate(digest_names(self._opened.decoded.digests)):
            if digest in digests:
                rows[digest, self._opened.name(place)].append(place)
        found = []
        for line in lines:
            # Of images that a table cannot tell apart, each has an entry of its own.
            left = {key: iter(places) for key, places in rows.items()}
            found.append(
                [
                    (row, old, new)
                    for digest, name, old, new in line["changes"]
                    if (row := next(left.get((digest, name), iter(())), None)) is not None
                ]
            )
        return found

    def _state(self, now: Mapping[int, str | None]) -> str:
        opened = self._opened
        content = sorted((opened.digest(row), opened.name(row), now[row] or "") for row in now)
        return hashlib.blake2s(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _stamps(self) -> tuple[FileStamp, ...]:
        return tuple(map(file_stamp, (self.path, self._log)))


def _as_training_reads(
    path: Path, opened: DecodedDataset
) -> tuple[dict[int, str | None], list[Correction]]:
    """Return the images whose class a table changes, and its lines that mean none of them."""
    if not path.is_file():
        return {}, []
    whole = opened.decoded
    corrected = correct(whole, path, missing_ok=True)
    kept = corrected.rows
    now: dict[int, str | None] = dict.fromkeys(
        np.setdiff1d(np.arange(len(opened)), kept).tolist(), None
    )
    for place in np.flatnonzero(corrected.labels != whole.labels[kept]):
        now[int(kept[place])] = opened.classes[corrected.labels[place]]
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


def _logged(log: Path) -> list[_Logged]:
    with contextlib.suppress(OSError, ValueError), ConfinedDir(log.parent) as folder:
        events = EventLog(folder, log.name).read(skip=True)
        sound = (event for event in events if isinstance(event, dict) and set(event) >= _FIELDS)
        return [cast(_Logged, event) for event in sound]
    return []


def _twins(opened: DecodedDataset) -> dict[int, tuple[int, ...]]:
    """Return the rows that a table cannot tell apart: the same pixels under the same name."""
    keys = as_keys(opened.decoded.digests)
    order = np.argsort(keys, kind="stable")
    again = keys[order][1:] == keys[order][:-1]
    groups: dict[tuple[bytes, str], list[int]] = defaultdict(list)
    for row in np.unique(np.concatenate([order[:-1][again], order[1:][again]])).tolist():
        groups[keys[row].tobytes(), opened.name(row)].append(row)
    return {row: tuple(rows) for rows in groups.values() if len(rows) > 1 for row in rows}
