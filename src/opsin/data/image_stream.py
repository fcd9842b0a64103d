"""Streams of images that are listed and not yet decoded."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, SourceError
from opsin.data.cache import DigestSet
from opsin.data.shard import Shard, ShardInputs, counted_name
from opsin.stores.store_address import StoredObject, is_stored

#: A file, an object of a store, a file's bytes, or an array.
Listed = str | Path | StoredObject | bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class ListedImage:
    """An image before decoding, or why it is unavailable; label -1 for none."""

    name: str
    image: Listed
    label: int = -1
    part: int = 0
    problem: ImageError | None = None

    @classmethod
    def at(
        cls,
        row: int,
        names: Sequence[str],
        images: Sequence[Path | StoredObject | bytes | NDArray[np.uint8]] | NDArray[Any],
    ) -> Self:
        """Return the image of a row, or with the problem of reading it."""
        name = str(names[row])
        try:
            return cls(name, images[row])
        except ImageError as error:
            return cls(name, b"", problem=error)

    @property
    def path(self) -> str | None:
        """Its file, or ``None`` for other content."""
        return str(self.image) if isinstance(self.image, str | Path) else None

    def absolute(self) -> Self:
        """Return it with an absolute path, for a process in another folder."""
        if self.path is None:
            return self
        return replace(self, image=os.path.abspath(self.path))  # noqa: PTH100  any text


def held_bytes(item: ListedImage) -> int:
    """Return the number of bytes that a listed image holds in memory."""
    if isinstance(item.image, np.ndarray):
        return item.image.nbytes
    return len(item.image) if isinstance(item.image, bytes) else 0


@dataclass(frozen=True)
class Stream:
    """Images of one source, listed lazily in constant memory.

    Args:
        source: What the user called it.
        kind: What it is: ``folder``, ``table``, ``archive`` …
        each: Lists the images.
        count: Counts them by a quick pass; ``None`` if that needs reading.
        close: Ends a wait for names on standard input, from any thread.
        inputs: Which shard of the source they are.
        passing: Whether it can be read only once.
    """

    source: str
    kind: str
    each: Callable[[], Iterator[ListedImage]]
    count: Callable[[], int | None] = lambda: None
    close: Callable[[], None] = lambda: None
    inputs: ShardInputs | None = None
    passing: bool = False

    @property
    def unique(self) -> bool:
        """Whether names are unique; those in tables and lists may repeat."""
        return self.kind in ("folder", "store", "archive")

    def __iter__(self) -> Iterator[ListedImage]:
        return self.each()

    def sample(self) -> ListedImage | None:
        """Return one image; ``None`` if there is none, or reading would consume it."""
        return None if self.passing else next(iter(self), None)


def stream_of_one(source: str, path: Path) -> Stream:
    """Return the stream of one image file."""
    return Stream(source, "file", lambda: iter([ListedImage(source, str(path))]), lambda: 1)


def join_streams(streams: Sequence[Stream]) -> Stream:
    """Return the images of several sources as one stream."""
    if len(streams) == 1:
        return streams[0]
    places = [
        stream.source if is_stored(stream.source) else os.path.realpath(stream.source)
        for stream in streams
        if stream.source != "-"
    ]
    # *.jpg may expand to other files tomorrow, so their folder is the source.
    try:
        source = os.path.commonpath(places) if places else "-"
    except ValueError:  # on different drives, or a disk and a store
        source = " + ".join(places)

    def named(stream: Stream) -> Iterator[ListedImage]:
        if stream.kind in ("file", "paths"):
            return iter(stream)
        root = stream.source.rstrip("/")
        return (replace(image, name=f"{root}/{image.name}") for image in stream)

    def count() -> int | None:
        counts = [stream.count() for stream in streams]
        return None if None in counts else sum(filter(None, counts))

    def close() -> None:
        for stream in streams:
            stream.close()

    return Stream(
        source,
        "file" if all(stream.kind == "file" for stream in streams) else "several",
        lambda: itertools.chain.from_iterable(map(named, streams)),
        count,
        close,
        passing=any(stream.passing for stream in streams),
    )


def cut_stream(stream: Stream, shard: Shard, again: Stream) -> Stream:
    """Return the images of one shard; each name counts once."""

    def named(images: Stream) -> Iterator[ListedImage]:
        seen, key = DigestSet(), os.urandom(16)
        for image in images:
            name = image.name.encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
            if images.unique or seen.add(int.from_bytes(digest, "big")):
                yield image

    inputs = ShardInputs.of(shard, (image.name for image in named(stream)))

    def each() -> Iterator[ListedImage]:
        digest, rows = hashlib.sha256(), inputs.rows
        for row, image in enumerate(named(again)):
            if row in rows:
                yield image
            digest.update(counted_name(image.name))
        if digest.hexdigest() != inputs.fingerprint:
            raise SourceError(
                f"Images of {stream.source} were added, removed or renamed while its shards were "
                "made",
                "Begin anew with another file.",
            )

    count = len(inputs.rows)
    return replace(stream, each=each, count=lambda: count, inputs=inputs, passing=False)
