"""The process that groups a project's photographs for the studio, and asks about them.

It is started as ``python -m opsin.labelling.label_worker FOLDER TRAY CORRECTIONS LABELS``: the
folder of class folders, that of photographs without a class, and two files. It answers one frame
after another, and ends when its standard input is closed. The folders are the truth; the file of
labels says who sorted what, how and when, and follows them.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from opsin.backbones.backbone import Backbone, open_backbone
from opsin.core.arrays import Floats, Ints
from opsin.core.child_process import Header, error_values, pack, receive, take_output
from opsin.core.errors import OpsinError, SourceError
from opsin.core.events import Watcher
from opsin.core.files import file_stamp
from opsin.data.corrections import LEFT_OUT, read_corrections
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import is_image_name, is_visible
from opsin.labelling.estimate import FEWEST
from opsin.labelling.groups import usual_number
from opsin.labelling.heap import read_heap
from opsin.labelling.label_file import FOLDERS, Answer, LabelFile
from opsin.labelling.labelling import NONE, UNCLEAR, USUAL, Labelling

_ANSWERS: Final[dict[str, Answer]] = {NONE: "none", UNCLEAR: "unclear", "": "open"}
# Groups of an answer; photographs that are like one, and on the map, at most.
_GROUPS, _LIKE, _MAPPED = 24, 300, 1_500
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2


class _File(NamedTuple):
    """A photograph's file, by a name that stays when it moves."""

    key: str
    name: str  # path below the folder of class folders
    class_: str  # "" in the tray


