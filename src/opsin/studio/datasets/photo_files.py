"""Changes of a dataset's photographs and labels, kept so that they can be undone for seven days."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, TypeAdapter

from opsin.core.errors import SourceError, StorageError
from opsin.core.format import counted
from opsin.core.storage import storage_errors, write_bytes, write_json
from opsin.data.formats import SUFFIXES
from opsin.data.images import open_apart
from opsin.studio import people
from opsin.studio.datasets.album import Corrections, LabelChange, change_lines, read_lines
from opsin.studio.datasets.uploads import class_name, file_name
from opsin.studio.trash import KEPT, Trash

#: The folder, beside a dataset's own, of what was removed; its folders are named by the time.
REMOVED: Final = ".removed"
# Seconds within which files that are added are one change.
_TOGETHER: Final = 5.0
# Most changes that can be undone, and fewer of many photographs.
_STEPS: Final = 200
_STEPS_PHOTOS: Final = 20_000

#: Paths of files or folders before and after, below the parent of the source.
Moves = Sequence[tuple[str, str]]


class Change(BaseModel):
    """A change of a dataset, in words."""

    text: str
    when: float  # seconds since 1970
    moves: list[tuple[str, str]] = []  # as `Moves`; "" before is new
    labels: list[LabelChange] = []


_CHANGES: Final = TypeAdapter(list[Change])


class Done(NamedTuple):
    """What was done, in words, and the time of the change that `PhotoFiles.undo` takes back."""

    text: str
    when: float = 0.0  # nothing was changed


def no_class(name: str) -> SourceError:
    """The error for a class that another window renamed or removed."""
    return SourceError(f"There is no class {name!r:.80} any more", "Choose another one.")


def settled_in(folder: Path) -> set[tuple[str, str]]:
    """What people have settled of a dataset, such as digest and label; none if damaged."""
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError):
        pairs = json.loads((folder / "confirmed.json").read_text(encoding="utf-8"))
        return {(str(digest), str(label)) for digest, label in pairs}
    return set()


class PhotoFiles:
    """The files and labels of a dataset's photographs; each change is noted before it is made.

    The dataset's lock (`Library.lock`) is held meanwhile.
    """

    def __init__(self, record: Path, source: Path | None, title: str = "") -> None:
        self._file, self._table = record / "changes.json", record / "corrections.csv"
        self._record, self._source, self._title = record, source, title  # no source: not made here
        #: Whether files were moved.
        self.moved = False

    @property
    def source(self) -> Path:
        """The folder of the class folders; an error for datasets that were not made here."""
        if self._source is None:
            raise SourceError(
                "These photographs belong to their source, which is never changed",
                "Change them there, or make a project here and add them to it.",
            )
        return self._source

    def changes(self) -> list[Change]:
        """What can be undone, the newest last."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return _CHANGES.validate_python(json.loads(self._file.read_text(encoding="utf-8")))
        return []

    def make(
        self,
        text: str,
        moves: Moves = (),
        labels: Sequence[LabelChange] = (),
        corrections: Corrections | None = None,
        *,
        instead: bool = False,
    ) -> float:
        """Move files and change labels: all, or none; a kill in between can be undone, too.

        It is noted as a change of its own, or ``instead`` of the last one. Its time is returned.
        """
        people.require("labeller")
        earlier, free = self.changes(), self._free([move for move in moves if move[0]])
        noted = [("", after) for before, after in moves if not before]
        noted += [(self._short(file), self._short(target)) for file, target in free]
        if not noted and not labels:
            return 0.0
        change = Change(text=text, when=time.time(), moves=noted, labels=list(labels))
        changes = [*earlier[: -1 if instead else None], change][-_STEPS:]
        sizes = [len(one.moves) + len(one.labels) for one in changes]
        while len(changes) > 1 and sum(sizes[-len(changes) :]) > _STEPS_PHOTOS:
            del changes[0]
        self._write(changes)
        try:
            _rename(free)
            if corrections is not None and labels:
                corrections.write(labels)
        except BaseException:
            _rename([(target, file) for file, target in reversed(free) if target.exists()])
            self._write(earlier)
            raise
        self.moved |= bool(noted)
        people.record(f"{text} in {self._title}")
        return change.when

    def undo(self, only: float | None = None, *, earlier: bool = False) -> str:
        """Take back the last change, if it is ``only`` that of this time; return its words.

        An ``earlier`` one, of files alone, is taken back as far as they are where it put them.
        """
        changes = self.changes()
        if only is not None and only not in [change.when for change in changes[-1:]]:
            meant = next((one for one in changes if one.when == only and not one.labels), None)
            if not earlier or meant is None:
                raise SourceError("Something else was changed since", "Use Undo on Photos.")
            moves = [(new, old) for old, new in meant.moves if old and self._path(new).exists()]
            self.make(f"Undid: {meant.text}", moves)
            return meant.text
        if not changes:
            return ""
        last, removed = changes.pop(), self._removed_now()
        for before, after in reversed(last.moves):
            if self._path(after).exists():
                _rename(self._free([(after, before or f"{removed}/{after}")]))
        if last.labels:
            lines = read_lines(self._table)
            back = [
                (digest, name, after, before)
                for digest, name, before, after in last.labels
                if lines.get((digest, name)) == after
            ]  # others were changed by hand
            change_lines(self._table, lines, back)
        self._write(changes)
        self.moved |= bool(last.moves)
        people.record(f"Undid: {last.text} in {self._title}")
        return last.text

    def settle(self, key: tuple[str, str], is_settled: bool = True) -> None:
        """Settle something, such as a digest with its label, or take that back."""
        keys = settled_in(self._record)
        keys = keys | {key} if is_settled else keys - {key}
        write_json(self._record / "confirmed.json", sorted(keys))

    # What a change moves.

    def to_class(self, files: Iterable[Path], class_: str) -> Moves:
        """The moves of files into a class."""
        folder = self._folder_of(class_)
        away = [file for file in files if file.parent != folder]
        return [(self._short(file), self._short(folder / file.name)) for file in away]

    def to_trash(self, files: Iterable[Path]) -> Moves:
        """The moves of files or folders that are removed."""
        removed = self._removed_now()
        return [(self._short(file), f"{removed}/{self._short(file)}") for file in files]

    def renamed(self, old: str, new: str) -> Moves:
        """The move of a class to another name."""
        folders = self.source / old, self.source / self._new_name(new, old)
        return [(self._short(folders[0]), self._short(folders[1]))]

    # What is added.

    def add_class(self, name: str) -> Done:
        """Add an empty class."""
        folder = self.source / self._new_name(name)
        with storage_errors(folder):
            folder.mkdir(parents=True)
        return self._note_new([folder], f"Added the class {folder.name}")

    def keep(self, class_: str, content: bytes, name: str) -> Path:
        """Add an image to a class, once; return its file."""
        folder = self._folder_of(class_)
        _, kind = open_apart(content, name, side=1)
        endings = Path(name).suffix.lower(), f".{kind.lower()}", ".jp2"
        digest, stem = hashlib.sha256(content).hexdigest()[:16], file_name(Path(name).stem)
        path = folder / f"{stem}-{digest}{next(end for end in endings if end in SUFFIXES)}"
        if path.exists():
            raise SourceError(f"It is among your photographs of {class_} already")
        write_bytes(path, content)
        self.added([path])
        return path

    def added(self, files: Sequence[Path]) -> Done:
        """Note new files, together with those just before, or remove them; say how many."""
        before = [
            last
            for last in self.changes()[-1:]  # of a camera that records
            if last.text == _added(last.moves) and time.time() - last.when < _TOGETHER
        ]
        moves = [move for last in before for move in last.moves]
        together = _added([*moves, *files])
        return self._note_new(files, together, moves, instead=bool(before))

    def _note_new(
        self, paths: Sequence[Path], text: str, earlier: Moves = (), *, instead: bool = False
    ) -> Done:
        """Note what is there now, or remove it: nobody could take it back."""
        moves = [*earlier, *(("", self._short(path)) for path in paths)]
        try:
            return Done(text, self.make(text, moves, instead=instead))
        except StorageError:
            for path in paths:
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            raise

    def sweep(self, kept: float = KEPT) -> None:
        """Delete for good what was removed so many seconds ago."""
        if self._source is not None:
            Trash(self._source.parent, REMOVED).sweep(kept)
        changes = self.changes()
        recent = [change for change in changes if time.time() - change.when <= kept]
        if len(recent) < len(changes):
            self._write(recent)

    def _new_name(self, text: str, old: str = "") -> str:
        name = class_name(text)
        others = {path.name for path in self.source.iterdir() if path.is_dir()} - {old}
        if name.casefold() in {other.casefold() for other in others}:
            raise SourceError(f"There is a class {name!r:.80} already", "Choose another name.")
        return name

    def _folder_of(self, class_: str) -> Path:
        folder = self.source / class_
        if class_ not in {path.name for path in self.source.iterdir()} or folder.is_symlink():
            raise no_class(class_)
        return folder

    def _write(self, changes: Sequence[Change]) -> None:
        write_json(self._file, [change.model_dump() for change in changes])

    def _removed_now(self) -> str:
        return f"{REMOVED}/{time.time_ns()}-{secrets.token_hex(2)}"

    def _short(self, path: Path) -> str:
        return path.relative_to(self.source.parent).as_posix()

    def _path(self, short: str) -> Path:
        root = self.source.parent
        path = root / short
        if ".." in path.parts or not path.parent.resolve().is_relative_to(root.resolve()):
            raise SourceError(
                "This change leads out of the project's folder", "Move these files yourself."
            )
        return path

    def _free(self, moves: Moves) -> list[tuple[Path, Path]]:
        """Files and where to move them: to a name that is free."""
        places = dict[Path, Path]()
        for old, new in moves:
            file, target = self._path(old), self._path(new)
            while target in places or (target.exists() and not target.samefile(file)):
                name = f"{Path(new).stem[:200]}-{secrets.token_hex(4)}{target.suffix}"
                target = target.with_name(name)
            places[target] = file
        return [(file, target) for target, file in places.items()]


def _added(photographs: Sized) -> str:
    return f"{counted(len(photographs), 'photograph')} added"


def _rename(pairs: Sequence[tuple[Path, Path]]) -> None:
    for file, target in pairs:
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
