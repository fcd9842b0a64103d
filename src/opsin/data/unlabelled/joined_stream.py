"""Several sources, one after the other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from opsin.data.unlabelled.stream import Stream, Unlabelled


def join_streams(streams: Sequence[Stream]) -> Stream:
    """Return the pictures of several sources as one stream.

    A file keeps the name that the user wrote; names within other sources begin with the source, so
    that those of two folders stay apart.

    Args:
        streams: One or more, as `open_stream` returns them.

    Example:
        >>> from opsin.data.unlabelled import open_stream
        >>> joined = join_streams([open_stream("a.png"), open_stream("b.png")])
        >>> joined.kind, [picture.name for picture in joined]
        ('file', ['a.png', 'b.png'])
    """
    if len(streams) == 1:
        return streams[0]
    alone = all(stream.kind == "file" for stream in streams)
    places = [os.path.realpath(stream.source) for stream in streams if stream.source != "-"]
    return Stream(
        # A pattern such as *.jpg stands for other files tomorrow: their folder is the source.
        _common(places),
        "file" if alone else "several",
        lambda: itertools.chain.from_iterable(_named(stream) for stream in streams),
        lambda: _sum([stream.count() for stream in streams]),
        lambda: _close(streams),
    )


def _common(places: Sequence[str]) -> str:
    try:
        return os.path.commonpath(places) if places else "-"
    except ValueError:  # on Windows: on different drives
        return " + ".join(places)


def _named(stream: Stream) -> Iterator[Unlabelled]:
    if stream.kind in ("file", "picture", "paths"):
        yield from stream
        return
    root = stream.source.rstrip("/")
    for picture in stream:
        yield replace(picture, name=f"{root}/{picture.name}")


def _close(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.close()


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
