"""JSON: how it is written, and how it is read from files that a stranger may have written.

A few megabytes of brackets become gigabytes of objects, and a file of any size can be made of
nothing. So no more is read than a file of Opsin's has, and what it would become is estimated first.
"""

from __future__ import annotations

import errno
import functools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, TypeAlias

from opsin.core.files import ConfinedDir

#: What JSON can say.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

#: Bytes of the longest file: a report on 1,500 classes, twice.
MOST: Final = 64 << 20
# Bytes that a file's text and objects may take together.
_MEMORY: Final = 448 << 20


def json_text(content: object, *, indent: int | None = None, compact: bool = False) -> str:
    """Return JSON, letters as they are; numbers that are not finite, as JSON has none, are null."""
    between = (",", ":") if compact else None
    write = functools.partial(
        json.dumps, ensure_ascii=False, allow_nan=False, indent=indent, separators=between
    )
    try:
        return write(content)
    except ValueError:
        return write(_with_null(content))


def _with_null(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _with_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with_null(value) for value in content]
    return content


def read_json(file: BinaryIO) -> Json:
    """Read a file of JSON."""
    return parse_json(_content(file))


def read_json_lines(file: BinaryIO, *, skip: bool = False) -> list[JsonObject]:
    """Read lines of JSON up to the first that is no object: a crash may have cut the last."""
    found: list[JsonObject] = []
    content = _content(file)
    _check_memory(content)
    for line in content.splitlines():
        try:
            event = _loaded(line.decode("utf-8", "replace"))
        except ValueError:
            event = None
        if isinstance(event, dict):
            found.append(event)
        elif not skip:
            break
    return found


def _content(file: BinaryIO) -> bytes:
    # A file of five gigabytes is not even begun with.
    if os.fstat(file.fileno()).st_size <= MOST:
        content = file.read(MOST + 1)
        if len(content) <= MOST:
            return content
    raise ValueError(f"it is longer than {MOST >> 20} MB")


def parse_json(content: bytes) -> Json:
    """Read JSON from its bytes."""
    _check_memory(content)
    return _loaded(content.decode("utf-8"))


def _check_memory(content: bytes) -> None:
    """See that a text becomes no more than it should: bytes of its characters, and of its parts."""
    memory = len(content) * (1 if content.isascii() else 4)
    memory += 64 * (content.count(b"[") + content.count(b"{"))
    memory += 32 * content.count(b'"') + 40 * content.count(b",")
    if memory > _MEMORY:
        raise ValueError("it holds more than such a file does")


def _loaded(text: str) -> Json:
    try:
        content: Json = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return content


def _no_number(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no number")


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


# Bytes of a line; a batch of sorted images ends with one that may name all of them.
_LONGEST_EVENT: Final = 32 << 20


class EventLog:
    """A file of events, for one process at a time."""

    def __init__(self, folder: ConfinedDir, name: str) -> None:
        self._folder, self._name = folder, name

    def append(self, *events: Any) -> None:
        """Add events, and bring them to the disk. A last line that was cut short goes."""
        content = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        with self._folder.open(self._name, "ab") as file:
            size = os.fstat(file.fileno()).st_size
            if (whole := self._whole(size)) < size:
                file.truncate(whole)
            left = memoryview(content)
            while left:
                left = left[file.write(left) or 0 :]
            os.fsync(file.fileno())

    def _whole(self, size: int) -> int:
        """Return where the last line ends that has its end."""
        with self._folder.open(self._name) as file:
            file.seek(max(0, size - 1))
            if file.read(1) in {b"", b"\n"}:
                return size
            start = file.seek(max(0, size - _LONGEST_EVENT))
            end = file.read(_LONGEST_EVENT).rfind(b"\n") + 1
        if start and not end:
            raise OSError(errno.EFBIG, "Its last line is longer than any", self._name)
        return start + end

    def read(self, *, skip: bool = False) -> Iterator[Any]:
        """Yield the events, the oldest first; a last line that was cut short is left out."""
        if not self._folder.has(self._name):
            return
        with self._folder.open(self._name) as file:
            while (line := file.readline(_LONGEST_EVENT)).endswith(b"\n"):
                try:
                    event = parse_json(line)
                except ValueError:
                    if skip:
                        continue
                    raise
                yield event
            if len(line) == _LONGEST_EVENT:
                raise ValueError("a line is longer than any")
