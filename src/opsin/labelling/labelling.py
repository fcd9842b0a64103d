"""Labels for a heap of photographs: groups to name, questions, and how good it is by now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Unpack

import numpy as np
from pydantic import BaseModel

from opsin.backbones.backbone import open_backbone
from opsin.core.arguments import checked
from opsin.core.arrays import Bools, Ints
from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import state_root
from opsin.core.format import counted
from opsin.data.sources import Reading, open_stream
from opsin.labelling.agreement import Agreement, agreements
from opsin.labelling.estimate import FEWEST, Estimate, answers_without_own, estimate_of, judge
from opsin.labelling.groups import Group, groups_of, usual_number
from opsin.labelling.heap import Heap, read_heap
from opsin.labelling.label_file import FOLDERS, Answer, Label, LabelFile
from opsin.labelling.learner import FittedLearner, HeapLearner
from opsin.labelling.questions import Asked, Why, next_rows
from opsin.labelling.search import most_similar

# Questions that are chosen ahead, so that the next one need not wait for a fit; numbers of groups
# that are remembered, one for each window of a few.
_AHEAD: Final = 10
_REMEMBERED: Final = 4
#: The network whose features tell photographs apart.
USUAL: Final = "efficientnet-lite2"
#: What is said of a photograph instead of a class.
NONE, UNCLEAR = "none of the classes", "unclear"
ASIDE: Final[dict[str, Answer]] = {NONE: "none", UNCLEAR: "unclear"}


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


class Progress(Estimate, frozen=True):
    """How far the labels are, and how good what they teach is."""

    images: int
    labelled: int
    counts: dict[str, int]
    # Of each two people, about photographs that both were asked about.
    agreements: tuple[Agreement, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """How good it is, and then what more labels would bring; nothing without labels."""
        words = list[str]()
        if self.accuracy is not None and self.interval is not None:
            low, high = (round(100 * end) for end in self.interval)
            judged = f"judged on {self.judged} random photographs, each without its own label"
            words.append(f"About {100 * self.accuracy:.0f}% right ({low}–{high}%), {judged}.")
        elif self.labelled and self.judged + self.images - self.labelled >= FEWEST:
            missing = counted(FEWEST - self.judged, "more random photograph")
            words.append(f"How much is right is known after {missing}.")
        if self.more and self.gain and self.gain_interval:
            low, high = (max(0, round(100 * end)) for end in self.gain_interval)
            points = f"{100 * self.gain:.0f} points ({low}–{high})"
            words.append(f"About {self.more} more labels for {points}.")
        return words


class Doubt(NamedTuple):
    """A label that the other labels speak against."""

    row: int
    label: str
    guess: str
    margin: float  # how much likelier the guess is


@dataclass(frozen=True, eq=False)
class _Known:
    """The labels now, by rows of the heap; copies once."""

    classes: list[str]
    label_of: Ints  # each photograph's, or -1: ``int64[N]``
    others: Ints  # rows that are unclear, or of no class
    by_hand: Ints  # rows that were sorted into folders, and not asked about

    @cached_property
    def rows(self) -> Ints:
        """The photographs that have a label."""
        return np.flatnonzero(self.label_of >= 0)

    @cached_property
    def present(self) -> tuple[list[str], Ints]:
        """The classes that have labels, and each label among them."""
        present, labels = np.unique(self.label_of[self.rows], return_inverse=True)
        return [self.classes[label] for label in present], labels.ravel().astype(np.int64)

    def is_news_to(self, earlier: _Known) -> bool:
        """Whether more than a tenth of the labels has changed."""
        return int((self.label_of != earlier.label_of).sum()) > len(earlier.rows) // 10


class _Taught(NamedTuple):
    """What labels taught."""

    known: _Known
    spread: bool
    fitted: FittedLearner | None  # without two classes


@checked
class Labelling:
    """Labels of a heap's photographs: what to ask next, and what follows from the answers.

    Args:
        heap: The photographs; `Labelling.open` reads them.
        file: Where labels are kept.
        who: Whose answers these are: no photograph is asked of two people, but for an overlap.
        overlap: The share of questions that is asked of everybody, without a guess, so that
            `progress` can tell how far people agree.

    Raises:
        RecipeError: The overlap is no share, or nobody is named.

    Example:
        >>> heap = opsin.Labelling.open("photographs", classes=["paper", "metal"])  # doctest: +SKIP
        >>> asked = heap.next(20)                                                   # doctest: +SKIP
        >>> heap.label({asked[0].image: "paper"})                                   # doctest: +SKIP
        1
        >>> heap.progress().accuracy                                                # doctest: +SKIP
        0.87
    """

    def __init__(self, heap: Heap, file: LabelFile, *, who: str = "", overlap: float = 0.0) -> None:
        if not 0 <= overlap <= 1:
            raise RecipeError(f"The overlap must be a share from 0 to 1, not {overlap}")
        if overlap and not who:
            raise RecipeError("An overlap needs to know who answers", "Give a name: --who NAME.")
        self.heap, self.file, self.who, self.overlap = heap, file, who, overlap
        self._learner = HeapLearner(heap.points)
        self._known: _Known | None = None
        self._taught: _Taught | None = None
        self._judged: tuple[_Known, Estimate] | None = None
        self._spreads = False  # whether the random share says that spreading labels helps
        self._ahead: list[Asked] = []
        self._grouped: dict[int | None, list[Group]] = {}  # by their number

    @classmethod
    @checked
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        classes: Sequence[str] = (),
        file: str | os.PathLike[str] | None = None,
        backbone: str = USUAL,
        who: str = "",
        overlap: float = 0.0,
        watcher: Watcher = SILENT,
        **reading: Unpack[Reading],
    ) -> Labelling:
        """Read a heap's photographs, and its labels so far.

        Args:
            source: Photographs without classes, as `classify` takes them: a folder, a table, an
                archive.
            classes: Names of classes to begin with.
            file: Where labels are kept (default: in the account's state folder, by the source).
            backbone: A pretrained network whose features tell photographs apart.
            who: Whose answers these are.
            overlap: The share of questions that is asked of everybody.
            watcher: Receives progress and notes.
            **reading: How it is read: ``columns={"path": "file"}``, if a table calls its columns
                otherwise; ``follow_links=True``, to enter folders through symbolic links;
                ``outside=True``, to let a table name images outside its folder.

        Raises:
            SourceError: The source is missing or damaged, or holds no image that can be read.
            RecipeError: The file of labels is damaged, or something else.
            ModelFileError: The network cannot be used.
            StorageError: The disk refuses a write.
        """
        stream = open_stream(source, watcher=watcher, **reading)
        network = open_backbone(backbone, offline=True, watcher=watcher)
        heap = read_heap(stream, network, watcher=watcher)
        path = usual_file(source) if file is None else Path(file)
        return cls(heap, LabelFile(path, classes), who=who, overlap=overlap)

    # What is said.

    def label(self, answers: Mapping[str, str], *, how: str = "question") -> int:
        """Keep the classes of photographs by their names; a new class is added.

        `NONE` and `UNCLEAR` are answers as well. Returns how many photographs they were about,
        copies included.
        """
        rows = [self.row_called(name) for name in answers]
        classes = {
            answer: self.file.add_class(answer)
            for answer in dict.fromkeys(answers.values())
            if answer not in ASIDE
        }
        put = [
            (self._image(row), name, ASIDE.get(answer, "label"), classes.get(answer))
            for row, (name, answer) in zip(rows, answers.items(), strict=True)
        ]
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
        """The next photographs to ask about, reserved for this person for five minutes.

        They are chosen ahead; a program that calls `learn` after an answer waits for nothing else.
        """
        if count < 0:
            raise RecipeError(f"The number of questions must be 0 or more, not {count}")
        chosen = self._asked_again(count)
        wanted = count - len(chosen)
        if len(self._waiting) < wanted:
            self._choose(wanted)
        chosen += self._waiting[:wanted]
        free = set(self.file.ask((self._image(one.row) for one in chosen), self.who))
        asked = [one for one in chosen if self._image(one.row) in free]
        guesses = self._guesses(np.array([one.row for one in asked], np.int64))
        for at, one in enumerate(asked):  # these would agree with the guess, not with each other
            guesses[at] = (None, None) if self._is_shared(self._image(one.row)) else guesses[at]
        return [
            Question(image=self.heap.names[one.row], guess=name, probability=share, why=one.why)
            for one, (name, share) in zip(asked, guesses, strict=True)
        ]

    def learn(self) -> None:
        """Fit again where more than a tenth of the labels has changed, and choose questions ahead.

        This takes longer than an answer: do it while somebody looks at a photograph.
        """
        before = self._taught
        if self._learnt is not before or len(self._waiting) < _AHEAD // 2:
            self._choose(_AHEAD)

    def _choose(self, count: int) -> None:
        """Choose questions ahead: while labels are few, only few."""
        rows = self._now.rows
        self._ahead = next_rows(
            self._learner,
            self._learnt.fitted,
            labelled=rows,
            open_rows=self._open(),
            random_rows=self.heap.random_rows,
            count=max(count, min(len(rows) // 4, _AHEAD)),
        )

    @property
    def _waiting(self) -> list[Asked]:
        """Questions that were chosen ahead and are still open."""
        still = set(self._open().tolist())
        return [one for one in self._ahead if one.row in still]

    def _asked_again(self, count: int) -> list[Asked]:
        """Photographs of the overlap that others have answered, as many as are due."""
        if not self.overlap:
            return []
        said = self.file.by_person()
        answered = len(said.get(self.who, ()))
        shared = self._overlap_of(said)
        mine = shared.pop(self.who, {})
        images = dict.fromkeys(image for one in shared.values() for image in one)
        due = int(self.overlap * (answered + count)) - len(mine.keys() & images.keys())
        rows = [self.heap.row_of[image] for image in images if image not in mine]
        return [Asked(row, "overlap") for row in rows[: max(0, due)]]

    def _is_shared(self, image: bytes) -> bool:
        """Whether everybody is asked about a photograph: the same ones, whoever asks."""
        drawn = int.from_bytes(hashlib.blake2b(image, digest_size=8).digest())
        return drawn < round(self.overlap * 2**64)

    def _overlap_of(self, said: Mapping[str, Mapping[bytes, Label]]) -> dict[str, dict[bytes, str]]:
        """Answers about photographs that are asked of everybody."""
        return {
            who: {
                image: label.label or label.answer
                for image, label in answers.items()
                if image in self.heap.row_of and self._is_shared(image)
            }
            for who, answers in said.items()
        }

    def guesses(self, names: Sequence[str]) -> list[tuple[str | None, float | None]]:
        """The likeliest class of photographs and its probability; nothing without two classes."""
        return self._guesses(np.array([self.row_called(name) for name in names], np.int64))

    def _guesses(self, rows: Ints) -> list[tuple[str | None, float | None]]:
        known, _, fitted = self._learnt
        if fitted is None or not len(rows):
            return [(None, None)] * len(rows)
        answers = fitted.of(rows)
        names = [known.present[0][label] for label in answers.argmax(axis=1)]
        return list(zip(names, answers.max(axis=1).tolist(), strict=True))

    def groups(self, number: int | None = None) -> list[Group]:
        """The photographs without a label in groups of like ones, the purest first.

        Groups stay as they are, without what is labelled meanwhile, until half of it is.
        """
        if number is not None and number < 1:
            raise RecipeError(f"The number of groups must be 1 or more, not {number}")
        rows, groups = np.flatnonzero(self._unanswered), self._grouped.pop(number, [])
        every = np.concatenate([np.zeros(0, np.int64), *(group.rows for group in groups)])
        if 2 * len(rows) <= len(every) or len(np.setdiff1d(rows, every)):
            groups = groups_of(self.heap.points, rows, number or usual_number(len(rows)))
        self._grouped[number] = groups
        for oldest in [*self._grouped][:-_REMEMBERED]:
            del self._grouped[oldest]
        mine = self._open()
        left = [group._replace(rows=group.rows[np.isin(group.rows, mine)]) for group in groups]
        return [group for group in left if len(group.rows)]

    def like(self, name: str, count: int = 20, *, every: bool = False) -> Ints:
        """The photographs most like one, the likest first: without a label, or of every one."""
        query = self.heap.points[[self.row_called(name)]]
        rows = np.unique(self.heap.first) if every else self._open()
        return most_similar(self.heap.points, query, query[:0], count, among=rows)[0]

    def set_aside(self) -> Ints:
        """The photographs that are unclear, or of none of the classes."""
        return self._now.others

    def thought_to_be(self, label: str) -> Ints:
        """The photographs without a label that are probably of a class, the least sure first."""
        rows, (known, _, fitted) = self._open(), self._learnt
        if fitted is None or label not in known.present[0]:
            return np.zeros(0, np.int64)
        answers = fitted.of(rows)
        here = answers.argmax(axis=1) == known.present[0].index(label)
        return np.asarray(rows[here][np.argsort(answers[here].max(axis=1))], np.int64)

    def doubts(self, most: int = 12) -> list[Doubt]:
        """Labels that what the others teach speaks against, the strongest first."""
        known = self._now
        present, labels = known.present
        if len(present) < 2:
            return []
        found, every = [], np.arange(len(labels))
        for part, answers in answers_without_own(
            self._learner, known.rows, labels, every, len(present), spread=self._spreads
        ):
            if len(np.unique(np.delete(labels, part))) < 2:
                continue
            for at, answer in zip(part, answers, strict=True):
                label, best = labels[at], int(answer.argmax())
                if best != label:
                    margin = float(answer[best] - answer[label])
                    found.append(Doubt(int(known.rows[at]), present[label], present[best], margin))
        return sorted(found, key=lambda doubt: -doubt.margin)[:most]

    def progress(self) -> Progress:
        """How far it is, how good, and what more labels would bring.

        The figures are computed again where more than a tenth of the labels has changed.
        """
        known = self._now
        present, labels = known.present
        judges = self._judges if len(present) > 1 else np.zeros(len(labels), bool)
        if judges.sum() < FEWEST:
            self._judged, self._spreads = None, False
        elif self._judged is None or known.is_news_to(self._judged[0]):
            right, self._spreads = judge(self._learner, known.rows, labels, judges, len(present))
            self._judged = known, estimate_of(right, len(labels))
        estimate = self._judged[1] if self._judged else Estimate(judged=int(judges.sum()))
        if estimate.more and estimate.more > self._unanswered.sum():  # there are not so many left
            nothing = dict.fromkeys(("more", "gain", "gain_interval"))
            estimate = estimate.model_copy(update=nothing)
        counts = np.bincount(known.label_of[known.rows], minlength=len(known.classes)).tolist()
        said = self._overlap_of(self.file.by_person()) if self.overlap else {}
        return Progress(
            images=len(self.heap.random_rows),
            labelled=len(known.rows),
            counts=dict(zip(known.classes, counts, strict=True)),
            agreements=agreements(said),
            **dict(estimate),
        )

    @property
    def _judges(self) -> Bools:
        """Which labelled photographs are of the random share: the first in the random order."""
        order = self.heap.random_rows
        order = order[~np.isin(order, self._now.by_hand)]  # nobody drew these at random
        drawn = order[~np.logical_or.accumulate(self._unanswered[order])]
        return np.isin(self._now.rows, drawn)

    # What follows.

    def labels(self) -> dict[str, str]:
        """Each labelled photograph's class by its name, copies included."""
        known = self._now
        label_of = known.label_of[self.heap.first].tolist()
        return {
            name: known.classes[label]
            for name, label in zip(self.heap.names, label_of, strict=True)
            if label >= 0
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
            label_of, others, by_hand = np.full(len(self.heap), -1), list[int](), list[int]()
            for image, label in given.items():
                if (row := self.heap.row_of.get(image)) is None:
                    continue  # it is gone from the heap
                if label.label in number:
                    label_of[row] = number[label.label]
                    by_hand += [row] if label.how == FOLDERS else []
                else:
                    others.append(row)
            self._known = _Known(
                classes, label_of, np.array(others, np.int64), np.array(by_hand, np.int64)
            )
        return self._known

    @property
    def _learnt(self) -> _Taught:
        """What the labels teach, fitted again where more than a tenth of them has changed."""
        now, old, fitted = self._now, self._taught, None
        if old is None or old.spread != self._spreads or now.is_news_to(old.known):
            present, labels = now.present
            if len(present) > 1:
                fitted = self._learner.fit(now.rows, labels, len(present), spread=self._spreads)
            old = self._taught = _Taught(now, self._spreads, fitted)
        return old

    @property
    def _unanswered(self) -> Bools:
        """Which photographs have no answer, copies once: ``bool[N]``."""
        is_open = np.zeros(len(self.heap), bool)
        is_open[self.heap.random_rows] = True
        is_open[self._now.rows] = False
        is_open[self._now.others] = False
        return is_open

    def _open(self) -> Ints:
        """Photographs without an answer that nobody else is asked about."""
        is_open = self._unanswered
        asked = map(self.heap.row_of.get, self.file.asked_of_others(self.who))
        is_open[[row for row in asked if row is not None]] = False
        return np.flatnonzero(is_open)
