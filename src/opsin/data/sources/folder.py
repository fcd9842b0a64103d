"""Folders of images, on a disk or a store: sub-folders for classes, or any layout; an image."""

from __future__ import annotations

import contextlib
import itertools
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import Watcher
from opsin.core.files import legal_name, open_regular
from opsin.core.format import counted
from opsin.data import image_tree
from opsin.data.cache import cache_root, index_key
from opsin.data.formats import SUFFIXES, looks_like_image
from opsin.data.image_stream import ListedImage, Stream, stream_of_one
from opsin.data.image_tree import LINK_OUT, SORTED, ImageTree, Walk, is_image_name, is_visible
from opsin.data.sources import table
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.sources.rows import Row, SourceKind, SourceRequest, collect, stream_of_table
from opsin.data.split import TRAIN, part_named
from opsin.stores.bucket import Bucket, StoreAddress, StoredObject, is_stored, open_bucket, said_as

_USUAL = ("train", "val", "test")
_ENDINGS = f"Images end in {', '.join(SUFFIXES[:6])} …"
_FOLLOW = "Follow them with --follow-links, or copy the images."


def open_folder(request: SourceRequest) -> LabelledImages:
    """List ``root/<class>/**/*`` or ``root/train|val|test/<class>/**/*``, or a class."""
    root, watcher = request.path, request.watcher
    tree = ImageTree(root, follow_links=request.follow_links)
    names = list(tree.images())
    if request.joined and names and not tree.folders:
        class_ = Path(tree.start).name
        watcher.note(f"{root} has images and no folders: they are of one class, {class_}")
        rows = (Row(tree.reference(name), class_, name=name) for name in names)
        return collect(str(root), rows, tree.passed)
    return collect(str(root), _rows_by_folder(tree, names, watcher), tree.passed)


def _rows_by_folder(walk: Walk, names: Sequence[str], watcher: Watcher) -> Iterator[Row]:
    tops = [name for name in walk.folders if "/" not in name]
    inner = [name for name in walk.folders if "/" in name]
    holders = {name.partition("/")[0] for name in inner}
    # A class, too, may be called "test".
    parts = {
        name: code for name in tops if (code := part_named(name)) is not None and name in holders
    }
    split = TRAIN in parts.values()
    if not split and parts and len(parts) == len(tops):
        raise SourceError(
            f"{walk.root} has a part of a split ({', '.join(parts)}), and none called train",
            "Put the training images into train/<class>, or give the part itself.",
        )
    outside, some = dict[str, None](), False
    for name in names:
        folder, *below = name.split("/")
        part = folder if split and folder in parts else ""
        if split and not part and below:
            outside[folder] = None
            walk.passed.add("image outside the parts", name)
        elif len(below) > bool(part):
            some = True
            yield Row(walk.reference(name), below[0] if part else folder, part, name=name)
        else:
            walk.passed.add("loose image beside the class folders", name)
    if strange := [name for name in outside if part_named(name) is None]:
        raise SourceError(
            f"{walk.root} has {', '.join(parts)}, which look like parts of a split, and "
            f"{', '.join(strange[:5])}",
            "Take the others away if these are parts; rename these if all are classes.",
        )
    _count_empty(
        walk, [name for name in inner if name.partition("/")[0] in parts] if split else tops, names
    )
    if not some:
        raise _no_images(walk, names, labelled=True)
    if walk.passed.counts[LINK_OUT]:
        watcher.note(f"--follow-links follows the links that lead out of {walk.root}")
    if split and not set(parts) <= set(_USUAL):
        in_order = sorted(parts.items(), key=lambda part: part[1])
        words = [f"{name} ({_USUAL[code - 1]})" for name, code in in_order]
        watcher.note(f"Taken for parts of a split: {', '.join(words)}")


