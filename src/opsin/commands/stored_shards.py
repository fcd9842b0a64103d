"""Shards on an object store, fetched to be merged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opsin.commands.out_file import Claim, OutFile
from opsin.commands.shard_cover import covering
from opsin.commands.shard_manifest import FinishedShard, manifest_of
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.file_names import legal_name
from opsin.core.storage import scratch_directory
from opsin.data.cache import cache_root
from opsin.data.shard import Shard, named_shard, whole_file
from opsin.stores.bucket import open_bucket
from opsin.stores.store_address import StoreAddress, StoredObject, is_stored
from opsin.stores.store_errors import said_as


@dataclass(frozen=True)
class StoredShards:
    """Shards to be merged, and where what is made of them goes.

    Args:
        objects: The shards.
        place: Where the whole goes, or the larger shard.
        whole: The file on this machine whose shards they are.
    """

    objects: tuple[StoredObject, ...]
    place: OutFile
    whole: Path

    @classmethod
    def find(
        cls,
        given: Sequence[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None,
        target: Shard | None,
    ) -> StoredShards:
        """Return what was given: all shards, or the one name that they were given.

        Args:
            given: Addresses.
            out: Where the whole goes (default: that name).
            target: Which larger shard they make; ``None``: the whole.

        Raises:
            RecipeError: There are none, some are files, or some are missing.
            SourceError: The store does not list them.
        """
        if not all(map(is_stored, given)):
            raise RecipeError(
                "shards on a store, or shards in files", "got both", "Copy the files to the store."
            )
        addresses = [StoreAddress.read(each) for each in given]
        whole: StoreAddress | None = addresses[0]
        if len(addresses) > 1 or _manifest(addresses[0]) is not None:
            objects = [_one(address) for address in addresses]
            name = whole_file(Path(addresses[0].name))
            rows = name is not None and name.suffix == ".npz"
            if name is not None and rows and _read(objects[:1])[0].manifest.reports:
                name = name.with_suffix(".json")
            whole = None if name is None else addresses[0].beside(name.name)
        else:
            objects = _of_name(addresses[0], target)
        if out is None and whole is None:
            raise RecipeError(
                "a name for the merged file",
                f"{objects[0].name} does not tell it",
                "Give --out FILE.",
            )
        named = OutFile.read(out if out is not None else str(whole))
        place = named.of_shard(target)
        return cls(tuple(objects), place, place.path.with_name(named.path.name))

    @contextmanager
    def fetched(self, claim: Claim, watcher: Watcher) -> Iterator[list[Path]]:
        """Yield copies with their manifests; what was made of them is sent if the block ends well.

        The disk must have room for all of them.

        Args:
            claim: What was at the place before.
            watcher: Receives progress.

        Raises:
            SourceError: The store does not give one.
            StorageError: The disk or the store refuses a write, or the whole is there already.
        """
        place = self.place
        page = place.with_ending(".html")
        pages = page.claim() if place.shard is None else None
        if place.address is not None:  # of a merge that was killed before it was sent
            for left in (place.path, page.path, manifest_of(place.path)):
                left.unlink(missing_ok=True)
        first = self.objects[0].address
        with (
            scratch_directory(cache_root() / "merging") as folder,
            said_as(folder, first.beside("")),
            place.errors(),
        ):
            yield _fetched(self.objects, folder, watcher)
            if pages is not None and page.path.is_file():  # of an audit
                page.publish(pages, keep=True)
            place.publish(claim)


def _manifest(shard: StoreAddress) -> StoredObject | None:
    """Return the manifest beside an object, if there is one."""
    return open_bucket(shard).find(shard.beside(manifest_of(Path(shard.name)).name).key)


def _of_name(whole: StoreAddress, target: Shard | None) -> list[StoredObject]:
    """Return the shards of a name that make up the whole, or a larger shard of it."""
    example = Shard(1, 3).file(Path(whole.name))
    start = whole.beside(Path(whole.name).stem).key
    pattern = re.compile(rf"-\d{{5,6}}-of-\d{{5,6}}{re.escape(example.suffix)}")
    there = {each.key: each for each in open_bucket(whole).objects(f"{start}-")}
    found = {
        shard: each
        for key, each in there.items()
        if pattern.fullmatch(key[len(start) :])
        and (shard := named_shard(Path(each.name))) is not None
        and each.address.beside(manifest_of(Path(each.name)).name).key in there
    }
    if not found:
        raise RecipeError(
            "shards to merge",
            f"there is none of {whole}",
            f"They are called {example.name} and so on.",
        )
    shards = covering(found, target)
    counts = {shard.count: each for shard, each in found.items()}
    if len(counts) > 1:  # those of another number may be newer
        first, *others = _read([shards[0], *counts.values()])
        for other in others:
            first.check_alike(other)
    return shards


def _read(shards: Sequence[StoredObject]) -> list[FinishedShard]:
    """Return shards that stay on the store, with what their manifests say."""
    read = []
    with scratch_directory(cache_root() / "merging") as folder:
        for each in shards:
            copy = folder / legal_name(each.name)
            bucket, manifest = open_bucket(each), _manifest(each.address)
            with said_as(folder, each.address.beside("")):
                if manifest is not None:
                    bucket.fetch(manifest, manifest_of(copy))
                read.append(FinishedShard.read(copy))
    return read


def _one(address: StoreAddress) -> StoredObject:
    found = open_bucket(address).find(address.key)
    if found is None:
        raise RecipeError("a shard", f"there is no {address}", "Check its name.")
    return found


def _fetched(shards: Sequence[StoredObject], folder: Path, watcher: Watcher) -> list[Path]:
    """Copy shards and their manifests into a folder."""
    copies = []
    watcher.begin("Fetch", sum(each.size for each in shards), "B")
    done = 0
    for each in shards:
        bucket, copy = open_bucket(each), folder / legal_name(each.name)
        bucket.fetch(each, copy)
        manifest = _manifest(each.address)
        if manifest is not None:
            bucket.fetch(manifest, manifest_of(copy))
        copies.append(copy)
        done += each.size
        watcher.advance(done)
    watcher.end()
    return copies
