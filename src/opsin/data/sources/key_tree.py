"""Which objects of a store are images: the walk of `opsin.data.image_tree`, over keys."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Sequence

from opsin.data.image_tree import RUN_FILES, SORTED, is_image_name, is_visible, natural
from opsin.data.left_out import LeftOutCounts
from opsin.stores.bucket import Bucket
from opsin.stores.store_address import StoreAddress, StoredObject


class KeyTree:
    """The images below an address, named and ordered like those of a folder with the same files.

    Slashes in keys part folders. What is passed over in folders is passed over here: hidden names,
    ``..`` among them, and runs of Opsin. Up to 10,000 objects below a folder are listed at once
    and put in order; where there are more, its images and its folders are listed one after the
    other, each in order if they are no more than 10,000.

    Args:
        bucket: The bucket.
        address: What keys begin with.
        stream: List more than 10,000 entries of one folder in the order of the store, so that the
            memory does not grow with them, but on stores that list a folder as a whole.
    """

    def __init__(self, bucket: Bucket, address: StoreAddress, *, stream: bool = False) -> None:
        self.root = str(address).rstrip("/")
        #: Runs of Opsin that were passed over.
        self.runs = 0
        # As `ImageTree` has them: a store has no links, and its folders no rights.
        self.left_out = self.unreadable = 0
        self.first_unreadable = ""
        self.bare: set[str] = set()
        #: What else is left out, by kind.
        self.passed = LeftOutCounts()
        self._bucket, self._prefix, self._stream = bucket, address.folder, stream
        # All that lies below the address, where it is little: it is asked for more than once.
        self._few: list[StoredObject] | None = None
        #: Objects of labelled images, by their names.
        self.found: dict[str, StoredObject] = {}

    def objects(self, folder: str = "") -> Generator[tuple[str, StoredObject]]:
        """Yield the images in a folder and in all below it, by their names from the root.

        Raises:
            SourceError: The store does not list them.
        """
        if not folder:
            self.runs, self.passed = 0, LeftOutCounts()
        start = len(self._prefix)
        for each in self._below(self._place(folder)):
            yield each.key[start:], each

    def images(self, folder: str = "") -> Iterator[str]:
        """Yield the names of `objects`, which are kept in `found`."""
        for name, each in self.objects(folder):
            self.found[name] = each
            yield name

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, in natural order."""
        entries = self._bucket.level(self._place(folder))
        return _in_order(each for each in entries if isinstance(each, str) and is_visible(each))

    def loose(self, folder: str = "") -> list[str]:
        """Return the images right in a folder, at the address itself by default."""
        start = len(self._prefix)
        objects = (
            each for each in self._bucket.level(self._place(folder)) if not isinstance(each, str)
        )
        names = [each.key[start:] for each in objects]
        for name in names:
            self._leave_out(name)
        return _in_order(
            name for name in names if is_visible(name.rpartition("/")[2]) and is_image_name(name)
        )

    def _leave_out(self, name: str) -> None:
        """Count an object that is no image or is hidden."""
        if name.endswith("/"):  # stands for a folder
            return
        if not all(map(is_visible, name.split("/"))):
            self.passed.add("hidden file", name)
        elif not is_image_name(name):
            self.passed.add_file(name)

    def is_empty(self) -> bool:
        """Tell whether nothing lies there at all."""
        return next(self._bucket.objects(self._prefix), None) is None

    def _place(self, folder: str) -> str:
        return f"{self._prefix}{folder}/" if folder else self._prefix

    def _below(self, place: str) -> Iterator[StoredObject]:
        if place == self._prefix and self._few is not None:
            yield from self._sorted(self._few, place)
            return
        first = list(itertools.islice(self._bucket.objects(place), SORTED + 1))
        if len(first) <= SORTED:
            if place == self._prefix:
                self._few = first
            yield from self._sorted(first, place)
        else:
            yield from self._by_level(place)

    def _sorted(self, objects: Sequence[StoredObject], place: str) -> Iterator[StoredObject]:
        """Yield the images among objects in order."""
        start = len(place)
        named = [(each.key[start:].split("/"), each) for each in objects]
        parts = Counter(tuple(names[:-1]) for names, _ in named if names[-1] in RUN_FILES)
        runs = {folder for folder, count in parts.items() if count == len(RUN_FILES)}
        outer = {run for run in runs if not any(run[:depth] in runs for depth in range(len(run)))}
        self.runs += len(outer)
        kept = [
            (_place_in_order(names), each)
            for names, each in named
            if all(map(is_visible, names))
            and is_image_name(each.key)
            and not (runs and any(tuple(names[:depth]) in runs for depth in range(len(names))))
        ]
        kept.sort()
        if len(kept) < len(named):
            for _, each in named:
                self._leave_out(each.key[len(self._prefix) :])
        yield from (each for _, each in kept)

    def _by_level(self, place: str) -> Iterator[StoredObject]:
        """Yield the images right below a place, then those of its folders."""
        if all(self._bucket.find(place + name) for name in RUN_FILES):
            self.runs += 1
            return
        entries = self._entries(place)
        first = list(itertools.islice(entries, SORTED + 1 if self._stream else None))
        whole = not self._stream or len(first) <= SORTED
        if whole:
            images = [each for each in first if isinstance(each, StoredObject)]
            yield from self._sorted(images, place)
            for name in _in_order(each for each in first if isinstance(each, str)):
                yield from self._below(f"{place}{name}/")
        else:
            yield from (
                each for each in itertools.chain(first, entries) if isinstance(each, StoredObject)
            )
            yield from self._in_key_order(place)

    def _in_key_order(self, place: str) -> Iterator[StoredObject]:
        """Yield the images in the folders below a place, which are too many to be sorted.

        One list for all of them: a request for each would be a million, for a million folders.
        """
        start = len(place)

        def folder_of(each: StoredObject) -> str | None:
            name, slash, _ = each.key[start:].partition("/")
            return name if slash else None

        for name, group in itertools.groupby(self._bucket.objects(place), folder_of):
            if name is None or not is_visible(name):
                continue
            first = list(itertools.islice(group, SORTED + 1))
            if len(first) <= SORTED:
                yield from self._sorted(first, f"{place}{name}/")
            else:
                yield from self._by_level(f"{place}{name}/")

    def _entries(self, place: str) -> Iterator[StoredObject | str]:
        """Yield what counts right below a place: images, and the names of folders."""
        for each in self._bucket.level(place):
            name = each if isinstance(each, str) else each.key[len(place) :]
            if is_visible(name) and (isinstance(each, str) or is_image_name(name)):
                yield each


def _in_order(names: Iterator[str]) -> list[str]:
    return sorted(sorted(names), key=natural)


def _place_in_order(names: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return what sorts a path: a folder's images before its folders, each in natural order."""
    last = len(names) - 1
    return [(int(depth < last), natural(name), name) for depth, name in enumerate(names)]