def _count_empty(walk: Walk, classes: Iterable[str], names: Iterable[str]) -> None:
    holding = {"/".join(name.split("/")[:depth]) for name in names for depth in (1, 2)}
    for folder in classes:
        if folder not in holding:
            if any(f"{linked}/".startswith(f"{folder}/") for linked in walk.linked_out):
                only = f"The folder {folder} of {walk.root} holds only links that lead out of it"
                raise SourceError(only, _FOLLOW)
            what = "empty folder" if folder in walk.bare else "folder without images"
            walk.passed.add(what, folder)


def note_left_out(left_out: Sequence[LeftOut], watcher: Watcher) -> None:
    """Note what is left out, if anything."""
    if left_out:
        links = any(entry.kind == LINK_OUT for entry in left_out)
        hint = "; --follow-links follows the links" if links else ""
        watcher.note(f"Left out: {image_tree.left_out_in_words(left_out)}{hint}")


def _no_images(walk: Walk, names: Sequence[str] = (), *, labelled: bool = False) -> SourceError:
    what, advice = "is empty" if "" in walk.bare else "has no images", _ENDINGS
    if names and not walk.folders:
        what, advice = f"has {counted(len(names), 'image')} but no folders", "Sort a few first."
        if walk.passed.counts["table"]:
            advice = "Give the table itself, if it names the classes, or sort a few images first."
    elif words := image_tree.left_out_in_words(walk.passed.listed()):
        what = f"{what}, but {words}"
        advice = _FOLLOW if walk.passed.counts[LINK_OUT] else _ENDINGS
    wanted = "; one sub-folder for each class is expected" if labelled else ""
    return SourceError(f"{walk.root} {what}{wanted}", advice)


def _stream(request: SourceRequest, kind: str, walk: Callable[[], Walk]) -> Stream:
    def images() -> Iterator[ListedImage]:
        found, name = walk(), None
        for name in found.images():
            yield ListedImage(name, found.reference(name))
        if name is None:
            raise _no_images(found)
        note_left_out(found.passed.listed(), request.watcher)

    def count() -> int | None:
        with contextlib.suppress(SourceError):
            return sum(1 for _ in walk().images())
        return None

    return Stream(request.written, kind, images, count)


def _locate(request: SourceRequest) -> LocatedSource:
    written = request.written
    if request.archive is None and image_tree.is_run(str(request.path)):
        raise SourceError(
            f"{written} is a run of Opsin, which holds figures",
            f"To train it further: opsin resume {written}; to classify with it: opsin predict "
            f"{written} IMAGE; to measure it: opsin evaluate {written} SOURCE.",
        )
    return open_folder(request).located()


def folder_stream(request: SourceRequest) -> Stream:
    """Return the images below a folder."""
    path, follow_links = request.path, request.follow_links
    return _stream(request, "folder", lambda: ImageTree(path, follow_links, stream=True))


class _StoreTree(Walk):
    """The images below an address, in a folder's order; a stream of very many in the store's."""

    def __init__(
        self, written: str, bucket: Bucket, address: StoreAddress, *, stream: bool = False
    ) -> None:
        super().__init__(written.rstrip("/"))
        self._bucket, self._address, self._stream = bucket, address, stream
        self._stored = dict[str, StoredObject]()

    def images(self) -> Iterator[str]:
        address, stream = self._address, self._stream
        objects, start = self._bucket.objects(address.folder), len(address.folder)
        first = list(itertools.islice(objects, SORTED + 1 if stream else None))
        if not first:
            raise SourceError(f"There is nothing at {address}", "Check the spelling.")

        def order(stored: StoredObject) -> list[tuple[bool, str, str]]:
            parts = stored.key[start:].split("/")  # its own images come before its sub-folders'
            return [(at < len(parts), image_tree.natural(p), p) for at, p in enumerate(parts, 1)]

        if not stream or len(first) <= SORTED:
            first.sort(key=order)
        folders: dict[str, None] = {}
        for stored in itertools.chain(first, objects):
            name = stored.key[start:]
            *around, last = name.split("/")
            visible = list(itertools.takewhile(is_visible, around))
            if stream:
                self._stored.clear()
            else:
                folders.update(dict.fromkeys("/".join(visible[:depth]) for depth in (1, 2)))
            if len(visible) < len(around) or (last and not is_visible(last)):
                self.passed.add("hidden file", name)
            elif is_image_name(last):
                self._stored[name] = stored
                yield name
            elif last:
                self.passed.add_file(name)
        self.folders = list(filter(None, folders))

    def reference(self, name: str) -> StoredObject:
        return self._stored[name]


