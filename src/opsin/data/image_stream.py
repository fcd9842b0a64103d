"""Images that have no label yet, one at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from opsin.core.errors import ImageError
from opsin.data.shard import ShardInputs
from opsin.stores.store_address import StoredObject, is_stored


@dataclass(frozen=True)
class Unlabelled:
    """One image.

    Args:
        name: What it is called, relative to its source, with ``/``; no two of a folder or an
            archive share it, but a table or a list may hold a name twice.
        image: Where its file or object is, or its content, for members of archives and standard
            input.
        path: The file on disk, where the image is a file of its own.
        problem: Why there is nothing to decode, where that is known already: a damaged member of
            an archive.
    """

    name: str
    image: str | bytes | StoredObject
    path: str | None = None
    problem: ImageError | None = None

    def absolute(self) -> Self:
        """Return the same with its file's whole path, for a process that works elsewhere."""
        if self.path is None:
            return self
        path = os.path.abspath(self.path)  # noqa: PTH100  any text
        return replace(self, image=path, path=path)


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Stream:
    """Images from one source, found while they are asked for: any number in the same memory.

    Args:
        source: The source as the user wrote it.
        kind: ``folder``, ``store``, ``table``, ``archive``, ``file`` for one image in a file,
            ``image`` for one on standard input, ``paths`` for names there, ``several``, or another
            kind's name.
        each: Yields the images.
        number: Counts them, as `count` says.
        stop: Ends a wait for input.
        inputs: Where these are one shard of a source, which; ``None``: the whole of it.
        passing: Whether they come once only, as on standard input.

    Example:
        >>> from opsin.data.sources import open_stream
        >>> [image.name for image in open_stream("boot.png")]
        ['boot.png']
    """

    source: str
    kind: str
    each: Callable[[], Iterator[Unlabelled]]
    number: Callable[[], int | None] = _nothing
    stop: Callable[[], None] = _nothing
    inputs: ShardInputs | None = None
    passing: bool = False

    @property
    def unique(self) -> bool:
        """Whether no two images can share a name, as those of tables and lists may."""
        return self.kind in ("folder", "store", "archive", "image")

    def __iter__(self) -> Iterator[Unlabelled]:
        """Yield the images, one at a time.

        Raises:
            SourceError: The source is damaged, hostile, or holds no images; those before the
                damage have been yielded.
        """
        return self.each()

    def count(self) -> int | None:
        """Return how many images there are, by a quick pass; ``None`` where only reading tells.

        That is so for a tar, for standard input, and for a source that turns out to be damaged.
        """
        return self.number()

    def sample(self) -> Unlabelled | None:
        """Return one of the images; ``None`` where that would take it away, or there is none."""
        return None if self.passing else next(iter(self), None)

    def close(self) -> None:
        """End a wait for names on standard input, in whichever thread it is."""
        self.stop()


def stream_of_one(source: str, path: Path) -> Stream:
    """Return the stream of one image file.

    Args:
        source: What the user called it.
        path: Where it is.
    """
    place = str(path)
    return Stream(source, "file", lambda: iter([Unlabelled(source, place, place)]), lambda: 1)


def join_streams(streams: Sequence[Stream]) -> Stream:
    """Return the images of several sources as one stream.

    A file keeps the name that the user wrote; names within other sources begin with the source, so
    that those of two folders stay apart.

    Args:
        streams: One or more, as `opsin.data.sources.open_stream` returns them.

    Example:
        >>> from opsin.data.sources import open_stream
        >>> joined = join_streams([open_stream("a.png"), open_stream("b.png")])
        >>> joined.kind, [image.name for image in joined]
        ('file', ['a.png', 'b.png'])
    """
    if len(streams) == 1:
        return streams[0]
    alone = all(stream.kind == "file" for stream in streams)
    places = [
        stream.source if is_stored(stream.source) else os.path.realpath(stream.source)
        for stream in streams
        if stream.source != "-"
    ]
    return Stream(
        # A pattern such as *.jpg stands for other files tomorrow: their folder is the source.
        _common_folder(places),
        "file" if alone else "several",
        lambda: itertools.chain.from_iterable(_with_source(stream) for stream in streams),
        lambda: _total([stream.count() for stream in streams]),
        lambda: _close(streams),
        passing=any(stream.passing for stream in streams),
    )


def _common_folder(places: Sequence[str]) -> str:
    try:
        return os.path.commonpath(places) if places else "-"
    except ValueError:  # on different drives, or a disk and a store
        return " + ".join(places)


def _with_source(stream: Stream) -> Iterator[Unlabelled]:
    if stream.kind in ("file", "image", "paths"):
        yield from stream
        return
    root = stream.source.rstrip("/")
    for image in stream:
        yield replace(image, name=f"{root}/{image.name}")


def _close(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.close()


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
