"""A picture that has no class yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opsin.core.errors import ImageError

#: What a stream of pictures comes from: ``paths`` are names on standard input, ``picture`` is one
#: picture there, ``file`` one that lies in a file.
Kind = Literal["folder", "table", "archive", "paths", "picture", "file", "several"]


@dataclass(frozen=True)
class Unlabelled:
    """One picture.

    Args:
        name: What it is called, relative to its source, with ``/``; no two of a folder or an
            archive share it, but a table or a list may hold a name twice.
        image: Where its file is, or its content, for members of archives and standard input.
        path: The file on disk, where the picture is a file of its own.
        problem: Why there is nothing to decode, where that is known already: a damaged member of
            an archive.
    """

    name: str
    image: str | bytes
    path: str | None = None
    problem: ImageError | None = None


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Stream:
    """Pictures from one source, found while they are asked for: any number in the same memory.

    Args:
        source: The source as the user wrote it.
        kind: What it is.
        each: Yields the pictures.
        number: Counts them, as `count` says.
        stop: Ends a wait for input.

    Example:
        >>> from opsin.data.unlabelled import open_stream
        >>> [picture.name for picture in open_stream("boot.png")]
        ['boot.png']
    """

    source: str
    kind: Kind
    each: Callable[[], Iterator[Unlabelled]]
    number: Callable[[], int | None] = _nothing
    stop: Callable[[], None] = _nothing

    def __iter__(self) -> Iterator[Unlabelled]:
        """Yield the pictures, one at a time.

        Raises:
            SourceError: The source is damaged, hostile, or holds no pictures; those before the
                damage have been yielded.
        """
        return self.each()

    def count(self) -> int | None:
        """Return how many pictures there are, by a quick pass; ``None`` where only reading tells.

        That is so for a tar, for standard input, and for a source that turns out to be damaged.
        """
        return self.number()

    def close(self) -> None:
        """End a wait for names on standard input, in whichever thread it is."""
        self.stop()


def stream_of_one(source: str, path: Path) -> Stream:
    """Return the stream of one picture file.

    Args:
        source: What the user called it.
        path: Where it is.
    """
    place = str(path)
    return Stream(source, "file", lambda: iter([Unlabelled(source, place, place)]), lambda: 1)
