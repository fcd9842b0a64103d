"""Sources on object stores: prefixes as folders, and single objects."""

from __future__ import annotations

import hashlib
import itertools
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import Watcher
from opsin.core.files import legal_name
from opsin.data.cache import cache_root
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import RUN_FILES, SORTED, Walk, is_image_name, is_visible, natural
from opsin.data.sources import kinds, table, unpack
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.sources.folder import explain_no_images, note_passed_over, rows_by_folder
from opsin.data.sources.rows import Row, RowCollector, stream_of_rows
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.stores.bucket import Bucket, open_bucket
from opsin.stores.store_address import StoreAddress, StoredObject, is_stored
from opsin.stores.store_errors import said_as


def fetched(wanted: StoredObject, watcher: Watcher) -> Path:
    """Return a cached file of an object's content, fetched once for each version."""
    version = hashlib.sha256(repr(wanted).encode()).hexdigest()[:32]
    file = cache_root() / "objects" / version / legal_name(wanted.name)
    if not file.is_file():
        watcher.note(f"{wanted.address} is fetched into the cache")
        open_bucket(wanted).fetch(wanted, file)
    return file


def images_below(
    bucket: Bucket, address: StoreAddress, walk: Walk, *, stream: bool = False
) -> Iterator[tuple[str, StoredObject]]:
    """Yield images with their names, in the order of a folder with the same files.

    A stream of very many keeps the store's order and includes images of runs.
    """
    start, objects = len(address.folder), bucket.objects(address.folder)
    first = list(itertools.islice(objects, SORTED + 1 if stream else None))
    if stream and len(first) > SORTED:
        for stored in itertools.chain(first, objects):
            if _is_image(stored.key[start:], walk):
                yield stored.key[start:], stored
        return
    if not first:
        raise SourceError(f"There is nothing at {address}", "Check the spelling.")
    walk.folders = _folders_of([stored.key[start:] for stored in first])
    for name, stored in _in_order(first, start, walk):
        yield name, stored


def _in_order(
    objects: Sequence[StoredObject], start: int, walk: Walk
) -> list[tuple[str, StoredObject]]:
    """Sort a folder's images before its sub-folders'; leave out those of runs."""
    holders = defaultdict[str, set[str]](set)
    for stored in objects:
        folder, _, name = f"/{stored.key[start:]}".rpartition("/")
        if name in RUN_FILES:
            holders[folder].add(name)
    runs = [f"{folder}/" for folder, names in holders.items() if len(names) == len(RUN_FILES)]
    outer = tuple(run for run in runs if not run.startswith(tuple(r for r in runs if r != run)))
    walk.runs = len(outer)
    kept = []
    for stored in objects:
        name = stored.key[start:]
        if _is_image(name, walk) and not f"/{name}".startswith(outer):
            *folders, last = name.split("/")
            key = [(1, natural(folder), folder) for folder in folders]
            kept.append(([*key, (0, natural(last), last)], name, stored))
    return [(name, stored) for _, name, stored in sorted(kept, key=lambda image: image[0])]


def _is_image(name: str, walk: Walk) -> bool:
    if not all(map(is_visible, name.rstrip("/").split("/"))):
        walk.passed.add("hidden file", name)
    elif is_image_name(name):
        return True
    elif not name.endswith("/"):  # which stands for a folder
        walk.passed.add_file(name)
    return False


def _folders_of(names: Sequence[str]) -> list[str]:
    """Return the folders of one and two levels in natural order, parents first."""
    parts = (name.split("/")[:-1][:2] for name in names)
    folders = {tuple(part[:depth]) for part in parts for depth in range(1, len(part) + 1)
               if all(map(is_visible, part[:depth]))}  # fmt: skip
    return ["/".join(part) for part in sorted(folders, key=lambda part: [
        (natural(name), name) for name in part
    ])]  # fmt: skip


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
    if legal_name(stored.name).lower().endswith((*known, *unpack.SUFFIXES)):
        local = replace(request, written=str(fetched(stored, request.watcher)))
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
        images = dict(images_below(bucket, address, walk))
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
    file, start = fetched(stored, request.watcher), stored.address.beside("").key
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

        def below() -> Iterator[ListedImage]:
            walk, some = Walk(written.rstrip("/")), False
            for name, image in images_below(bucket, address, walk, stream=True):
                some = True
                yield ListedImage(name, image)
            if not some:
                raise explain_no_images(walk)
            note_passed_over(walk, request.watcher)

        def count() -> int:
            return sum(1 for _ in images_below(bucket, address, Walk(""), stream=True))

        return Stream(written, "store", below, count)
    if is_image_name(stored.key):
        return Stream(written, "file", lambda: iter([ListedImage(written, stored)]), lambda: 1)
    if table.is_table(Path(stored.name)):

        def named() -> Iterator[ListedImage]:
            return stream_of_rows(written, _rows_of_table(stored, bucket, request, ("path",)))

        return Stream(written, "table", named)
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


KINDS = (
    SourceKind(
        title="an address on an object store (s3://, gs:// or az://bucket/…)",
        match=lambda request: is_stored(request.written),
        locate=_locate,
        iter_unlabelled=_iter_unlabelled,
        rank=-1,
    ),
)
