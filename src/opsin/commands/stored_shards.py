"""Shards on an object store, fetched to be merged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from opsin.commands.out_file import OutFile
from opsin.commands.shard_manifest import manifest_of
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.file_names import legal_name
from opsin.core.storage import scratch_directory
from opsin.data.cache import cache_root
from opsin.data.shard import Shard, whole_file
from opsin.stores.bucket import open_bucket
from opsin.stores.said_as import said_as
from opsin.stores.store_address import StoreAddress, is_stored
from opsin.stores.stored_object import StoredObject


@contextmanager
def fetched_shards(
    given: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, watcher: Watcher
) -> Iterator[tuple[list[Path], OutFile]]:
    """Yield copies of shards with their manifests, and where what is made of them goes.

    It is sent there when the block ends well. The disk must have room for all shards.

    Args:
        given: Addresses of all shards, or of the one name that they were given.
        out: Where the whole goes (default: that name).
        watcher: Receives progress.

    Raises:
        RecipeError: There are none, or some are files.
        SourceError: The store does not give one.
        StorageError: The disk or the store refuses a write, or the whole is there already.
    """
    if not all(map(is_stored, given)):
        raise RecipeError(
            "shards on a store, or shards in files", "got both", "Copy the files to the store."
        )
    addresses = [StoreAddress.read(each) for each in given]
    shards = _found(addresses)
    whole = whole_file(Path(shards[0].name))
    if out is None and whole is None:
        raise RecipeError(
            "a name for the merged file", f"{shards[0].name} does not tell it", "Give --out FILE."
        )
    name = "" if whole is None else whole.name
    place = OutFile.read(out if out is not None else str(addresses[0].beside(name)))
    claim = place.claim()
    place.path.parent.mkdir(parents=True, exist_ok=True)
    if place.address is not None:  # of a merge that was killed before it was sent
        place.path.unlink(missing_ok=True)
    with (
        scratch_directory(cache_root() / "merging") as folder,
        said_as(folder, addresses[0].beside("")),
        place.errors(),
    ):
        copies = _fetched(shards, folder, watcher)
        yield copies, place
        place.publish(claim)


def _found(given: Sequence[StoreAddress]) -> list[StoredObject]:
    """Return the shards: those given, or those of the one name given."""
    bucket = open_bucket(given[0].bucket)
    single = given[0].beside(manifest_of(Path(given[0].name)).name)
    if len(given) > 1 or bucket.find(single.key) is not None:
        return [_one(address) for address in given]
    whole = Path(given[0].name)
    start = given[0].beside(whole.stem).key
    pattern = re.compile(rf"-\d{{5,6}}-of-\d{{5,6}}{re.escape(whole.suffix)}")
    found = [
        each for each in bucket.objects(f"{start}-") if pattern.fullmatch(each.key[len(start) :])
    ]
    if not found:
        raise RecipeError(
            "shards to merge",
            f"there is none of {given[0]}",
            f"They are called {Shard(1, 3).file(whole).name} and so on.",
        )
    return found


def _one(address: StoreAddress) -> StoredObject:
    found = open_bucket(address.bucket).find(address.key)
    if found is None:
        raise RecipeError("a shard", f"there is no {address}", "Check its name.")
    return found


def _fetched(shards: Sequence[StoredObject], folder: Path, watcher: Watcher) -> list[Path]:
    """Copy shards and their manifests into a folder."""
    copies = []
    watcher.begin("Fetch", sum(each.size for each in shards), "B")
    done = 0
    for each in shards:
        bucket, copy = open_bucket(each.bucket), folder / legal_name(each.name)
        bucket.fetch(each, copy)
        manifest = bucket.find(each.address.beside(manifest_of(Path(each.name)).name).key)
        if manifest is not None:
            bucket.fetch(manifest, manifest_of(copy))
        copies.append(copy)
        done += each.size
        watcher.advance(done)
    watcher.end()
    return copies
