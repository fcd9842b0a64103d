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
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.members import ArchiveFiles, read_member
from opsin.data.sources.packed import Record, labelled_records, open_packed
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
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


def shards_of(request: SourceRequest) -> list[Path]:
    """Return the shards that a source means: one file, ``name-{000..012}.tar``, or a folder's."""
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
    else:
        shards = []
    return shards if shards and is_webdataset(shards[0]) else []


def is_webdataset(shard: Path) -> bool:
    """Tell by the first members: an image, and its class beside it."""
    if not is_archive(shard) or not shard.is_file():
        return False
    with contextlib.suppress(SourceError), contextlib.closing(iter(ArchiveFiles(shard, bool))) as m:
        first = [_key_and_ending(parts) for parts, _ in itertools.islice(m, _LOOK)]
        images = {key for key, ending in first if is_image_name(f"a.{ending}")}
        return any(key in images and ending in _SAYS_CLASS for key, ending in first)
    return False


def _key_and_ending(parts: Sequence[str]) -> tuple[str, str]:
    """Part a name at the first dot after its folders, as WebDataset does; keep the last ending."""
    stem, _, ending = parts[-1].partition(".")
    return "/".join((*parts[:-1], stem)), ending.lower().rpartition(".")[2]


def records_in(shard: Path) -> Iterator[Record]:
    """Yield the samples of a shard: members that follow each other and share a key."""
    split = part_in_name(shard.name)
    files = ArchiveFiles(shard, bool)
    with contextlib.closing(iter(files)) as members:
        named = ((*_key_and_ending(parts), member) for parts, member in members)
        for key, sample in itertools.groupby(named, lambda each: each[0]):
            image, label = b"", ""
            for _, ending, member in sample:
                if is_image_name(f"a.{ending}") and not image:
                    image = read_member(member, files.budget, limit=MAX_BYTES)
                elif ending in _SAYS_CLASS:
                    content = read_member(member, files.budget, limit=_LONGEST)
                    label = _label(content, ending, key, shard) or label
            if image:
                yield Record(image, label, split, "", key)


def _label(content: bytes, ending: str, key: str, shard: Path) -> str:
    """Return the class that a member says; "" where JSON says none."""
    try:
        if len(content) > _LONGEST:
            raise ValueError("it is longer than any name")
        text = content.decode("utf-8").strip()
        if ending != "json":
            return text
        said = json.loads(text)
        found = [said[name] for name in _KEYS if name in said] if isinstance(said, dict) else []
        return text_of(found[0], "label") if found else ""
    except (ValueError, RecursionError) as error:
        raise SourceError(
            "the name or the number of a class beside each image",
            f"{key}.{ending} in {shard.name} is none ({error})",
            "Write the shard again.",
        ) from error


def _locate(request: SourceRequest) -> LocatedSource:
    shards = shards_of(request)
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise SourceError(
            f"{len(shards):,} shards",
            f"there is no {missing[0]}",
            "Fetch it, or write the range of those that are here.",
        )
    key = repr(("webdataset", key_of_files(*shards)))

    def read() -> LabelledImages:
        source = request.written
        return open_packed(source, key) or labelled_records(
            source,
            (record for shard in shards for record in records_in(shard)),
            key=key,
            watcher=request.watcher,
        )

    return LocatedSource(key, read)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    shards = shards_of(request)

    def each() -> Iterator[ListedImage]:
        for shard in shards:
            for image in images_in_archive(shard, request.watcher):
                # Shards may use the same keys.
                own = f"{shard.name}/{image.name}" if len(shards) > 1 else image.name
                yield replace(image, name=own)

    return Stream(request.written, "archive", each)


KIND = SourceKind(
    title="WebDataset shards",
    rows=(
        SourceRow(
            "WebDataset shards",
            "`.tar` with `KEY.jpg` and `KEY.cls` (or `KEY.json` with `label`): one, a folder of "
            "them, or `photos-{000..012}.tar`",
            "by the files' names, such as `photos-train-000.tar`, else cut by Opsin",
        ),
    ),
    match=lambda request: bool(shards_of(request)),
    locate=_locate,
    iter_unlabelled=_iter_unlabelled,
    rank=-1,  # it would be unpacked as an archive without classes
)
