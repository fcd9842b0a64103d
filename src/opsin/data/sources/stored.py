"""Sources on object stores: prefixes as folders, and single objects."""

from __future__ import annotations

import hashlib
import itertools
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from opsin.core.errors import RecipeError, SourceError
from opsin.core.files import legal_name
from opsin.data.cache import cache_root
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import SORTED, Walk, is_image_name, is_visible, natural
from opsin.data.sources import archive, kinds, table
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.sources.folder import rows_by_folder, stream_of_walk
from opsin.data.sources.rows import Row, RowCollector, SourceKind, SourceRequest, stream_of_rows
from opsin.stores.bucket import Bucket, open_bucket, said_as
from opsin.stores.store_address import StoreAddress, StoredObject, is_stored


def _fetched(wanted: StoredObject, request: SourceRequest) -> Path:
    """Return a cached file of an object's content, fetched once for each version."""
    version = hashlib.sha256(repr(wanted).encode()).hexdigest()[:32]
    file = cache_root() / "objects" / version / legal_name(wanted.name)
    if not file.is_file():
        request.watcher.note(f"{wanted.address} is fetched into the cache")
        open_bucket(wanted).fetch(wanted, file)
    return file


def _images_below(
    bucket: Bucket, address: StoreAddress, walk: Walk, *, stream: bool = False
) -> Iterator[tuple[str, StoredObject]]:
    """Yield images with their names, in a folder's order; a stream of very many in the store's."""
    objects, start = bucket.objects(address.folder), len(address.folder)
    first = list(itertools.islice(objects, SORTED + 1 if stream else None))
    if not first:
        raise SourceError(f"There is nothing at {address}", "Check the spelling.")
    if not stream or len(first) <= SORTED:
        first.sort(key=lambda stored: _sort_key(stored.key[start:]))
    folders: dict[str, None] = {}
    for stored in itertools.chain(first, objects):
        name = stored.key[start:]
        *around, last = name.split("/")
        visible = list(itertools.takewhile(is_visible, around))
        if not stream:
            folders.update(dict.fromkeys("/".join(visible[:depth]) for depth in (1, 2)))
        if len(visible) < len(around) or (last and not is_visible(last)):
            walk.passed.add("hidden file", name)
        elif is_image_name(last):
            yield name, stored
        elif last:
            walk.passed.add_file(name)
    walk.folders = list(filter(None, folders))


def _sort_key(name: str) -> list[tuple[int, str, str]]:
    *folders, last = name.split("/")
    return [*((1, natural(folder), folder) for folder in folders), (0, natural(last), last)]


def _open(request: SourceRequest) -> tuple[StoreAddress, Bucket, StoredObject | None]:
    """Return an address with its bucket, and its object unless it is a prefix."""
    try:
        address = StoreAddress.read(request.written)
    except RecipeError as error:
        raise SourceError(error.message, error.advice) from error
    bucket, key = open_bucket(address), address.key
    return address, bucket, bucket.find(key) if key and not key.endswith("/") else None


def _local(stored: StoredObject, request: SourceRequest) -> tuple[SourceKind, SourceRequest]:
    """Fetch an object; return its kind and the request for its file."""
    known = [pattern.removeprefix("*") for kind in kinds() for pattern in kind.files]
    if legal_name(stored.name).lower().endswith((*known, *archive.SUFFIXES)):
        local = replace(request, written=str(_fetched(stored, request)))
        for kind in kinds():
            if kind.match(local):
                return kind, local
    raise SourceError(
        f"{stored.address} is no image, table, archive or file of arrays",
        f"If it is meant as a folder, write it with a slash: {stored.address}/.",
    )


