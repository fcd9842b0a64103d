"""The labels of a heap in one SQLite file: who, when, how, and what was there before."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from opsin.core.database import database_errors, open_database, write_database
from opsin.core.errors import RecipeError
from opsin.core.storage import exclusive, storage_errors
from opsin.data.spelling import nfc

_APPLICATION: Final = int.from_bytes(b"OpsL")
_TABLES: Final = {
    "about": "CREATE TABLE about (content TEXT NOT NULL)",
    "classes": "CREATE TABLE classes (position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "labels": "CREATE TABLE labels (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, image BLOB NOT "
    "NULL, name BLOB NOT NULL, answer TEXT NOT NULL, class TEXT, who TEXT NOT NULL, how TEXT NOT "
    "NULL, at REAL NOT NULL, undoes INTEGER)",
    "asked": "CREATE TABLE asked (image BLOB PRIMARY KEY, who TEXT NOT NULL, at REAL NOT NULL)",
}
#: Seconds that a photograph is one person's to answer.
ASKED_FOR: Final = 300.0
_LONGEST: Final = 255

#: How a photograph got its label that was sorted by hand.
FOLDERS: Final = "folders"

Answer = Literal["label", "none", "unclear", "open"]
#: What is to be kept of a photograph: its digest, name, answer and, for "label", class.
Said = tuple[bytes, str, Answer, str | None]


class Label(NamedTuple):
    """What was said about a photograph."""

    image: bytes  # digest of its pixels
    name: str
    answer: Answer
    label: str | None  # the class, for "label"
    who: str
    how: str  # group, question, random, grid, file …, or `FOLDERS`
    at: float  # seconds since 1970
    step: int  # what was said at once has one number
    undoes: int | None  # the step that this takes back


class LabelFile:
    """Labels, each kept before it is shown as saved; several processes may use one file."""

    def __init__(self, path: Path, classes: Sequence[str] = ()) -> None:
        self.path = path
        if path.is_dir() or not path.name:
            raise RecipeError(f"{path} is a folder", "Give a file for the labels.")
        with self._errors():
            if not os.path.lexists(path):
                about = [("INSERT INTO about VALUES (?)", (json.dumps({"format": 1}),))]
                lock = path.with_name(f".{path.name}.lock")
                with storage_errors(path), exclusive(lock, lambda: None):
                    if not os.path.lexists(path):  # or it would replace what another has begun
                        write_database(path, _TABLES, _APPLICATION, about)
            self._db = open_database(path, _TABLES, _APPLICATION, shared=True, damaged=_damaged)
        self._read, self._last = 0, dict[bytes, Label]()  # rows, and what they said last
        for name in classes:
            self.add_class(name)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order in which they came."""
        with self._errors():
            query = "SELECT name FROM classes ORDER BY position"
            names = [name for (name,) in self._db.execute(query)]
        if not all(isinstance(name, str) for name in names):
            raise _damaged(self.path)
        return names

    def add_class(self, name: str) -> str:
        """Add a class; return its name, as it is written if it is there in other letters."""
        name = nfc(name.strip())
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise RecipeError(f"{name!r:.80} cannot be a class's name", "Give another one.")
        with self._changing() as db:
            for other in self.classes:
                if other.casefold() == name.casefold():
                    return other
            db.execute("INSERT INTO classes (name) VALUES (?)", (name,))
        return name

    def put(
        self,
        answers: Iterable[Said],
        *,
        who: str = "",
        how: str | Mapping[bytes, str] = "",
        undoes: int | None = None,
    ) -> int:
        """Keep answers as one step, ``how`` they came for all or by image; return its number."""
        with self._changing() as db:
            (step,) = db.execute("SELECT coalesce(max(step), 0) + 1 FROM labels").fetchone()
            now, rows = time.time(), []
            for image, name, answer, label in answers:
                said = step, image, name.encode("utf-8", "surrogatepass"), answer, label
                rows.append((*said, who, how if isinstance(how, str) else how[image], now, undoes))
            db.executemany(
                "INSERT INTO labels (step, image, name, answer, class, who, how, at, undoes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            db.executemany("DELETE FROM asked WHERE image = ?", [(row[1],) for row in rows])
        return int(step)

    def now(self) -> dict[bytes, Label]:
        """What holds about each photograph, by its digest."""
        for row, label in self._labels(after=self._read):
            self._read, self._last[label.image] = row, label
        return {image: label for image, label in self._last.items() if label.answer != "open"}

    def by_person(self) -> dict[str, dict[bytes, Label]]:
        """What each person has said first about each photograph, and has not taken back."""
        said = dict[str, dict[bytes, Label]]()
        for label in self._standing():
            said.setdefault(label.who, {}).setdefault(label.image, label)
        return said

    def undo(self, who: str = "") -> int:
        """Take back the last step of a person; return how many photographs it was about."""
        with self._changing():
            standing = self._standing()
            last = max((label.step for label in standing if label.who == who), default=None)
            stood = {label.image: label for label in standing}
            taken = {label.image: label for label in standing if label.step == last}
            # Somebody else may have answered since.
            others = {label.image: label for label in standing if label.step != last}
            back = {
                image: others.get(image, was._replace(answer="open", label=None, how="undo"))
                for image, was in taken.items()
            }
            if taken:
                said = [
                    (image, taken[image].name, now.answer, now.label) for image, now in back.items()
                ]
                hows = {image: now.how for image, now in back.items()}
                self.put(said, who=who, how=hows, undoes=last)
        return sum(stood[image].step == last for image in taken)

    def ask(self, images: Iterable[bytes], who: str) -> list[bytes]:
        """Reserve photographs for a person; return those that nobody else was asked about."""
        with self._changing() as db:
            db.execute("DELETE FROM asked WHERE at < ?", (time.time() - ASKED_FOR,))
            others = self.asked_of_others(who)
            free = [image for image in images if image not in others]
            db.executemany(
                "INSERT OR REPLACE INTO asked VALUES (?, ?, ?)",
                [(image, who, time.time()) for image in free],
            )
        return free

    def asked_of_others(self, who: str) -> set[bytes]:
        """Photographs that others are asked about now."""
        with self._errors():
            query = "SELECT image FROM asked WHERE who != ? AND at >= ?"
            return {image for (image,) in self._db.execute(query, (who, time.time() - ASKED_FOR))}

    def release(self, who: str) -> None:
        """Let others be asked what a person was asked about and has not answered."""
        with self._changing() as db:
            db.execute("DELETE FROM asked WHERE who = ?", (who,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _standing(self) -> list[Label]:
        """What was said and not taken back, in order."""
        labels = [label for _, label in self._labels()]
        undone = {label.undoes for label in labels}
        return [label for label in labels if label.undoes is None and label.step not in undone]

    def _labels(self, after: int = 0) -> Iterator[tuple[int, Label]]:
        """The rows after one of them, in order, with their numbers."""
        query = (
            "SELECT id, image, name, answer, class, who, how, at, step, undoes FROM labels "
            "WHERE id > ? ORDER BY id"
        )
        with self._errors():
            for row, image, name, answer, label, who, how, *rest in self._db.execute(
                query, (after,)
            ):
                at, step, undoes = rest
                sound = isinstance(image, bytes) and len(image) == 32 and isinstance(name, bytes)
                is_label = answer == "label"
                sound &= answer in get_args(Answer) and is_label == isinstance(label, str)
                if not (sound and isinstance(step, int) and isinstance(at, float)):
                    raise _damaged(self.path)
                try:
                    text = name.decode("utf-8", "surrogatepass")
                except UnicodeDecodeError as error:
                    raise _damaged(self.path) from error
                yield row, Label(image, text, answer, label, str(who), str(how), at, step, undoes)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Commit the block's changes together, on the disk; within another such block, with it."""
        with self._errors():
            outer = self._db.in_transaction
            if not outer:
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                if not outer:
                    self._db.execute("COMMIT")
            except BaseException:
                if not outer and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(self.path, self.path, _damaged)


def _damaged(path: Path, why: str = "") -> RecipeError:
    why = why or f"{path} is damaged, or something else wrote it"
    return RecipeError(why, "Give another file for the labels, or move that one away.")
