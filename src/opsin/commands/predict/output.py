"""The file that the user named, written from the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opsin.commands.predict.answers_file import Answer, AnswersFile, damaged
from opsin.commands.predict.rows import RowFormat
from opsin.core.errors import RecipeError
from opsin.core.files import ConfinedDir
from opsin.core.storage import atomic_file, storage_errors

# What an answer that is not ours may raise where its row is made.
_UNSOUND = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Output:
    """The output of a work."""

    def __init__(self, form: RowFormat, answers: AnswersFile, *, whole: bool) -> None:
        self.out, self.form = answers.out, form
        self.answers = answers
        self._whole = whole or form.form == "parquet"
        if self._whole:
            if self.out.exists() and self._size not in (answers.about.written, answers.about.next):
                raise self._changed()
            return
        out = self.out
        with storage_errors(out), ConfinedDir(out.parent) as folder:
            if not folder.has(out.name):
                if answers.about.written is None:
                    answers.note(written=len(form.heading))
                folder.open(out.name, "xb").close()
            if self._size != answers.about.written:
                self._catch_up(folder)
            self._file = folder.open(out.name, "ab")

    @property
    def _size(self) -> int:
        return self.out.stat().st_size

    def _catch_up(self, folder: ConfinedDir) -> None:
        """Add rows that were kept before the process was killed."""
        behind = False
        with folder.open(self.out.name, "rb+") as file:
            for row in self._content():
                if not behind:
                    there = file.read(len(row))
                    if there == row:
                        continue
                    if file.read(1) or not row.startswith(there):
                        raise self._changed()
                    file.seek(-len(there), 2)
                    behind = True
                file.write(row)
            if not behind and file.read(1):
                raise self._changed()

    def _content(self) -> Iterator[bytes]:
        yield self.form.heading
        for line in self.answers.lines():
            try:
                row = self.form.encode(line)
            except _UNSOUND as error:
                raise damaged(self.answers.path) from error
            yield row

    def _changed(self) -> RecipeError:
        return RecipeError(
            f"{self.out} as this command left it",
            "it was changed since, or something else wrote it",
            "Give another file, or move that one away.",
        )

    def append(self, answers: Sequence[Answer]) -> None:
        """Keep answers, and add their rows."""
        with self.answers.transaction():
            rows = self.insert(answers)
        self.add(answers, rows)

    def insert(self, answers: Sequence[Answer]) -> bytes:
        """Keep answers in the transaction, and return the rows to `add` when it has ended well."""
        self.answers.insert(answers)
        if self._whole:
            return b""
        rows = b"".join(self.form.encode(each.line) for each in answers if each.line is not None)
        self.answers.note(written=(self.answers.about.written or 0) + len(rows))
        return rows

    def add(self, answers: Sequence[Answer], rows: bytes) -> None:
        """Count answers that are kept, and add their rows."""
        self.answers.count(answers)
        with storage_errors(self.out):
            left = memoryview(rows)
            while left:
                left = left[self._file.write(left) or 0 :]

    def finish(self) -> None:
        """Write the file where it appears at the end and lacks rows."""
        about, rows = self.answers.about, self.answers.kept.total()
        if not self._whole or (about.rows == rows and self.out.exists()):
            return
        with atomic_file(self.out) as temporary:
            try:
                self.form.write(temporary, self.answers.lines())
            except _UNSOUND as error:
                raise damaged(self.answers.path) from error
            size = temporary.stat().st_size
            self.answers.note(next=size)
        self.answers.note(written=size, rows=rows)

    def close(self) -> None:
        """Close the file."""
        if not self._whole:
            self._file.close()
