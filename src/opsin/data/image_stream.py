"""Streams of images that are listed and not yet decoded, and their shards."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, RecipeError, SourceError
from opsin.data.cache import NameSet
from opsin.data.images import PackedImage, content_of
from opsin.stores.bucket import StoredObject, is_stored

_WRITTEN: Final = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)
_NAMED: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})", re.DOTALL)

#: A file, an object of a store, a file's bytes, or an array.
Listed = str | StoredObject | PackedImage | bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class ListedImage:
    """An image before decoding, or why it is unavailable; label -1 for none."""

    name: str
    image: Listed
    label: int = -1
    part: int = 0
    problem: ImageError | None = None

    @classmethod
    def at(cls, row: int, names: Sequence[str], images: Any) -> Self:
        """Return the image of a row, or with the problem of reading it."""
        listed = cls(str(names[row]), images[row])
        return listed.with_content() if isinstance(listed.image, PackedImage) else listed

    def with_content(self) -> Self:
        """Return it with the bytes of its file, or with the problem of reading them."""
        if isinstance(self.image, np.ndarray):
            return self
        try:
            return replace(self, image=content_of(self.image, self.name))
        except ImageError as error:
            return replace(self, image=b"", problem=error)

    @property
    def path(self) -> str | None:
        """Its file, or ``None`` for other content."""
        return self.image if isinstance(self.image, str) else None

    def absolute(self) -> Self:
        """Return it with an absolute path, for a process in another folder."""
        return replace(self, image=os.path.abspath(self.path)) if self.path else self  # noqa: PTH100


@dataclass(frozen=True, order=True)
class Shard:
    """One of several parts of equal size."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            first = f"they go from 1/{self.count} to {self.count}/{self.count}"
            raise RecipeError(
                f"There is no shard {self}: {first if self.count else 'the first of two is 1/2'}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/3``, the second of three."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise RecipeError(f"A shard is such as 2/3, the second of three, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def rows(self, total: int) -> range:
        """Return the shard's rows of a source, possibly none."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)

    def file(self, out: Path) -> Path:
        """Return the path of the shard's part of ``out``."""
        return out.with_stem(f"{out.stem}-{self.number:05}-of-{self.count:05}")


def shard_of_file(part: Path) -> tuple[Path, Shard] | None:
    """Return the whole file of a shard's file and the shard, by its name; the reverse of `file`."""
    match = _NAMED.fullmatch(part.stem)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return None
    return part.with_stem(match["stem"]), Shard(int(match["number"]), int(match["count"]))


@dataclass(frozen=True)
class ShardInputs:
    """A shard of a source, with the source's count and the SHA-256 of its names."""

    shard: Shard
    images: int
    fingerprint: str

    @classmethod
    def of(cls, shard: Shard, names: Iterable[str]) -> ShardInputs:
        """Count and hash names, or other identities of images, in order."""
        digest, images = hashlib.sha256(), 0
        for name in names:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
            images += 1
        return cls(shard, images, digest.hexdigest())

    @property
    def rows(self) -> range:
        """The shard's rows, in the source's order."""
        return self.shard.rows(self.images)


@dataclass(frozen=True)
class Stream:
    """Images of one source, listed lazily in constant memory."""

    source: str
    kind: str  # ``folder``, ``table``, ``archive`` …
    each: Callable[[], Iterator[ListedImage]]
    #: Counts them by a quick pass; ``None`` if that needs reading.
    count: Callable[[], int | None] = lambda: None
    #: Which shard of the source they are.
    inputs: ShardInputs | None = None

    @property
    def unique(self) -> bool:
        """Whether names are unique; those in tables and lists may repeat."""
        return self.kind in ("folder", "store", "archive")

    def __iter__(self) -> Iterator[ListedImage]:
        return self.each()

    def sample(self) -> ListedImage | None:
        """Return one image; ``None`` if there is none."""
        return next(iter(self), None)


def stream_of_one(source: str, image: str | StoredObject) -> Stream:
    """Return the stream of one image."""
    return Stream(source, "file", lambda: iter([ListedImage(source, image)]), lambda: 1)


def join_streams(streams: Sequence[Stream]) -> Stream:
    """Return the images of several sources as one stream."""
    if len(streams) == 1:
        return streams[0]
    places = [
        stream.source if is_stored(stream.source) else os.path.realpath(stream.source)
        for stream in streams
    ]
    # *.jpg may expand to other files tomorrow, so their folder is the source.
    try:
        source = os.path.commonpath(places)
    except ValueError:  # on different drives, or a disk and a store
        source = " + ".join(places)

    def named(stream: Stream) -> Iterator[ListedImage]:
        if stream.kind == "file":
            return iter(stream)
        root = stream.source.rstrip("/")
        return (replace(image, name=f"{root}/{image.name}") for image in stream)

    def count() -> int | None:
        counts = [stream.count() for stream in streams]
        return None if None in counts else sum(filter(None, counts))

    kind = "file" if all(stream.kind == "file" for stream in streams) else "several"
    images = itertools.chain.from_iterable
    return Stream(source, kind, lambda: images(map(named, streams)), count)


def cut_stream(stream: Stream, shard: Shard, again: Stream) -> Stream:
    """Return the images of one shard; each name counts once."""

    def named(images: Stream) -> Iterator[ListedImage]:
        seen = NameSet()
        for image in images:
            if images.unique or seen.add(image.name.encode("utf-8", "surrogatepass")):
                yield image

    inputs = ShardInputs.of(shard, (image.name for image in named(stream)))

    def each() -> Iterator[ListedImage]:
        digest, rows = hashlib.sha256(), inputs.rows
        for row, image in enumerate(named(again)):
            if row in rows:
                yield image
            digest.update(image.name.encode("utf-8", "surrogatepass") + b"\0")
        if digest.hexdigest() != inputs.fingerprint:
            problem = f"Images of {stream.source} were added, removed or renamed meanwhile"
            raise SourceError(problem, "Begin anew with another file.")

    count = len(inputs.rows)
    return replace(stream, each=each, count=lambda: count, inputs=inputs)
