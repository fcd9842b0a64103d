"""The process that groups a project's photographs for the studio, and asks about them.

It is started as ``python -m opsin.labelling.label_worker FOLDER TRAY CORRECTIONS LABELS``: the
folder of class folders, that of photographs without a class, and two files. It answers one frame
after another, and ends when its standard input is closed. The folders are the truth; the file of
labels says who sorted what, how and when, and follows them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import numpy as np

from opsin.backbones.backbone import Backbone, open_backbone
from opsin.core.arrays import Floats, Ints
from opsin.core.child_process import Answering, Header, take_output
from opsin.core.errors import OpsinError, SourceError
from opsin.core.files import file_stamp
from opsin.core.format import counted
from opsin.data.corrections import LEFT_OUT, read_corrections
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import is_image_name, is_visible
from opsin.labelling.groups import PARTS, groups_of, usual_number
from opsin.labelling.heap import read_heap
from opsin.labelling.label_file import FOLDERS, LabelFile, Said
from opsin.labelling.labelling import ASIDE, USUAL, Labelling

# Groups of an answer; photographs that are like one, and on the map, at most.
_GROUPS, _LIKE, _MAPPED = 24, 300, 1_500
# Where photographs get another class: one that was sorted by hand was not drawn at random.
_CORRECTING: Final = ("doubts", "map")
# Photographs that may be gone before what is known is read again.
_MISSED: Final = 20


class _File(NamedTuple):
    """A photograph's file, by a name that stays when it moves."""

    key: str
    name: str  # path below the folder of class folders
    class_: str  # "" in the tray