def _locate(request: SourceRequest) -> LocatedSource:
    address, bucket, stored = _open(request)
    written = request.written
    if stored is None:
        walk = Walk(written.rstrip("/"))
        images = dict(_images_below(bucket, address, walk))
        rows = rows_by_folder(walk, list(images), request.watcher)
        contents = rows.labelled(written, [images[name] for name in rows.names])
        return LocatedSource(f"{_key_of(contents)} {written}", lambda: contents)
    key = hashlib.sha256(repr((stored, request.columns)).encode()).hexdigest()
    if table.is_table(Path(stored.name)):
        contents = _open_table(stored, bucket, request)
        return LocatedSource(f"{key} {_key_of(contents)}", lambda: contents)
    kind, local = (None, request) if is_image_name(stored.key) else _local(stored, request)
    if kind is None or kind.locate is None:
        raise SourceError(f"{written} has no labels", "Give a folder of classes.")
    locate = kind.locate

    def read() -> LabelledImages:
        with said_as(local.path, written):
            return replace(locate(local).open(), source=written)

    return LocatedSource(key, read)


def _key_of(contents: LabelledImages) -> str:
    return hashlib.sha256(b"".join(repr(image).encode() for image in contents.images)).hexdigest()


def _rows_of_table(
    stored: StoredObject, bucket: Bucket, request: SourceRequest, needed: Sequence[str]
) -> Iterator[Row]:
    """Yield the rows of a table; its images must lie beside or below it."""
    file, start = _fetched(stored, request), stored.address.beside("").key
    with said_as(file, stored.address):
        for row in table.rows_of(file, request.columns, needed):
            path = row.name
            key = posixpath.normpath(posixpath.join(start, path.replace("\\", "/")))
            out = not key.startswith(start) or key[:2] == ".."
            if path.startswith("/") or is_stored(path) or out:
                raise SourceError(
                    f"Line {row.line:,} of {stored.address} names {path!r:.200}, which does not "
                    "lie beside or below it",
                    "Put the table above its images.",
                )
            yield row._replace(reference=bucket.stored(key), place=key)


def _open_table(stored: StoredObject, bucket: Bucket, request: SourceRequest) -> LabelledImages:
    there = {item.key: item for item in bucket.objects(stored.address.beside("").key)}
    rows = RowCollector()
    for row in _rows_of_table(stored, bucket, request, ("path", "label")):
        rows.add(row._replace(reference=there.get(row.place, row.reference)))
    objects: list[StoredObject] = rows.references
    if not any(item.version for item in objects):
        first = f"; the first would be {objects[0].address}" if objects else ""
        raise SourceError(
            f"None of the {len(objects):,} images in {stored.address} exists{first}",
            "Paths begin at the table's place.",
        )
    return replace(rows.labelled(request.written, objects), lines=None)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    address, bucket, stored = _open(request)
    written = request.written
    if stored is None:
        return _stream_below(bucket, address, request)
    if is_image_name(stored.key):
        return Stream(written, "file", lambda: iter([ListedImage(written, stored)]), lambda: 1)
    if table.is_table(Path(stored.name)):
        return Stream(written, "table", lambda: stream_of_rows(
            written, _rows_of_table(stored, bucket, request, ("path",))
        ))  # fmt: skip
    kind, local = _local(stored, request)
    if kind.iter_unlabelled is None:
        raise SourceError(
            f"{written} holds arrays, and no images in files",
            "They are evaluated: opsin evaluate MODEL.",
        )
    with said_as(local.path, written):
        images = kind.iter_unlabelled(local)

    def renamed() -> Iterator[ListedImage]:
        with said_as(local.path, written):
            yield from images

    return replace(images, source=written, each=renamed)


def _stream_below(bucket: Bucket, address: StoreAddress, request: SourceRequest) -> Stream:
    def images() -> Iterator[ListedImage]:
        walk = Walk(request.written.rstrip("/"))
        listed = (ListedImage(*item) for item in _images_below(bucket, address, walk, stream=True))
        return stream_of_walk(walk, listed, request.watcher)

    def count() -> int:
        return sum(1 for _ in _images_below(bucket, address, Walk(""), stream=True))

    return Stream(request.written, "store", images, count)


KINDS = (
    SourceKind(
        title="an address on an object store (s3://, gs:// or az://bucket/…)",
        match=lambda request: is_stored(request.written),
        locate=_locate,
        iter_unlabelled=_iter_unlabelled,
        rank=-1,
    ),
)