def _open_address(request: SourceRequest) -> tuple[StoreAddress, Bucket, StoredObject | None]:
    try:
        address = StoreAddress.read(request.written)
    except RecipeError as error:
        raise SourceError(error.message, error.advice) from error
    bucket, key = open_bucket(address), address.key
    stored = bucket.find(key) if key and not key.endswith("/") else None
    if stored and not (is_image_name(key) or table.is_table(Path(key))):
        advice = f"Fetch archives and arrays first; for a folder, write {address}/ with a slash."
        raise SourceError(f"{address} is no image or table", advice)
    return address, bucket, stored


def _locate_stored(request: SourceRequest) -> LocatedSource:
    address, bucket, stored = _open_address(request)
    written = request.written
    if stored is None:
        walk = _StoreTree(written, bucket, address)
        rows = _rows_by_folder(walk, list(walk.images()), request.watcher)
        contents = collect(written, rows, walk.passed)
    elif is_image_name(stored.key):
        raise SourceError(f"{written} has no labels", "Give a folder of classes.")
    else:
        there = {item.key: item for item in bucket.objects(stored.address.beside("").key)}
        listed = _rows_of_table(stored, bucket, request, ("path", "label"))
        contents = collect(
            written, (row._replace(reference=there.get(row.place, row.reference)) for row in listed)
        )
    return contents.located()


def _rows_of_table(
    stored: StoredObject, bucket: Bucket, request: SourceRequest, needed: Sequence[str]
) -> Iterator[Row]:
    """Yield the rows of a table, fetched once for each version; images lie beside or below it."""
    file = cache_root() / "objects" / index_key(stored)[:32] / legal_name(stored.address.name)
    if not file.is_file():
        request.watcher.note(f"{stored.address} is fetched into the cache")
        bucket.fetch(stored, file)
    start = stored.address.beside("").key
    with said_as(file, stored.address):
        for row in table.rows_of(file, request.columns, needed):
            path = row.name
            key = posixpath.normpath(posixpath.join(start, path.replace("\\", "/")))
            out = not key.startswith(start) or key[:2] == ".."
            if path.startswith("/") or is_stored(path) or out:
                where = f"Line {row.line:,} of {stored.address} names {path!r:.200}"
                advice = "Put the table above its images."
                raise SourceError(f"{where}, which does not lie beside or below it", advice)
            yield row._replace(reference=bucket.stored(key), place=key)


def _iter_stored(request: SourceRequest) -> Stream:
    address, bucket, stored = _open_address(request)
    written = request.written
    if stored and is_image_name(stored.key):
        return stream_of_one(written, stored)
    if stored:
        return stream_of_table(written, lambda: _rows_of_table(stored, bucket, request, ("path",)))
    return _stream(request, "store", lambda: _StoreTree(written, bucket, address, stream=True))


def _is_image_file(request: SourceRequest) -> bool:
    if not request.is_file or is_image_name(request.path.name):
        return request.is_file
    with image_tree.readable(request.path), open_regular(request.path) as file:
        return looks_like_image(file.read(64))


KINDS = (
    SourceKind("a folder", lambda request: request.is_folder, _locate, folder_stream, rank=3),
    SourceKind(
        "an address on an object store (s3://, gs:// or az://bucket/…)",
        lambda request: is_stored(request.written), _locate_stored, _iter_stored, rank=-1,
    ),
    SourceKind(
        "an image", _is_image_file, rank=4,
        iter_unlabelled=lambda request: stream_of_one(request.written, str(request.path)),
    ),
)  # fmt: skip