class LabelWorker(Answering):
    """One project's photographs, read at the first question; what it answers is plain JSON."""

    def __init__(
        self, target: BinaryIO, folder: Path, tray: Path, corrections: Path, labels: Path
    ) -> None:
        self.target = target
        self._folder, self._tray, self._corrections = folder, tray, corrections
        self._labels, self._file = labels, cast("LabelFile", None)  # opened at the first question
        self._network: Backbone | None = None
        self._labelling: Labelling | None = None
        self._unreadable: set[str] = set()
        self._key_of: dict[str, str] = {}  # by each name that a file has had
        self._names: dict[int, list[str]] = {}  # of a photograph's files; in the tray, those there
        self._waiting: set[int] = set()  # photographs in the tray
        self._spelt: dict[str, str] = {}  # each class of the labels as its folder is written
        self._stamps: object = None
        self._map: tuple[object, list[list[float]]] = None, []

    def answer(self, asked: Header, content: bytes) -> tuple[object, Sequence[bytes]]:  # noqa: ARG002
        """What somebody's question is answered; no images."""
        self._file = self._file or LabelFile(self._labels)
        if asked["do"] == "leave":
            return self._file.release(asked["who"]), ()  # type: ignore[func-returns-value]
        labelling = self._look()
        labelling.who = asked["who"]
        return getattr(self, f"_do_{asked['do']}")(labelling, **asked["asked"]), ()

    def rest(self, asked: Header) -> None:
        """While somebody looks at the first questions, fit to the latest labels and choose more."""
        if asked["do"] == "next" and self._labelling is not None:
            # The next question meets it; an answer would be taken for that one's.
            with contextlib.suppress(OpsinError, OSError, MemoryError):
                self._labelling.learn()

    def _do_groups(
        self, labelling: Labelling, number: int | None, reserved: int, class_: str = ""
    ) -> Header:
        """Groups of the tray, or inside a class."""
        number = number or (PARTS if class_ else usual_number(len(self._waiting)))
        if class_:
            of, names = labelling.labels(), labelling.heap.names
            inside = [
                row for row in self._names if self._spelt.get(of.get(names[row], "")) == class_
            ]
            groups = groups_of(labelling.heap.points, np.array(inside, np.int64), number)
        else:
            groups = labelling.groups(number)
        rows = [row for group in groups[:reserved] for row in group.rows]
        self._file.ask((labelling.heap.digests[row].tobytes() for row in rows), labelling.who)
        return {
            "number": number,
            "all": len(groups),
            "groups": [
                {"photos": photos, "guess": "" if class_ else self._guess(labelling, group.rows)}
                for group in groups[:_GROUPS]
                if (photos := [one["names"] for one in self._photos(group.rows)])
            ],
        }

    def _guess(self, labelling: Labelling, rows: Ints) -> str:
        """The class that most of a group's photographs seem to be of."""
        some = [labelling.heap.names[row] for row in rows[:20]]
        names = [name for name, _ in labelling.guesses(some) if name]
        return self._spelt.get(max(names, key=names.count, default=""), "")

    def _do_next(self, labelling: Labelling, count: int) -> list[Header]:
        return [
            {
                "names": self._names[row],
                "why": one.why,
                "probability": one.probability,
                "guess": self._spelt.get(one.guess or "", ""),
            }
            for one in labelling.next(count)
            if (row := labelling.row_called(one.image)) in self._names
        ]

    def _do_label(self, labelling: Labelling, names: Sequence[str], answer: str, how: str) -> None:
        """Keep an answer; ``""`` takes one back that left the photograph in the tray."""
        heap = labelling.heap
        kind = ASIDE.get(answer, "label") if answer else "open"
        class_ = self._file.add_class(answer) if kind == "label" else None
        rows = {name: heap.row_named.get(self._key_of.get(name, "")) for name in names}
        put = {heap.digests[row].tobytes(): name for name, row in rows.items() if row is not None}
        held, hows = self._file.now(), dict.fromkeys(put, how)
        if how in _CORRECTING:
            hows |= {i: FOLDERS for i in put if i in held and held[i].how == FOLDERS}
        said: list[Said] = [(image, name, kind, class_) for image, name in put.items()]
        self._file.put(said, who=labelling.who, how=hows)
        self._stamps = None

    def _do_state(self, labelling: Labelling) -> Header:
        now, broken = labelling.progress(), len(self._unreadable)
        unread = [f"{counted(broken, 'file')} cannot be read."] if broken else []
        return now.model_dump() | {"words": " ".join([*now.sentences, *unread])}

    # Photographs to look through, each with words about it.

    def _do_thought(self, labelling: Labelling, class_: str) -> list[Header]:
        label = next((one for one, name in self._spelt.items() if name == class_), "")
        return self._photos(labelling.thought_to_be(label))

    def _do_like(self, labelling: Labelling, name: str, *, every: bool = False) -> list[Header]:
        if name not in self._key_of:
            raise SourceError("This photograph is not there any more", "Choose another one.")
        return self._photos(labelling.like(self._key_of[name], _LIKE, every=every))

    def _do_aside(self, labelling: Labelling) -> list[Header]:
        return self._photos(labelling.set_aside())

    def _do_doubts(self, labelling: Labelling) -> list[Header]:
        doubts = {
            doubt.row: f"{doubt.label}; probably {self._spelt.get(doubt.guess, doubt.guess)}"
            for doubt in labelling.doubts()
        }
        return self._photos(doubts, doubts)

    def _do_map(self, labelling: Labelling) -> list[Header]:
        """Places of photographs such that like ones are close, with their classes."""
        heap, labels = labelling.heap, labelling.labels()
        rows = heap.random_rows[:_MAPPED].tolist()
        if self._map[0] is not heap:
            self.begin("The map", 0, "")
            self._map = heap, _places(heap.points[rows])
        places = dict(zip(rows, self._map[1], strict=True))
        found = self._photos(rows, {row: labels.get(heap.names[row], "") for row in rows})
        return [one | {"at": places[one["row"]]} for one in found]

    def _photos(
        self, rows: Iterable[int] | Ints, words: Mapping[int, str] | None = None
    ) -> list[Header]:
        """The files of photographs that are still there."""
        return [
            {"row": row, "names": self._names[row], "words": (words or {}).get(row, "")}
            for row in map(int, rows)
            if row in self._names
        ]

    # What there is.

    def _look(self) -> Labelling:
        """The photographs and labels as the folders are now."""
        folders = [path for path in self._folder.iterdir() if path.is_dir()]
        places = sorted([*folders, self._folder, self._tray, self._corrections])
        stamps = [(path, file_stamp(path).mtime_ns) for path in places]
        labelling = self._labelling
        if labelling is None or stamps != self._stamps:
            files = {file.key: file for file in self._files()}
            self._key_of |= {file.name: file.key for file in files.values()}
            known = set() if labelling is None else {*labelling.heap.names, *self._unreadable}
            # What is just being moved may be missed, and is there the next time.
            if labelling is None or files.keys() - known or len(known - files.keys()) > _MISSED:
                labelling = self._labelling = self._read([*files.values()])
            self._follow(labelling, files)
            self._stamps = stamps
        return labelling

    def _files(self) -> Iterator[_File]:
        corrected = dict[str, str]()
        if self._corrections.is_file():
            corrected = {row.name: row.label for row in read_corrections(self._corrections)}
        folders = sorted(path.name for path in self._folder.iterdir() if is_visible(path.name))
        for class_, top in [*((name, name) for name in folders), ("", f"../{self._tray.name}")]:
            root = f"{self._folder}/{top}"
            for folder, inner, names in os.walk(root) if not Path(root).is_symlink() else ():
                inner[:] = filter(is_visible, inner)
                for path in (f"{folder}/{name}" for name in names if is_visible(name)):
                    name = path.removeprefix(f"{self._folder}/")
                    kept = is_image_name(path) and corrected.get(name) not in ("", LEFT_OUT)
                    with contextlib.suppress(OSError):  # it is just being moved
                        state = os.lstat(path)
                        if kept and stat.S_ISREG(state.st_mode):
                            key = f"{state.st_ino}-{state.st_mtime_ns}-{state.st_size}"
                            yield _File(key, name, corrected.get(name, class_))

    def _read(self, files: Sequence[_File]) -> Labelling:
        self._network = self._network or open_backbone(USUAL, offline=True, watcher=self)
        images = [ListedImage(file.key, f"{self._folder}/{file.name}") for file in files]
        stream = Stream(str(self._folder), "list", lambda: iter(images))
        heap = read_heap(stream, self._network, watcher=self)
        self._unreadable = {name for name, _ in heap.unreadable}
        return Labelling(heap, self._file)

    def _follow(self, labelling: Labelling, files: Mapping[str, _File]) -> None:
        """Let the labels say what the folders say; what has a copy in the tray is in the tray."""
        heap, held = labelling.heap, self._file.now()
        classes = sorted({file.class_ for file in files.values()} - {""})
        written = {name: self._file.add_class(name) for name in classes}
        self._spelt = {label: name for name, label in written.items()}
        rows = zip(heap.first.tolist(), heap.names, strict=True)
        pairs = [(first, files[name]) for first, name in rows if name in files]
        self._waiting, self._names = {row for row, file in pairs if not file.class_}, {}
        label = dict[int, str]()
        for row, file in pairs:
            if not file.class_ or row not in self._waiting:
                self._names.setdefault(row, []).append(file.name)
                label[row] = written.get(file.class_, "")
        changes = defaultdict[str, list[Said]](list)
        for row, class_ in label.items():
            image, name = heap.digests[row].tobytes(), self._names[row][0]
            was = held[image] if image in held and held[image].answer == "label" else None
            if class_ and (was is None or was.label != class_):
                changes[was.how if was else FOLDERS].append((image, name, "label", class_))
            elif was and not class_:
                changes[FOLDERS].append((image, name, "open", None))
        for how, several in changes.items():
            self._file.put(several, how=how)
        labelling.reload()


def _places(points: Floats) -> list[list[float]]:
    """Points in two dimensions, by t-SNE."""
    # What few ask for is not loaded at the start.
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.manifold import TSNE  # noqa: PLC0415

    if len(points) < 4:
        return [[float(at), 0.0] for at in range(len(points))]
    some = PCA(min(30, *points.shape)).fit_transform(points)
    near = TSNE(perplexity=min(30, len(points) / 4), init="pca", random_state=0, max_iter=500)
    return np.round(near.fit_transform(some), 3).tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    worker = LabelWorker(take_output(or_end=True), *map(Path, sys.argv[1:]))
    worker.answer_frames(sys.stdin.buffer)
