"""Changes of the photographs of a dataset, kept so that they can be undone for seven days."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, TypeAdapter

from opsin.core.errors import SourceError
from opsin.core.format import counted
from opsin.core.storage import storage_errors, write_json
from opsin.studio import people
from opsin.studio.datasets.upload_import import class_name
from opsin.studio.trash import KEPT

#: The folder, beside a dataset's own, of what was removed; its folders are named by the time.
REMOVED: Final = ".removed"
# Seconds within which files that are added are one change.
_TOGETHER: Final = 5.0
# Most changes that can be undone, and fewer of many files.
_STEPS: Final = 200
_STEPS_FILES: Final = 20_000
# Words of moves whose change is not noted yet: after a kill, they are a change of their own.
_BEGUN: Final = "An interrupted change"

Moves = Sequence[tuple[str, str]]


class Change(BaseModel):
    """A change: where files were and are, below the parent of the source.

    Args:
        text: What was done, in words.
        when: Seconds since 1970.
        moves: Paths before and after; ``""`` before is new.
        step: Number of steps of the corrections after it; ``None`` if it changed no label.
    """

    text: str
    when: float
    moves: list[tuple[str, str]] = []
    step: int | None = None


_CHANGES: Final = TypeAdapter(list[Change])


def no_class(name: str) -> SourceError:
    """The error for a class that another window renamed or removed."""
    return SourceError(f"There is no class {name!r:.80} any more", "Choose another one.")


class PhotoFiles:
    """The files of a dataset's photographs, and all changes of them and of their labels.

    Args:
        record: The dataset's folder of small files.
        source: Its folder of photographs; ``None`` for datasets that were not made here.
        title: Its title now.
    """

    def __init__(self, record: Path, source: Path | None, title: Callable[[], str] = str) -> None:
        self._file = record / "changes.json"
        self._source, self._title = source, title
        #: Held during changes.
        self.lock = threading.RLock()

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

    def note(self, text: str, moves: Moves = (), step: int | None = None) -> None:
        """Record a change."""
        people.record(f"{text} in {self._title()}")
        noted = set(moves)
        changes = [
            change
            for change in self.changes()
            if change.text != _BEGUN or not noted.issuperset(change.moves)
        ]
        changes.append(Change(text=text, when=time.time(), moves=list(moves), step=step))
        while len(changes) > _STEPS or (
            len(changes) > 1 and sum(len(change.moves) for change in changes) > _STEPS_FILES
        ):
            del changes[0]
        self._write(changes)

    def take_last(self) -> Change | None:
        """Forget the last change, and move its files back."""
        with self.lock:
            changes = self.changes()
            last = changes.pop() if changes else None
            if last is None:
                return None
            removed = self._removed_now() if any(not before for before, _ in last.moves) else None
            back = [(after, before or f"{removed}/{after}") for before, after in last.moves]
            self._move([pair for pair in reversed(back) if self._path(pair[0]).exists()])
            self._write(changes)
            people.record(f"Took back: {last.text} in {self._title()}")
        return last

    def add_class(self, name: str) -> str:
        """Add an empty class; return its name."""
        name = self.new_name(name)
        folder = self.source / name
        with storage_errors(folder):
            folder.mkdir(parents=True)
        self.note(f"Added the class {name}", [("", self._short(folder))])
        return name

    def rename_class(self, old: str, new: str) -> Moves:
        """Rename a class; return the moves."""
        new = self.new_name(new, old)
        return self._move([(self._short(self.source / old), self._short(self.source / new))])

    def remove_class(self, name: str) -> Moves:
        """Remove a class with its files; return the moves."""
        folder = self._short(self.source / name)
        return self._move([(folder, f"{self._removed_now()}/{folder}")])

    def move_to(self, files: Iterable[Path], class_: str) -> Moves:
        """Move files into a class; return the moves."""
        folder = self.source / class_
        if not folder.is_dir():
            raise no_class(class_)
        away = [file for file in files if file.parent != folder]
        return self._move([(self._short(file), self._short(folder / file.name)) for file in away])

    def remove(self, files: Iterable[Path]) -> Moves:
        """Remove files; return the moves."""
        removed = self._removed_now()
        return self._move([(self._short(file), f"{removed}/{self._short(file)}") for file in files])

    def added(self, files: Iterable[Path]) -> str:
        """Record new files, together with those just before, and say how many they are."""
        moves, changes = [("", self._short(file)) for file in files], self.changes()
        last = changes[-1] if changes else None
        together = last and last.moves and last.text.endswith(" added")
        if last and together and time.time() - last.when < _TOGETHER:  # of a camera that records
            self._write(changes[:-1])
            moves = [*last.moves, *moves]
        text = f"{counted(len(moves), 'photograph')} added"
        self.note(text, moves)
        return text

    def sweep(self, kept: float = KEPT) -> None:
        """Delete for good what was removed seven days ago."""
        if self._source is None:
            return
        folder = self._source.parent / REMOVED
        for entry in list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            removed = entry.name.partition("-")[0]
            if removed.isdecimal() and time.time() - int(removed) / 1e9 > kept:
                shutil.rmtree(entry, ignore_errors=True)
        changes = self.changes()
        recent = [change for change in changes if time.time() - change.when <= kept]
        if len(recent) < len(changes):
            self._write(recent)

    def new_name(self, text: str, old: str = "") -> str:
        """The name that a class can have, which no other has; ``old`` may have it."""
        name = class_name(text)
        others = {path.name for path in self.source.iterdir() if path.is_dir()} - {old}
        if name.casefold() in {other.casefold() for other in others}:
            raise SourceError(f"There is a class {name!r:.80} already", "Choose another name.")
        return name

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

    def _move(self, pairs: Moves) -> Moves:
        """Rename files or folders: all, or none."""
        people.require("labeller")
        before, places = self.changes(), dict[Path, Path]()
        done: list[tuple[Path, Path]] = []
        with storage_errors(self.source):
            for old, new in pairs:
                source, target = self._path(old), self._path(new)
                while target in places or (target.exists() and not target.samefile(source)):
                    name = f"{Path(new).stem[:200]}-{secrets.token_hex(4)}{target.suffix}"
                    target = target.with_name(name)
                places[target] = source
            moves = [(self._short(file), self._short(target)) for target, file in places.items()]
            self._write([*before, Change(text=_BEGUN, when=time.time(), moves=moves)])
            try:
                for target, source in places.items():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source.rename(target)
                    done.append((source, target))
            except BaseException:
                for source, target in reversed(done):
                    with contextlib.suppress(OSError):
                        target.rename(source)
                self._write(before)
                raise
        return moves

    def _write(self, changes: Sequence[Change]) -> None:
        write_json(self._file, [change.model_dump() for change in changes])
