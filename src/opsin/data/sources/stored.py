"""Sources on object stores: what looks like a folder there, and whatever one object may hold."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import Watcher
from opsin.core.file_names import legal_name
from opsin.data.cache import cache_root
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.image_tree import is_image_name
from opsin.data.sources import archive, kinds, manifest
from opsin.data.sources.contents import LabelColumns, LabelledImages, LocatedSource, StoredImages
from opsin.data.sources.folder import (
    explain_no_images,
    labelled_tree,
    note_passed_over,
    order_classes,
)
from opsin.data.sources.key_tree import KeyTree
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.stores.bucket import Bucket, open_bucket
from opsin.stores.store_address import StoreAddress, StoredObject, is_stored
from opsin.stores.store_errors import said_as


def fetched(wanted: StoredObject, watcher: Watcher) -> Path:
    """Return an object's content as a file of the cache, fetched once for each version of it.

    Raises:
        SourceError: It is gone, or the store does not give it.
        StorageError: The disk refuses the write.
    """
    version = hashlib.sha256(repr(wanted).encode()).hexdigest()[:32]
    file = cache_root() / "objects" / version / legal_name(wanted.name)
    if not file.is_file():
        watcher.note(f"{wanted.address} is fetched into the cache")
        open_bucket(wanted).fetch(wanted, file)
    return file


class _StoredPlace:
    """What an address means: an object, or what keys begin with."""

    def __init__(self, request: SourceRequest) -> None:
        self.request = request
        try:
            self.address = StoreAddress.read(request.written)
        except RecipeError as error:
            raise SourceError(error.expected, error.received, error.advice) from error
        self.bucket: Bucket = open_bucket(self.address)
        key = self.address.key
        self.object = self.bucket.find(key) if key and not key.endswith("/") else None

    @property
    def is_table(self) -> bool:
        """Whether it is a table, which names further objects."""
        return self.object is not None and manifest.is_table(Path(self.object.name))

    def local(self, wanted: StoredObject) -> tuple[SourceKind, SourceRequest]:
        """Fetch an object, and return of what kind its file is.

        Raises:
            SourceError: It is of no kind that Opsin reads.
        """
        suffix = legal_name(wanted.name).lower()
        known = [pattern.removeprefix("*") for kind in kinds() for pattern in kind.files]
        if not suffix.endswith((*known, *archive.SUFFIXES)):
            raise SourceError(
                "images, a table, an archive or a file of arrays on the store",
                f"{self.address} is an object of another kind",
                f"If it is meant as a folder, write it with a slash: {self.address}/.",
            )
        file = fetched(wanted, self.request.watcher)
        local = replace(self.request, written=str(file))
        for kind in kinds():
            if kind.match(local):
                return kind, local
        raise SourceError(
            "a file that holds images", f"{self.address} holds none", "Is it the right one?"
        )

    def tree(self, *, stream: bool) -> KeyTree:
        """Return what lies below the address."""
        return KeyTree(self.bucket, self.address, stream=stream)


def _locate(request: SourceRequest) -> LocatedSource:
    place = _StoredPlace(request)
    found = place.object
    if found is None:
        return _open_folder(place)
    if is_image_name(found.key):
        raise SourceError(
            "images with labels", f"{request.written} is one image", "Give a folder of classes."
        )
    key = hashlib.sha256(repr((found, request.columns)).encode()).hexdigest()
    if place.is_table:
        table = fetched(found, request.watcher)
        with said_as(table, request.written):
            contents = _open_table(place, table)
        images = contents.images
        own = images.key if isinstance(images, StoredImages) else ""
        return LocatedSource(f"{key} {own}", lambda: contents)
    kind, local = place.local(found)
    if kind.locate is None:
        raise SourceError(
            "images with labels", f"{request.written} has none", "Give a folder of classes."
        )
    locate = kind.locate

    def contents_of() -> LabelledImages:
        with said_as(local.path, request.written):
            return replace(locate(local).open(), source=request.written)

    return LocatedSource(key, contents_of)


def _open_folder(place: _StoredPlace) -> LocatedSource:
    request, tree = place.request, place.tree(stream=False)
    if tree.is_empty():
        raise _nothing_there(place)

    def images_of(names: Sequence[str]) -> StoredImages:
        return StoredImages([tree.found[name] for name in names])

    contents = labelled_tree(tree, request.written, images_of, request.watcher)
    images = contents.images
    key = images.key if isinstance(images, StoredImages) else ""
    return LocatedSource(f"{key} {request.written}", lambda: contents)


def _nothing_there(place: _StoredPlace) -> SourceError:
    return SourceError(
        "an object, or keys that begin with the address",
        f"there is nothing at {place.request.written}",
        "Check the spelling of bucket and key.",
    )


def _open_table(place: _StoredPlace, table: Path) -> LabelledImages:
    """Return the images that a table on the store names, which lie beside or below it."""
    request = place.request
    columns, rows = LabelColumns(), manifest.rows_of(table, request.columns or {})
    start = place.address.beside("").key
    there = {each.key: each for each in place.bucket.objects(start)}
    objects: list[StoredObject] = []
    for row in rows:
        key = _key_of(row.path, place, row.line)
        part = manifest.split_of(row.split, table, row.line)
        if columns.add(row.path, row.label, part, row.group, place=key):
            objects.append(there.get(key, place.bucket.stored(key)))
    if not any(each.version for each in objects):
        first = f"; the first would be {objects[0].address}" if objects else ""
        raise SourceError(
            "a table that names images beside it",
            f"none of the {len(objects):,} in {request.written} exists{first}",
            "Paths begin at the table's place.",
        )
    classes = order_classes(columns.classes, request.written)
    return columns.labelled(request.written, StoredImages(objects), classes)


def _key_of(path: str, place: _StoredPlace, line: int) -> str:
    """Return the key that a table's path means.

    Raises:
        SourceError: It leads elsewhere than beside or below the table.
    """
    start = place.address.beside("").key
    key = posixpath.normpath(posixpath.join(start, path.replace("\\", "/")))
    if path.startswith("/") or is_stored(path) or not key.startswith(start) or key[:2] == "..":
        raise SourceError(
            "a path beside or below the table in each line",
            f"line {line:,} of {place.request.written} names {path!r:.200}",
            "Put the table above its images.",
        )
    return key


def _images_in_table(
    place: _StoredPlace, table: Path, columns: Mapping[str, str]
) -> Iterator[Unlabelled]:
    for row in manifest.rows_of(table, columns, needed=("path",)):
        key = _key_of(row.path, place, row.line)
        yield Unlabelled(row.path, place.bucket.stored(key))


def _called(file: Path, place: _StoredPlace, images: Stream) -> Stream:
    """Return the images of a file with the name of the object that it is."""

    def each() -> Iterator[Unlabelled]:
        with said_as(file, place.request.written):
            yield from images

    return replace(images, source=place.request.written, each=each)


def _images_below(place: _StoredPlace, tree: KeyTree) -> Iterator[Unlabelled]:
    found = False
    with closing(tree.objects()) as objects:
        for name, each in objects:
            found = True
            yield Unlabelled(name, each)
    if not found:
        raise _nothing_there(place) if tree.is_empty() else explain_no_images(tree)
    note_passed_over(tree, place.request.watcher)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    place = _StoredPlace(request)
    found, written = place.object, request.written
    if found is None:
        tree = place.tree(stream=True)
        return Stream(
            written,
            "store",
            lambda: _images_below(place, tree),
            lambda: sum(1 for _ in tree.objects()),
        )
    if is_image_name(found.key):
        return Stream(written, "file", lambda: iter([Unlabelled(written, found)]), lambda: 1)
    if place.is_table:
        table = fetched(found, request.watcher)
        each = partial(_images_in_table, place, table, request.columns or {})
        images = Stream(written, "table", each, lambda: manifest.count_rows(table))
        return _called(table, place, images)
    kind, local = place.local(found)
    if kind.iter_unlabelled is None:
        raise SourceError(
            "images in files",
            f"{written} holds arrays",
            "They are evaluated: opsin evaluate MODEL.",
        )
    with said_as(local.path, written):
        return _called(local.path, place, kind.iter_unlabelled(local))


KIND = SourceKind(
    title="an address on an object store (s3://, gs:// or az://bucket/…)",
    rows=(
        SourceRow(
            "an object store",
            "`s3://bucket/photos`, `gs://…` or `az://container/…`, laid out as a folder; or one "
            "object: a table with paths from its place, an archive, a file of arrays; with the "
            "extra `s3`, `gs` or `az`",
            "as of the same on a disk",
        ),
    ),
    match=lambda request: is_stored(request.written),
    locate=_locate,
    iter_unlabelled=_iter_unlabelled,
    rank=-1,
)
