"""WebDataset: tar files in which an image and its class share the beginning of their names."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from opsin.core.errors import SourceError
from opsin.data.formats import MAX_BYTES
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import is_image_name
from opsin.data.sources.archive import images_in_archive, is_archive
from opsin.data.sources.arrow_tables import part_in_name
from opsin.data.sources.contents import LabelledImages, LocatedSource, Row, key_of_files
from opsin.data.sources.members import Archive
from opsin.data.sources.packed import labelled_rows, open_packed
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.sources.table_cells import text_of

# Endings of members that say the class: alone, or within JSON under one of the names.
_SAYS_CLASS: Final = ("cls", "label", "class", "json")
_KEYS: Final = ("label", "cls", "class", "class_name")
# Members looked at to tell such an archive from others, and bytes of the longest class.
_LOOK: Final = 16
_LONGEST: Final = 1 << 20
# {000..012} in an address stands for so many shards.
_RANGE: Final = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_SHARDS: Final = 100_000


def _shards_of(request: SourceRequest) -> list[Path]:
    """Return the shards that a source means: one file, ``name-{000..012}.tar``, or a folder's."""
    shards: list[Path] = []
    if request.is_file:
        shards = [request.path]
    elif (pattern := _RANGE.search(request.written)) is not None:
        first, last = pattern[1], pattern[2]
        numbers = range(int(first), min(int(last), int(first) + _MOST_SHARDS) + 1)
        before, after = request.written[: pattern.start()], request.written[pattern.end() :]
        shards = [Path(f"{before}{n:0{len(first)}d}{after}").expanduser() for n in numbers]
    elif request.is_folder and not request.holds_images:
        files = itertools.islice(request.path.iterdir(), _MOST_SHARDS)
        shards = sorted(file for file in files if is_archive(file) and file.is_file())
    return shards if shards and is_webdataset(shards[0]) else []


def is_webdataset(shard: Path) -> bool:
    """Tell by the first members: an image, and its class beside it."""
    if not is_archive(shard) or not shard.is_file():
        return False
    with contextlib.suppress(SourceError), contextlib.closing(Archive(shard).files(bool)) as files:
        first = [_key_and_ending(parts) for parts, _ in itertools.islice(files, _LOOK)]
        images = {key for key, ending in first if is_image_name(f"a.{ending}")}
        return any(key in images and ending in _SAYS_CLASS for key, ending in first)
    return False


def _key_and_ending(parts: Sequence[str]) -> tuple[str, str]:
    """Part a name at the first dot after its folders, as WebDataset does; keep the last ending."""
    stem, _, ending = parts[-1].partition(".")
    return "/".join((*parts[:-1], stem)), ending.lower().rpartition(".")[2]


def _rows_in(shard: Path) -> Iterator[Row]:
    split = part_in_name(shard.name)
    archive = Archive(shard)
    with contextlib.closing(archive.files(bool)) as files:
        named = ((*_key_and_ending(parts), member) for parts, member in files)
        for key, sample in itertools.groupby(named, lambda each: each[0]):
            image, label = b"", ""
            for _, ending, member in sample:
                if is_image_name(f"a.{ending}") and not image:
                    image = archive.read(member, MAX_BYTES)
                elif ending in _SAYS_CLASS:
                    content = archive.read(member, _LONGEST)
                    label = _label(content, ending, key, shard) or label
            if image:
                yield Row(image, label, split, name=key)


def _label(content: bytes, ending: str, key: str, shard: Path) -> str:
    try:
        if len(content) > _LONGEST:
            raise ValueError("it is longer than any name")
        text = content.decode("utf-8").strip()
        if ending != "json":
            return text
        about = json.loads(text)
        found = [about[name] for name in _KEYS if name in about] if isinstance(about, dict) else []
        return text_of(found[0], "label").strip() if found else ""
    except (ValueError, RecursionError) as error:
        raise SourceError(
            "the name or the number of a class beside each image",
            f"{key}.{ending} in {shard.name} is none ({error})",
            "Write the shard again.",
        ) from error


def _locate(request: SourceRequest) -> LocatedSource:
    shards = _shards_of(request)
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise SourceError(
            f"{len(shards):,} shards",
            f"there is no {missing[0]}",
            "Fetch it, or write the range of those that are here.",
        )
    source, key = request.written, repr(("webdataset", key_of_files(*shards)))

    def read() -> LabelledImages:
        rows = (row for shard in shards for row in _rows_in(shard))
        kept = open_packed(source, key)
        return kept or labelled_rows(source, rows, key=key, watcher=request.watcher)

    return LocatedSource(key, read)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    shards = _shards_of(request)

    def images() -> Iterator[ListedImage]:
        for shard in shards:
            for image in images_in_archive(shard, request.watcher):
                # Shards may use the same keys.
                several = len(shards) > 1
                yield replace(image, name=f"{shard.name}/{image.name}") if several else image

    return Stream(request.written, "archive", images)


KINDS = (
    SourceKind(
        title="WebDataset shards",
        match=lambda request: bool(_shards_of(request)),
        locate=_locate,
        iter_unlabelled=_iter_unlabelled,
        rank=-1,  # it would be unpacked as an archive without classes
    ),
)
