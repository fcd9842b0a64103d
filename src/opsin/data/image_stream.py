"""Images that have no label yet, one at a time."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from opsin.core.errors import ImageError, SourceError
from opsin.data.digest_set import DigestSet
from opsin.data.shard import NamesDigest, Shard, ShardInputs
from opsin.stores.store_address import StoredObject, is_stored


@dataclass(frozen=True)
class Unlabelled:
    """One image."""

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
    """Images from one source, found while they are asked for: any number in the same memory."""

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
        """Yield the images, one at a time."""
        return self.each()

    def count(self) -> int | None:
        """Return how many images there are, by a quick pass; ``None`` where only reading tells."""
        return self.number()

    def sample(self) -> Unlabelled | None:
        """Return one of the images; ``None`` where that would take it away, or there is none."""
        return None if self.passing else next(iter(self), None)

    def close(self) -> None:
        """End a wait for names on standard input, in whichever thread it is."""
        self.stop()


def stream_of_one(source: str, path: Path) -> Stream:
    """Return the stream of one image file."""
    place = str(path)
    return Stream(source, "file", lambda: iter([Unlabelled(source, place, place)]), lambda: 1)


def join_streams(streams: Sequence[Stream]) -> Stream:
    """Return the images of several sources as one stream."""
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


def cut_stream(stream: Stream, shard: Shard, again: Stream, *, once: bool) -> Stream:
    """Return the images of a source that are in one shard; ``once``: each name counts once."""
    names = NamesDigest()
    for image in _named(stream, once=once):
        names.add(image.name)
    inputs = ShardInputs(shard, names.count, names.hex)

    def each() -> Iterator[Unlabelled]:
        seen = NamesDigest()
        for image in _named(again, once=once):
            if seen.count in inputs.rows:
                yield image
            seen.add(image.name)
        if seen.hex != inputs.fingerprint:
            raise SourceError(
                "a source that stays as it is while its shards are made",
                f"images of {stream.source} were added, removed or renamed",
                "Begin anew with another file.",
            )

    count = len(inputs.rows)
    return replace(stream, each=each, number=lambda: count, inputs=inputs, passing=False)


def _named(stream: Stream, *, once: bool) -> Iterator[Unlabelled]:
    """Yield a stream's images; each name once, where that is asked for and not known anyway."""
    seen, key = DigestSet(), os.urandom(16)
    for image in stream:
        name = image.name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
        if not once or stream.unique or seen.add(int.from_bytes(digest, "big")):
            yield image