class _LabelWorker(Watcher):
    """One project's photographs, read at the first question; what it answers is plain JSON."""

    def __init__(self, folder: Path, tray: Path, corrections: Path, labels: Path) -> None:
        self._folder, self._tray, self._corrections = folder, tray, corrections
        self._labels = labels
        self._network: Backbone | None = None
        self._labelling: Labelling | None = None
        self._unreadable: set[str] = set()
        self._key_of: dict[str, str] = {}  # by each name that a file has had
        self._names: dict[int, list[str]] = {}  # of a photograph's files, those in the tray first
        self._waiting: set[int] = set()  # photographs in the tray
        self._spelt: dict[str, str] = {}  # each class of the labels as its folder is written
        self._stamps: object = None
        self._map: tuple[object, list[list[float]]] = None, []
        self._what, self._total, self._sent = "", 0, 0.0
        self.say: Callable[[Header], object] = bool  # where progress goes

    @cached_property
    def _file(self) -> LabelFile:
        return LabelFile(self._labels)

    def answer(self, do: str, asked: Header) -> object:
        """What a question of the studio's is answered."""
        known: dict[str, Callable[..., object]] = {
            "groups": self._groups, "next": self._next, "label": self._label, "state": self._state,
            "thought": self._thought, "doubts": self._doubts, "like": self._like,
            "map": self._on_map, "aside": self._aside,
        }  # fmt: skip
        if do == "leave":
            self._file.release(asked["who"])
            return None
        labelling = self._look()
        labelling.who = asked.pop("who", "")
        return known[do](labelling, **asked)

    def _groups(self, labelling: Labelling, number: int | None, reserved: int) -> Header:
        waiting = len(self._waiting)
        groups = labelling.groups(number or usual_number(waiting))
        asked = [
            labelling.heap.digests[row].tobytes() for one in groups[:reserved] for row in one.rows
        ]
        labelling.file.ask(asked, labelling.who)
        return {"number": number or usual_number(waiting), "all": len(groups), "groups": [
            {"photos": self._photos(group.rows), "guess": self._guess(labelling, group.rows)}
            for group in groups[:_GROUPS]
        ]}  # fmt: skip

    def _next(self, labelling: Labelling, count: int) -> list[Header]:
        asked = labelling.next(count)
        return [
            {"names": names[0], "why": one.why, "probability": one.probability,
             "guess": self._spelt.get(one.guess or "", "")}
            for one in asked if (names := self._photos([labelling.row_called(one.image)]))
        ]  # fmt: skip

    def _label(self, labelling: Labelling, names: Sequence[str], answer: str, how: str) -> None:
        """Keep an answer; ``""`` takes one back that left the photograph in the tray."""
        kind: Answer = _ANSWERS.get(answer, "label")
        class_ = self._file.add_class(answer) if kind == "label" else None
        keys = [(name, self._key_of.get(name, "")) for name in names]
        heap = labelling.heap
        said = {heap.digests[heap.row_named[key]].tobytes(): name
                for name, key in keys if key in heap.row_named}  # fmt: skip
        put = [(image, name, kind, class_) for image, name in said.items()]
        self._file.put(put, who=labelling.who, how=how)
        self._stamps = None

    def _state(self, labelling: Labelling) -> Header:
        progress = labelling.progress()
        return progress.model_dump() | {
            "waiting": len(self._waiting), "unreadable": len(self._unreadable),
            "missing": max(0, FEWEST - progress.judged),
        }  # fmt: skip

    def _thought(self, labelling: Labelling, class_: str) -> list[list[str]]:
        return self._photos(labelling.thought_to_be(self._file.add_class(class_)))

    def _doubts(self, labelling: Labelling) -> list[Header]:
        return [
            {"names": self._names[doubt.row], "label": doubt.label,
             "guess": self._spelt.get(doubt.guess, doubt.guess)}
            for doubt in labelling.doubts() if doubt.row in self._names
        ]  # fmt: skip

    def _like(self, labelling: Labelling, name: str) -> list[list[str]]:
        key = self._key_of.get(name)
        if key is None:
            raise SourceError("This photograph is not there any more", "Choose another one.")
        return self._photos(labelling.like(labelling.row_called(key))[:_LIKE])

    def _aside(self, labelling: Labelling) -> list[list[str]]:
        return self._photos(labelling.set_aside())

    def _on_map(self, labelling: Labelling) -> list[Header]:
        """Places of photographs such that like ones are close, with their classes."""
        heap = labelling.heap
        rows = heap.random_rows[:_MAPPED]
        if self._map[0] is not heap:
            self.begin("The map", 0, "")
            self._map = heap, _places(heap.points[rows])
        labels = labelling.labels()
        return [
            {"names": self._names[row], "at": at, "class": labels.get(heap.names[row], "")}
            for row, at in zip(rows.tolist(), self._map[1], strict=True) if row in self._names
        ]  # fmt: skip

    def _guess(self, labelling: Labelling, rows: Ints) -> str:
        """The class that most of a group's photographs seem to be of."""
        names = [name for name, _ in labelling.guesses(rows[:20]) if name]
        return self._spelt.get(max(set(names), key=names.count), "") if names else ""

    def _photos(self, rows: Sequence[int] | Ints) -> list[list[str]]:
        """The files of photographs that are still there."""
        return [self._names[int(row)] for row in rows if int(row) in self._names]

    # What there is.

    def _look(self) -> Labelling:
        """The photographs and labels as the folders are now."""
        folders = [path for path in self._folder.iterdir() if path.is_dir()]
        places = sorted([*folders, self._folder, self._tray, self._corrections])
        stamps = [(path, file_stamp(path).mtime_ns) for path in places]
        if self._labelling is not None and stamps == self._stamps:
            return self._labelling
        files = {file.key: file for file in self._files()}
        self._key_of |= {file.name: file.key for file in files.values()}
        labelling = self._labelling
        if labelling is None or {*labelling.heap.names, *self._unreadable} != files.keys():
            labelling = self._labelling = self._read(list(files.values()))
        self._follow(labelling, files)
        self._stamps = stamps
        return labelling

    def _files(self) -> Iterator[_File]:
        corrected = dict[str, str]()
        if self._corrections.is_file():
            corrected = {row.name: row.label for row in read_corrections(self._corrections)}
        tops = [(path.name, path) for path in self._folder.iterdir() if is_visible(path.name)]
        for class_, top in [*sorted(tops), ("", self._tray)]:
            for folder, inner, names in os.walk(top) if not top.is_symlink() else ():
                inner[:] = filter(is_visible, inner)
                for each in filter(is_image_name, filter(is_visible, names)):
                    path = f"{folder}/{each}"
                    state, name = os.lstat(path), os.path.relpath(path, self._folder)
                    left_out = corrected.get(name) in ("", LEFT_OUT)
                    if stat.S_ISREG(state.st_mode) and not left_out:
                        key = f"{state.st_ino}-{state.st_mtime_ns}-{state.st_size}"
                        yield _File(key, name, corrected.get(name, class_))

    def _read(self, files: Sequence[_File]) -> Labelling:
        self._network = self._network or open_backbone(USUAL, offline=True, watcher=self)
        images = [ListedImage(file.key, f"{self._folder}/{file.name}") for file in files]
        heap = read_heap(
            Stream(str(self._folder), "list", lambda: iter(images)), self._network, watcher=self
        )
        self._unreadable = {name for name, _ in heap.unreadable}
        return Labelling(heap, self._file)

    def _follow(self, labelling: Labelling, files: dict[str, _File]) -> None:
        """Let the labels say what the folders say; copies of what is in the tray are in it, too."""
        heap, held = labelling.heap, self._file.now()
        classes_now = sorted({file.class_ for file in files.values()} - {""})
        self._spelt = {self._file.add_class(name): name for name in classes_now}
        written = {name: label for label, name in self._spelt.items()}
        self._names, self._waiting, classes = {}, set(), dict[int, str]()
        for row, first in enumerate(heap.first.tolist()):
            file = files[heap.names[row]]
            if file.class_ == "" and first not in self._waiting:
                self._waiting.add(first)
                self._names[first] = []
            if file.class_ == "" or first not in self._waiting:
                self._names.setdefault(first, []).append(file.name)
                classes[first] = written.get(file.class_, "")
        changes: dict[str, list[tuple[bytes, str, Answer, str | None]]] = {}
        for row, class_ in classes.items():
            image, name = heap.digests[row].tobytes(), self._names[row][0]
            known = held.get(image)
            how = known.how if known and known.answer == "label" else FOLDERS
            if class_ and (known is None or known.label != class_):
                changes.setdefault(how, []).append((image, name, "label", class_))
            elif not class_ and known and known.answer == "label":
                changes.setdefault(FOLDERS, []).append((image, name, "open", None))
        for how, several in changes.items():
            self._file.put(several, how=how)
        labelling.reload()

    # What is told meanwhile.

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total, self._sent = what, total, 0.0
        self.advance(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._sent >= _EVERY:
            self._sent = time.monotonic()
            self.say({"progress": [self._what, done, self._total]})


def _places(points: Floats) -> list[list[float]]:
    """Points in two dimensions by t-SNE; by principal components where they are few."""
    if len(points) < 10:
        flat = PCA(min(2, len(points))).fit_transform(points)
        return [[*map(float, row), 0.0][:2] for row in flat]
    some = PCA(min(30, len(points))).fit_transform(points)
    near = min(30.0, len(points) / 4)
    flat = TSNE(2, perplexity=near, init="pca", random_state=0, max_iter=500).fit_transform(some)
    return [[round(float(value), 3) for value in row] for row in flat]


def answer_frames(worker: _LabelWorker, source: BinaryIO, target: BinaryIO) -> None:
    """Answer questions until there are no more, one frame each."""

    def say(header: Header) -> None:
        target.write(b"".join(pack(header)))
        target.flush()

    worker.say = say
    while (frame := receive(source)) is not None:
        try:
            say({"said": worker.answer(frame[0]["do"], frame[0]["with"])})
        except OpsinError as error:
            say({"error": error_values(error)})
        except (OSError, MemoryError) as error:
            failed = OpsinError(f"The photographs cannot be read: {error}", "Try again.")
            say({"error": error_values(failed)})


if __name__ == "__main__":
    try:
        answer_frames(_LabelWorker(*map(Path, sys.argv[1:])), sys.stdin.buffer, take_output())
    except BrokenPipeError:  # nothing reads the answers any more
        sys.exit(0)
