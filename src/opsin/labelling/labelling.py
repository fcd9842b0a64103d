"""Labels for a heap of photographs: groups to name, questions, and how good it is by now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel

from opsin.backbones.backbone import open_backbone
from opsin.core.arguments import checked
from opsin.core.arrays import Bools, Ints
from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import state_root
from opsin.data.sources import open_stream
from opsin.evaluation.intervals import Interval
from opsin.labelling.estimate import answers_without_own, figure_of, judge, promise_of
from opsin.labelling.groups import Group, groups_of, usual_number
from opsin.labelling.heap import Heap, read_heap
from opsin.labelling.label_file import FOLDERS, Answer, LabelFile
from opsin.labelling.learner import FittedLearner, HeapLearner
from opsin.labelling.questions import Why, next_rows

# Photographs without a label whose answers are compared for the next question, at most.
_COMPARED: Final = 5_000
#: The network whose features tell photographs apart.
USUAL: Final = "efficientnet-lite2"
#: What is said of a photograph instead of a class.
NONE, UNCLEAR = "none of the classes", "unclear"


def usual_file(source: str | os.PathLike[str]) -> Path:
    """Where the labels of a source are kept."""
    place = os.path.realpath(os.path.expanduser(source))  # noqa: PTH111  never raises
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    return state_root() / "labels" / f"{name}.sqlite"


class Question(BaseModel, frozen=True):
    """A photograph to ask about, with the present guess."""

    image: str
    guess: str | None = None
    probability: float | None = None
    why: Why


class Progress(BaseModel, frozen=True):
    """How far the labels are, and how good what they teach is."""

    images: int
    labelled: int
    counts: dict[str, int]
    # Of the random share, each photograph judged without its own label; ``None`` with too few.
    accuracy: float | None = None
    interval: Interval | None = None
    judged: int = 0
    # Further labels, and the gain they would probably bring, with its 90% interval.
    more: int | None = None
    gain: float | None = None
    gain_interval: Interval | None = None


class Doubt(NamedTuple):
    """A label that the other labels speak against."""

    row: int
    label: str
    guess: str
    margin: float  # how much likelier the guess is


@dataclass(frozen=True)
class _Known:
    """The labels now, by rows of the heap; copies once."""

    classes: list[str]
    rows: Ints
    labels: Ints
    others: Ints  # rows that are unclear, or of no class
    by_hand: Ints  # rows that were sorted into folders, and not asked about

    @cached_property
    def present(self) -> tuple[Ints, Ints]:
        """The classes that have labels, and each label among them."""
        present, labels = np.unique(self.labels, return_inverse=True)
        return present, labels.ravel().astype(np.int64)


@checked
class Labelling:
    """Labels of a heap's photographs: what to ask next, and what follows from the answers.

    Args:
        heap: The photographs; `Labelling.open` reads them.
        file: Where labels are kept.
        who: Whose answers these are: no photograph is asked of two people.

    Example:
        >>> heap = opsin.Labelling.open("photographs", classes=["paper", "metal"])  # doctest: +SKIP
        >>> asked = heap.next(20)                                                   # doctest: +SKIP
        >>> heap.label({asked[0].image: "paper"})                                   # doctest: +SKIP
        1
        >>> heap.progress().accuracy                                                # doctest: +SKIP
        0.87
    """

    def __init__(self, heap: Heap, file: LabelFile, *, who: str = "") -> None:
        self.heap, self.file, self.who = heap, file, who
        self._learner = HeapLearner(heap.points)
        self._known: _Known | None = None
        self._taught: tuple[_Known, FittedLearner | None] | None = None
        self._grouped: tuple[int | None, list[Group]] = None, []

    @classmethod
    def open(
        cls, source: str | os.PathLike[str], *, classes: Sequence[str] = (),
        file: str | os.PathLike[str] | None = None, backbone: str = USUAL, who: str = "",
        columns: Mapping[str, str] | None = None, follow_links: bool = False,
        outside: bool = False, watcher: Watcher = SILENT,
    ) -> Labelling:  # fmt: skip
        """Read a heap's photographs, and its labels so far.

        Args:
            source: Photographs without classes, as `classify` takes them: a folder, a table, an
                archive.
            classes: Names of classes to begin with.
            file: Where labels are kept (default: in the account's state folder, by the source).
            backbone: A pretrained network whose features tell photographs apart.
            who: Whose answers these are.
            columns: Names of a table's columns, if not the usual ones.
            follow_links: Enter folders through symbolic links.
            outside: Let a table name images outside its folder.
            watcher: Receives progress and notes.

        Raises:
            SourceError: The source is missing or damaged, or holds no image that can be read.
            RecipeError: The file of labels is damaged, or something else.
            ModelFileError: The network cannot be used.
            StorageError: The disk refuses a write.
        """
        stream = open_stream(
            source, columns=columns, follow_links=follow_links, outside=outside, watcher=watcher
        )
        network = open_backbone(backbone, offline=True, watcher=watcher)
        heap = read_heap(stream, network, watcher=watcher)
        path = usual_file(source) if file is None else Path(file)
        return cls(heap, LabelFile(path, classes), who=who)

    # What is said.

    def label(self, answers: Mapping[str, str], *, how: str = "question") -> int:
        """Keep the classes of photographs by their names; a new class is added.

        `NONE` and `UNCLEAR` are answers as well. Returns how many photographs they were about,
        copies included.
        """
        rows = [self.row_called(name) for name in answers]
        said = set(answers.values()) - {NONE, UNCLEAR}
        classes = {
            answer: self.file.add_class(answer)
            for answer in dict.fromkeys(answers.values())
            if answer in said
        }
        put: list[tuple[bytes, str, Answer, str | None]] = []
        for row, (name, answer) in zip(rows, answers.items(), strict=True):
            kind: Answer = "label" if answer in said else "none" if answer == NONE else "unclear"
            put.append((self._image(row), name, kind, classes.get(answer)))
        self.file.put(put, who=self.who, how=how)
        self._known = None
        return int(np.isin(self.heap.first, self.heap.first[rows]).sum())

    def undo(self) -> int:
        """Take back the last step; return how many photographs it was about."""
        self._known = None
        return self.file.undo(self.who)

    def reload(self) -> None:
        """See what others have said meanwhile."""
        self._known = None

    # What is asked.

    def next(self, count: int = 20) -> list[Question]:
        """The next photographs to ask about, reserved for this person for five minutes."""
        if count < 0:
            raise RecipeError(f"The number of questions must be 0 or more, not {count}")
        known = self._now
        open_rows = self._open(known)
        if len(open_rows) > _COMPARED:
            random = np.random.default_rng(len(known.rows))
            open_rows = np.sort(random.permutation(open_rows)[:_COMPARED])
        fitted, present = self._fitted, known.present[0]
        answers = None if fitted is None else fitted.of(open_rows)
        chosen = next_rows(
            self._learner, answers, labelled=known.rows, open_rows=open_rows,
            random_rows=self.heap.random_rows, count=count, classes=len(present),
        )  # fmt: skip
        free = set(self.file.ask((self._image(one.row) for one in chosen), self.who))
        asked = [one for one in chosen if self._image(one.row) in free]
        rows = np.array([one.row for one in asked], np.int64)
        guesses = self.guesses(rows)
        return [
            Question(image=self.heap.names[one.row], guess=name, probability=share, why=one.why)
            for one, (name, share) in zip(asked, guesses, strict=True)
        ]

    def guesses(self, rows: Ints) -> list[tuple[str | None, float | None]]:
        """The likeliest class of photographs and its probability; nothing without two classes."""
        if self._fitted is None or not len(rows):
            return [(None, None)] * len(rows)
        answers, present = self._fitted.of(rows), self._now.present[0]
        best = answers.argmax(axis=1)
        names = [self._now.classes[present[label]] for label in best]
        return list(zip(names, answers.max(axis=1).tolist(), strict=True))

    def groups(self, number: int | None = None) -> list[Group]:
        """The photographs without a label in groups of like ones, the purest first.

        Groups stay as they are, without what is labelled meanwhile, until half of it is.
        """
        if number is not None and number < 1:
            raise RecipeError(f"The number of groups must be 1 or more, not {number}")
        rows = self._open(self._now)
        asked, groups = self._grouped
        every = np.concatenate([np.zeros(0, np.int64), *(group.rows for group in groups)])
        if asked != number or 2 * len(rows) <= len(every) or len(np.setdiff1d(rows, every)):
            groups = groups_of(self.heap.points, rows, number or usual_number(len(rows)))
            self._grouped = number, groups
        left = [group._replace(rows=group.rows[np.isin(group.rows, rows)]) for group in groups]
        return [group for group in left if len(group.rows)]

    def like(self, row: int) -> Ints:
        """The photographs without a label, those most like one first."""
        rows, points = self._open(self._now), self.heap.points
        return rows[np.argsort(-(points[rows] @ points[row]), kind="stable")]

    def set_aside(self) -> Ints:
        """The photographs that are unclear, or of none of the classes."""
        return self._now.others

    def thought_to_be(self, label: str) -> Ints:
        """The photographs without a label that are probably of a class, the least sure first."""
        rows = self._open(self._now)
        if self._fitted is None or label not in self.file.classes:
            return np.zeros(0, np.int64)
        present = self._now.present[0]
        answers = self._fitted.of(rows)
        here = present[answers.argmax(axis=1)] == self._now.classes.index(label)
        return np.asarray(rows[here][np.argsort(answers[here].max(axis=1))], np.int64)

    def doubts(self, most: int = 12) -> list[Doubt]:
        """Labels that what the others teach speaks against, the strongest first."""
        known = self._now
        present, labels = known.present
        if len(present) < 2:
            return []
        found, every = [], np.arange(len(labels))
        for part, answers in answers_without_own(
            self._learner, known.rows, labels, every, len(present)
        ):
            if len(np.unique(np.delete(labels, part))) < 2:
                continue
            for at, answer in zip(part, answers, strict=True):
                label, best = labels[at], int(answer.argmax())
                if best != label:
                    names = known.classes[present[label]], known.classes[present[best]]
                    margin = float(answer[best] - answer[label])
                    found.append(Doubt(int(known.rows[at]), *names, margin))
        return sorted(found, key=lambda doubt: -doubt.margin)[:most]

    def progress(self) -> Progress:
        """How far it is, how good, and what more labels would bring."""
        known = self._now
        present, labels = known.present
        counts = dict.fromkeys(known.classes, 0)
        for label in known.labels.tolist():
            counts[known.classes[label]] += 1
        facts = Progress(images=len(self.heap.random_rows), labelled=len(known.rows), counts=counts)
        if len(present) < 2:
            return facts
        judges = self._judges(known)
        right = judge(self._learner, known.rows, labels, judges, len(present))
        figure = figure_of(right)
        if figure is None:
            return facts.model_copy(update={"judged": len(right)})
        found: dict[str, object] = {
            "accuracy": figure.value, "interval": figure.interval, "judged": figure.judged,
        }  # fmt: skip
        if promise := promise_of(figure, len(known.rows)):
            found |= {
                "more": promise.labels, "gain": promise.gain, "gain_interval": promise.interval,
            }  # fmt: skip
        return facts.model_copy(update=found)

    def _judges(self, known: _Known) -> Bools:
        """Which labelled photographs are of the random share: the first in the random order."""
        answered = np.zeros(len(self.heap), bool)
        answered[known.rows] = True
        answered[known.others] = True
        order = self.heap.random_rows
        order = order[~np.isin(order, known.by_hand)]  # nobody drew these at random
        first = int(np.argmin(answered[order])) if not answered[order].all() else len(order)
        return np.isin(known.rows, order[:first])

    # What follows.

    def labels(self) -> dict[str, str]:
        """Each labelled photograph's class by its name, copies included."""
        known = self._now
        of = dict(zip(known.rows.tolist(), known.labels.tolist(), strict=True))
        return {
            name: known.classes[of[first]]
            for name, first in zip(self.heap.names, self.heap.first.tolist(), strict=True)
            if first in of
        }

    def row_called(self, name: str) -> int:
        """The row of a photograph by its name, the first of its copies."""
        row = self.heap.row_named.get(name)
        if row is None:
            raise SourceError(f"The heap holds no photograph {name!r:.120}", "Check the name.")
        return int(self.heap.first[row])

    def _image(self, row: int) -> bytes:
        return bytes(self.heap.digests[row])

    @property
    def _now(self) -> _Known:
        if self._known is None:
            classes, given = self.file.classes, self.file.now()
            number = {name: label for label, name in enumerate(classes)}
            rows, labels, others = list[int](), list[int](), list[int]()
            by_hand = list[int]()
            for image, label in given.items():
                row = self.heap.row_of.get(image)
                if row is None:
                    continue  # it is gone from the heap
                if label.label in number:
                    rows.append(row)
                    labels.append(number[label.label])
                    by_hand += [row] if label.how == FOLDERS else []
                else:
                    others.append(row)
            self._known = _Known(
                classes, np.array(rows, np.int64), np.array(labels, np.int64),
                np.array(others, np.int64), np.array(by_hand, np.int64),
            )  # fmt: skip
        return self._known

    @property
    def _fitted(self) -> FittedLearner | None:
        """What the labels now teach; ``None`` without two classes."""
        known = self._now
        if self._taught is None or self._taught[0] is not known:
            present, labels = known.present
            fitted = None
            if len(present) > 1:
                fitted = self._learner.fit(known.rows, labels, len(present))
            self._taught = known, fitted
        return self._taught[1]

    def _open(self, known: _Known) -> Ints:
        """Photographs without an answer that nobody else is asked about, copies once."""
        is_open = np.zeros(len(self.heap), bool)
        is_open[self.heap.random_rows] = True
        is_open[known.rows] = False
        is_open[known.others] = False
        for image in self.file.asked_of_others(self.who):
            if (row := self.heap.row_of.get(image)) is not None:
                is_open[row] = False
        return np.flatnonzero(is_open)
