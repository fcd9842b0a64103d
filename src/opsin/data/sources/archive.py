"""Archives of any other kind of source, and WebDataset shards; both are unpacked to folders.

In a shard an image and its class share the beginning of their names: ``1.jpg``, ``1.cls``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import ImageError, SourceError
from opsin.data import sources
from opsin.data.formats import MAX_BYTES
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LEFT_OUT_FILE, ImageTree
from opsin.data.left_out import add_up
from opsin.data.sources import arrays, table
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.folder import folder_stream, note_left_out
from opsin.data.sources.parquet import part_in_name
from opsin.data.sources.rows import Row, collect
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest
from opsin.data.sources.table_cells import text_of
from opsin.data.sources.unpack import SUFFIXES, is_archive, unpack, unpacked_folder

# Endings of members that hold the class: as text, or as JSON under one of the keys.
_SAYS_CLASS = ("cls", "label", "class", "json")
_KEYS = ("label", "cls", "class", "class_name")
# Images sampled to recognise a shard, bytes of the longest class, and shards at most.
_LOOK, _LONGEST, _MOST_SHARDS = 16, 1 << 20, 100_000


@contextlib.contextmanager
def _named_as(path: Path) -> Iterator[None]:
    """Name the archive in errors, not the folder that it was unpacked to."""
    try:
        yield
    except SourceError as error:
        error.replace(str(unpacked_folder(path)), str(path))
        raise


def _left_out(path: Path) -> list[LeftOut]:
    stored = json.loads((unpacked_folder(path) / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    return [LeftOut.model_validate(entry) for entry in stored]


def open_archive(request: SourceRequest) -> LabelledImages:
    """Unpack an archive and open its contents."""
    root = unpack(request.path, request.watcher)
    with _named_as(request.path):
        if _is_shard(root):
            contents = collect(request.written, _samples(root, part_in_name(request.path.name)))
        else:
            contents = _locate_unpacked(request, root).open()
    left_out = add_up([_left_out(request.path), contents.left_out])
    return replace(contents, source=str(request.path), left_out=left_out)


def _locate_unpacked(request: SourceRequest, root: Path) -> LocatedSource:
    allowed = AllowedFolder(root, archive=True)
    inside = replace(request, written=str(root), follow_links=False, archive=allowed)
    if not (arrays.IDX.match(inside) or table.IMAGEFOLDER.match(inside)):
        packed = [match for kind in sources.kinds() if (match := kind.match_packed)]
        files = (replace(inside, written=str(entry)) for entry in sorted(root.iterdir()))
        single = [file for file in files if any(match(file) for match in packed)]
        if len(single) > 1:
            names = ", ".join(file.path.name for file in single[:5])
            raise SourceError(
                f"{root} has several tables or arrays: {names}", "Unpack it and give one of them."
            )
        if single:
            return sources.locate(single[0])
    return sources.locate(inside)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    def images() -> Iterator[ListedImage]:
        for path in [request.path] if request.is_file else _shards_in(request):
            unpack(path, request.watcher)
            inside = replace(request, written=str(unpacked_folder(path)), follow_links=False)
            with _named_as(path):
                for image in folder_stream(inside):
                    # Shards may use the same names.
                    name = image.name if request.is_file else f"{path.name}/{image.name}"
                    yield _with_content(replace(image, name=name))
            note_left_out(_left_out(path), request.watcher)

    return Stream(request.written, "archive", images)


def _with_content(image: ListedImage) -> ListedImage:
    """Read an image: its file belongs to the cache."""
    with open(str(image.image), "rb") as file:  # noqa: PTH123  as text
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        problem = ImageError(f"{image.name}: it is larger than {MAX_BYTES // 1_000_000} MB")
        return replace(image, image=b"", problem=problem)
    return replace(image, image=content)


def _shards_in(request: SourceRequest) -> list[Path]:
    """Return the archives in a folder without images."""
    if not request.is_folder or request.holds_images:
        return []
    files = itertools.islice(request.path.iterdir(), _MOST_SHARDS)
    return sorted(file for file in files if is_archive(file) and file.is_file())


def _is_shard(folder: Path) -> bool:
    """Recognise an unpacked shard: a class lies beside one of its first images."""
    images = itertools.islice(ImageTree(folder, stream=True).images(), _LOOK)
    return any(_file_of_class(folder, name) for name in images)


def _file_of_class(folder: Path, name: str) -> Path | None:
    key = folder / _key_of(name)
    files = (
        key.with_name(f"{key.name}.{ending}")
        for lower in _SAYS_CLASS for ending in (lower, lower.upper())
    )  # fmt: skip
    return next(filter(Path.is_file, files), None)


def _key_of(name: str) -> str:
    """Cut a name at the first dot after its folders, as WebDataset does."""
    around, slash, last = name.rpartition("/")
    return f"{around}{slash}{last.partition('.')[0]}"


def _samples(folder: Path, split: str = "") -> Iterator[Row]:
    last = ""
    for name in ImageTree(folder).images():
        if (key := _key_of(name)) != last:
            last, file = key, _file_of_class(folder, name)
            path = folder / name
            yield Row(path, _class_in(file) if file else "", split, name=key, place=str(path))


def _class_in(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError("it is longer than any name")
        text = content.decode("utf-8").strip()
        if not file.name.endswith(".json"):
            return text
        about = json.loads(text)
        named = [about[name] for name in _KEYS if name in about] if isinstance(about, dict) else []
        return text_of(named[0], "label").strip() if named else ""
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file} names no class ({error})", "Pack the archive again.") from error


def _locate_shards(request: SourceRequest) -> LocatedSource:
    shards = _shards_in(request)

    def rows() -> Iterator[Row]:
        for shard in shards:
            root = unpack(shard, request.watcher)
            if not _is_shard(root):
                raise SourceError(
                    f"{shard} is no shard of WebDataset: no class lies beside its images",
                    "Give one archive, or unpack them into one folder.",
                )
            with _named_as(shard):
                for row in _samples(root, part_in_name(shard.name)):
                    yield row._replace(name=f"{shard.name}/{row.name}")  # shards may share keys

    key = repr(("webdataset", key_of_files(*shards)))
    return LocatedSource(key, lambda: collect(request.written, rows()))


KINDS = (
    SourceKind(
        title=f"an archive ({' '.join(SUFFIXES)})",
        match=lambda request: request.is_file and is_archive(request.path),
        locate=lambda request: LocatedSource(
            repr(("archive", key_of_files(request.path), request.columns)),
            lambda: open_archive(request),
        ),
        iter_unlabelled=_iter_unlabelled,
        files=tuple(f"*.{ending}" for ending in _SAYS_CLASS),
    ),
    SourceKind(
        title="WebDataset shards",
        match=lambda request: bool(_shards_in(request)),
        locate=_locate_shards,
        iter_unlabelled=_iter_unlabelled,
        rank=2,
    ),
)
