"""The images of one shard of a stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace

from opsin.core.errors import SourceError
from opsin.data.digest_set import DigestSet
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.listed_images import ListedImages
from opsin.data.shard import NamesDigest, Shard, ShardInputs


def cut_stream(stream: Stream, shard: Shard, again: Stream, *, once: bool) -> Stream:
    """Return the images of a source that are in one shard."""
    names = NamesDigest()
    listed: ListedImages | None = ListedImages()
    for image in _each(stream, once=once):
        names.add(image.name)
        if isinstance(image.image, bytes):
            listed = None
        elif listed is not None:
            listed.add(image)
    inputs = ShardInputs(shard, names.count, names.hex)

    def each() -> Iterator[Unlabelled]:
        if listed is not None:
            yield from listed.rows(inputs.rows)
            return
        seen = NamesDigest()
        for image in _each(again, once=once):
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


def _each(stream: Stream, *, once: bool) -> Iterator[Unlabelled]:
    """Yield a stream's images; each name once, where that is asked for and not known anyway."""
    if not once or stream.unique:
        yield from stream
        return
    seen, key = DigestSet(), os.urandom(16)
    for image in stream:
        name = image.name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=8, key=key).digest()
        if seen.add(int.from_bytes(digest, "big")):
            yield image
