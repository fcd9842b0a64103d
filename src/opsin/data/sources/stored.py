"""Sources on object stores: what looks like a folder there, and whatever one object may hold."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import Watcher
from opsin.core.file_names import legal_name
from opsin.data.cache import cache_root
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import is_image_name
from opsin.data.sources import archive, kinds, table
from opsin.data.sources.contents import LabelledImages, LocatedSource, RowCollector
from opsin.data.sources.folder import explain_no_images, labelled_tree, note_passed_over
from opsin.data.sources.key_tree import KeyTree
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.stores.bucket import Bucket, open_bucket
from opsin.stores.store_address import StoreAddress, StoredObject, is_stored
from opsin.stores.store_errors import said_as


def fetched(wanted: StoredObject, watcher: Watcher) -> Path:
    """Return an object's content as a file of the cache, fetched once for each version of it."""
    version = hashlib.sha256(repr(wanted).encode()).hexdigest()[:32]
    file = cache_root() / "objects" / version / legal_name(wanted.name)
    if not file.is_file():
        watcher.note(f"{wanted.address} is fetched into the cache")
        open_bucket(wanted).fetch(wanted, file)
    return file


def _open(request: SourceRequest) -> tuple[StoreAddress, Bucket, StoredObject | None]:
    """Return what an address means: an object, or what keys begin with."""
    try:
        address = StoreAddress.read(request.written)
    except RecipeError as error:
        raise SourceError(error.expected, error.received, error.advice) from error
    bucket, key = open_bucket(address), address.key
    return address, bucket, bucket.find(key) if key and not key.endswith("/") else None


def _local(found: StoredObject, request: SourceRequest) -> tuple[SourceKind, SourceRequest]:
    """Fetch an object, and return of what kind its file is."""
    known = [pattern.removeprefix("*") for kind in kinds() for pattern in kind.files]
    if not legal_name(found.name).lower().endswith((*known, *archive.SUFFIXES)):
        raise SourceError(
            "images, a table, an archive or a file of arrays on the store",
            f"{found.address} is an object of another kind",
            f"If it is meant as a folder, write it with a slash: {found.address}/.",
        )
    local = replace(request, written=str(fetched(found, request.watcher)))
    for kind in kinds():
        if kind.match(local):
            return kind, local
    raise SourceError(
        "a file that holds images", f"{found.address} holds none", "Is it the right one?"
    )


def _locate(request: SourceRequest) -> LocatedSource:
    address, bucket, found = _open(request)
    written = request.written
    if found is None:
        tree = KeyTree(bucket, address)
        if tree.is_empty():
            raise _nothing_at(address)
        contents = labelled_tree(
            tree, written, lambda names: [tree.found[name] for name in names], request.watcher
        )
        return LocatedSource(f"{_key_of(contents)} {written}", lambda: contents)
    key = hashlib.sha256(repr((found, request.columns)).encode()).hexdigest()
    if table.is_table(Path(found.name)):
        file = fetched(found, request.watcher)
        with said_as(file, written):
            contents = _open_table(address, bucket, file, request)
        return LocatedSource(f"{key} {_key_of(contents)}", lambda: contents)
    kind, local = (None, request) if is_image_name(found.key) else _local(found, request)
    if kind is None or kind.locate is None:
        raise SourceError("images with labels", f"{written} has none", "Give a folder of classes.")
    locate = kind.locate

    def read() -> LabelledImages:
        with said_as(local.path, written):
            return replace(locate(local).open(), source=written)

    return LocatedSource(key, read)


def _key_of(contents: LabelledImages) -> str:
    return hashlib.sha256(b"".join(repr(each).encode() for each in contents.images)).hexdigest()


def _nothing_at(address: StoreAddress) -> SourceError:
    return SourceError(
        "an object, or keys that begin with the address",
        f"there is nothing at {address}",
        "Check the spelling of bucket and key.",
    )


def _open_table(
    address: StoreAddress, bucket: Bucket, file: Path, request: SourceRequest
) -> LabelledImages:
    """Return the images that a table on the store names, which lie beside or below it."""
    found = RowCollector()
    there = {each.key: each for each in bucket.objects(address.beside("").key)}
    objects: list[StoredObject] = []
    for row in table.rows_of(file, request.columns):
        key = _key_in_table(row.name, address, row.line)
        if found.add(row._replace(place=key)):
            objects.append(there.get(key, bucket.stored(key)))
    if not any(each.version for each in objects):
        first = f"; the first would be {objects[0].address}" if objects else ""
        raise SourceError(
            "a table that names images beside it",
            f"none of the {len(objects):,} in {address} exists{first}",
            "Paths begin at the table's place.",
        )
    return replace(found.labelled(request.written, objects), lines=None)


def _key_in_table(path: str, address: StoreAddress, line: int) -> str:
    """Return the key that a table's path means, beside or below the table."""
    start = address.beside("").key
    key = posixpath.normpath(posixpath.join(start, path.replace("\\", "/")))
    if path.startswith("/") or is_stored(path) or not key.startswith(start) or key[:2] == "..":
        raise SourceError(
            "a path beside or below the table in each line",
            f"line {line:,} of {address} names {path!r:.200}",
            "Put the table above its images.",
        )
    return key


def _iter_unlabelled(request: SourceRequest) -> Stream:
    address, bucket, found = _open(request)
    written = request.written
    if found is None:
        tree = KeyTree(bucket, address)

        def below() -> Iterator[ListedImage]:
            some = False
            for name, image in tree.stream():
                some = True
                yield ListedImage(name, image)
            if not some:
                raise _nothing_at(address) if tree.is_empty() else explain_no_images(tree)
            note_passed_over(tree, request.watcher)

        return Stream(written, "store", below, lambda: sum(1 for _ in tree.stream()))
    if is_image_name(found.key):
        return Stream(written, "file", lambda: iter([ListedImage(written, found)]), lambda: 1)
    if table.is_table(Path(found.name)):
        file = fetched(found, request.watcher)

        def named() -> Iterator[ListedImage]:
            for row in table.rows_of(file, request.columns, needed=("path",)):
                key = _key_in_table(row.name, address, row.line)
                yield ListedImage(row.name, bucket.stored(key))

        stream = Stream(written, "table", named, lambda: table.count_rows(file))
        return _called(file, written, stream)
    kind, local = _local(found, request)
    if kind.iter_unlabelled is None:
        raise SourceError(
            "images in files",
            f"{written} holds arrays",
            "They are evaluated: opsin evaluate MODEL.",
        )
    with said_as(local.path, written):
        return _called(local.path, written, kind.iter_unlabelled(local))


def _called(file: Path, written: str, images: Stream) -> Stream:
    """Return the images of a file with the name of the object that it is."""

    def renamed() -> Iterator[ListedImage]:
        with said_as(file, written):
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
