"""Which objects of a store are images: the walk of `opsin.data.image_tree`, over keys."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

from opsin.data.image_tree import RUN_FILES, SORTED, is_image_name, is_visible, natural
from opsin.data.left_out import LeftOutCounts
from opsin.stores.bucket import Bucket
from opsin.stores.store_address import StoreAddress, StoredObject


class KeyTree:
    """The images below an address, named and ordered like those of a folder with the same files."""

    def __init__(self, bucket: Bucket, address: StoreAddress) -> None:
        self.root = str(address).rstrip("/")
        self.runs = 0
        # As `ImageTree` has them: a store has no links, and its folders no rights.
        self.left_out = self.unreadable = 0
        self.first_unreadable = ""
        self.bare: set[str] = set()
        self.passed = LeftOutCounts()
        self._bucket, self._prefix = bucket, address.folder
        #: Objects of labelled images, by their names.
        self.found: dict[str, StoredObject] = {}

    def stream(self) -> Iterator[tuple[str, StoredObject]]:
        """Yield the images by their names, in order; many come as the store has them."""
        self.runs, self.passed = 0, LeftOutCounts()
        objects = self._bucket.objects(self._prefix)
        first = list(itertools.islice(objects, SORTED + 1))
        if len(first) <= SORTED:
            yield from self._in_order(first)
            return
        for image in itertools.chain(first, objects):
            name = image.key[len(self._prefix) :]
            if self._is_image(name):
                yield name, image

    def _is_image(self, name: str) -> bool:
        """Tell whether an object is a visible image; count what else it is."""
        if not all(map(is_visible, name.rstrip("/").split("/"))):
            self.passed.add("hidden file", name)
        elif is_image_name(name):
            return True
        elif not name.endswith("/"):  # which stands for a folder
            self.passed.add_file(name)
        return False

    def _in_order(self, objects: Sequence[StoredObject]) -> list[tuple[str, StoredObject]]:
        """Return the images: a folder's before those of its folders, each in natural order."""
        start = len(self._prefix)
        holders = defaultdict[str, set[str]](set)
        for each in objects:
            folder, _, name = f"/{each.key[start:]}".rpartition("/")
            if name in RUN_FILES:
                holders[folder].add(name)
        runs = [f"{folder}/" for folder, names in holders.items() if len(names) == len(RUN_FILES)]
        outer = tuple(run for run in runs if not run.startswith(tuple(r for r in runs if r != run)))
        self.runs = len(outer)
        kept = []
        for each in objects:
            name = each.key[start:]
            if self._is_image(name) and not f"/{name}".startswith(outer):
                *folders, last = name.split("/")
                place = [(1, natural(folder), folder) for folder in folders]
                kept.append(([*place, (0, natural(last), last)], name, each))
        return [(name, each) for _, name, each in sorted(kept, key=lambda image: image[0])]

    @cached_property
    def _all(self) -> list[StoredObject]:
        return list(self._bucket.objects(self._prefix))

    @cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        """The images below each class, be it in a part of a split, and all of them under ``""``."""
        images = defaultdict[str, list[str]](list)
        for name, each in self._in_order(self._all):
            self.found[name] = each
            parts = name.split("/")
            for depth in range(min(3, len(parts))):
                images["/".join(parts[:depth])].append(name)
        return images

    def images(self, folder: str = "") -> Iterator[str]:
        """Yield the names of the images below a class's or a part's folder."""
        return iter(self._by_folder.get(folder, ()))

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, in natural order."""
        place = f"{self._prefix}{folder}/" if folder else self._prefix
        below = (each.key[len(place) :] for each in self._all if each.key.startswith(place))
        names = {name for name, slash, _ in (key.partition("/") for key in below) if slash}
        return sorted(sorted(filter(is_visible, names)), key=natural)

    def loose(self, folder: str = "") -> list[str]:
        """Return the images right in a folder, at the address itself by default."""
        start = len(folder) + 1 if folder else 0
        return [name for name in self.images(folder) if "/" not in name[start:]]

    def is_empty(self) -> bool:
        """Tell whether nothing lies there at all."""
        return next(self._bucket.objects(self._prefix), None) is None
