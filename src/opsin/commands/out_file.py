"""Where a verb writes: a file, or an object on a store, or a shard of either.

An object is a file of this account first: what is done of it lies below the account's state, so
that the same command goes on there after it was killed. It appears whole, at the end. A finished
shard says of what it was made in a manifest beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from opsin._version import __version__
from opsin.core.artifacts.records import Count, Stored, Text, first_of
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import Watcher, WatcherGroup
from opsin.core.file_names import legal_name
from opsin.core.files import open_regular, state_root
from opsin.core.storage import storage_errors, write_json
from opsin.core.stored_json import JsonObject, read_json
from opsin.data.shard import Shard, ShardInputs
from opsin.stores.bucket import open_bucket
from opsin.stores.store_address import (
    ADDRESSES,
    AZURE_ACCOUNT,
    StoreAddress,
    StoredObject,
    is_stored,
)
from opsin.stores.store_errors import said_as


class ShardManifest(Stored):
    """A finished shard: of what it was made, and what its file holds."""

    format: Literal[1] = Field(description="Version of this file's format.")
    opsin: Text = Field(description="The version that made it.")
    verb: Literal["predict", "embed"]
    shard: Annotated[int, Field(ge=1)] = Field(description="Which one, from 1.")
    shards: Annotated[int, Field(ge=1)] = Field(description="How many there are.")
    images: Count = Field(description="Images of the whole source.")
    inputs: Text = Field(description="SHA-256 of their names in order.")
    options: dict[str, Any] = Field(description="What rows depend on: the model and options.")
    rows: Count = Field(description="Rows in the file.")
    size: Count = Field(description="Bytes of the file.")
    sha256: Text = Field(description="Of the file.")
    summary: dict[str, Any] = Field(description="What the command printed.")

    @property
    def part(self) -> Shard:
        """Which shard it is."""
        return Shard(self.shard, self.shards)

    def difference(self, other: ShardManifest) -> str:
        """In which way two shards do not belong together; empty where they do."""
        if self.verb != other.verb:
            return "command"
        if (self.images, self.inputs) != (other.images, other.inputs):
            return "list of images"
        names = {**self.options, **other.options}
        different = (name for name in names if self.options.get(name) != other.options.get(name))
        return next(different, "").removeprefix("the ")

    @classmethod
    def read(cls, file: Path) -> ShardManifest:
        """Read the manifest of a shard's file; `RecipeError` where there is none, or a bad one."""
        path = manifest_of(file)
        try:
            with open_regular(path, follow_links=False) as stream:
                found = cls.model_validate(read_json(stream))
            found.part  # noqa: B018  raises where there is no such shard
        except FileNotFoundError:
            raise RecipeError(
                "a finished shard, with its manifest beside it",
                f"there is no {path.name}",
                f"Run the command of {file.name} once more; it goes on where it stopped.",
            ) from None
        except (OSError, ValueError, RecipeError) as error:
            why = first_of(error) if isinstance(error, ValidationError) else str(error)
            raise RecipeError(
                "the manifest of a shard", f"{path} is damaged ({why})", "Make the shard again."
            ) from error
        return found


def manifest_of(file: Path) -> Path:
    """Where the manifest of a shard's file is."""
    return file.with_name(f"{file.name}.manifest.json")


@dataclass(frozen=True)
class ShardTask:
    """A shard that is to be made: by which command, of which images, with which options."""

    verb: Literal["predict", "embed"]
    inputs: ShardInputs
    options: JsonObject
    file: Path

    def finished(self, size: int | None = None) -> ShardManifest | None:
        """The manifest where the shard was made before, with the same inputs and options."""
        if not manifest_of(self.file).exists():
            return None
        found = ShardManifest.read(self.file)
        options = json.loads(json.dumps(self.options))
        other = [name for name, value in options.items() if found.options.get(name) != value]
        if (found.images, found.inputs) != (self.inputs.images, self.inputs.fingerprint):
            other.insert(0, "the images")
        if found.verb != self.verb or found.part != self.inputs.shard or other:
            raise RecipeError(
                f"the model, images and options that {self.file} was made with",
                f"other than then: {', '.join(other) or 'the shard'}",
                "Give another file, or the same again.",
            )
        if size is None and self.file.is_file():
            size = self.file.stat().st_size
        return found if size == found.size else None

    def finish(self, rows: int, summary: JsonObject) -> None:
        """Write the manifest of the file, which is there."""
        manifest = ShardManifest(
            format=1,
            opsin=__version__,
            verb=self.verb,
            shard=self.inputs.shard.number,
            shards=self.inputs.shard.count,
            images=self.inputs.images,
            inputs=self.inputs.fingerprint,
            options=self.options,
            rows=rows,
            size=self.file.stat().st_size,
            sha256=_digest_of(self.file),
            summary=summary,
        )
        write_json(manifest_of(self.file), manifest.to_json())


@dataclass(frozen=True)
class Claim:
    """What was at the place of an object before the work."""

    there: StoredObject | None = None
    manifest: StoredObject | None = None
    finished: int | None = None


@dataclass(frozen=True)
class OutFile:
    """What the user named with ``--out``: a file, or the one that becomes an object."""

    path: Path
    address: StoreAddress | None = None
    shard: Shard | None = None

    @classmethod
    def read(cls, out: str | os.PathLike[str], shard: Shard | None = None) -> OutFile:
        """What the user wrote; of a shard, its own file beside that."""
        if not is_stored(out):
            return cls(Path(out)).of_shard(shard)
        address = StoreAddress.read(out)
        return cls(_staged(address), address).of_shard(shard)

    def of_shard(self, shard: Shard | None) -> OutFile:
        """The place of a shard's own file."""
        if shard is None:
            return self
        name = shard.file(Path(self.shown.name)).name
        if self.address is None:
            return replace(self, path=self.path.with_name(name), shard=shard)
        address = self.address.beside(name)
        return replace(self, path=_staged(address), address=address, shard=shard)

    @property
    def shown(self) -> Path | StoreAddress:
        """What it is called."""
        return self.path if self.address is None else self.address

    def errors(self) -> AbstractContextManager[None]:
        """Let the errors of a block name the object."""
        return nullcontext() if self.address is None else said_as(self.path, self.address)

    def watcher(self, watcher: Watcher) -> Watcher:
        """One whose notes name the object."""
        return watcher if self.address is None else _SaidAs(watcher, self.path, self.address)

    def claim(self) -> Claim:
        """Return what is there already."""
        if self.address is None:
            return Claim()
        bucket = open_bucket(self.address)
        there = bucket.find(self.address.key)
        if self.shard is None:
            if there is not None and not self._made(there):
                raise StorageError(
                    "a new object, or one that this account made",
                    f"{self.address} is there already",
                    "Choose another name with --out; Opsin overwrites nothing.",
                )
            return Claim(there)
        manifest = bucket.find(self._manifest_key(self.address))
        if there is None or manifest is None:
            return Claim(there, manifest)
        bucket.fetch(manifest, manifest_of(self.path))
        return Claim(there, manifest, there.size)

    def _made(self, there: StoredObject) -> bool:
        """Whether an object was made here, perhaps by a command that was killed thereupon."""
        if there.version == self._written().get("version"):
            return True
        if not self.path.is_file():
            return False
        return open_bucket(there).sent(there.key, _digest_of(self.path)) is not None

    def publish(self, claim: Claim, *, keep: bool = False) -> None:
        """Make the object, or that of the shard and then its manifest."""
        if self.address is None:
            return
        bucket, digest = open_bucket(self.address), _digest_of(self.path)
        if claim.there is None or self._written().get("sha256") != digest:
            made = bucket.write(self.address.key, self.path, claim.there, digest)
            if keep:
                write_json(self._record, {"version": made.version, "sha256": digest})
        if self.shard is not None:
            manifest, key = manifest_of(self.path), self._manifest_key(self.address)
            bucket.write(key, manifest, claim.manifest, _digest_of(manifest))
        if not keep:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def settle(self, claim: Claim) -> None:
        """See that a shard which was finished before is on the store, and no more of it here."""
        if claim.finished is None:
            self.publish(claim)
        elif self.address is not None:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def _manifest_key(self, address: StoreAddress) -> str:
        return address.beside(manifest_of(Path(address.name)).name).key

    @property
    def _record(self) -> Path:
        return self.path.with_name(".stored.json")

    def _written(self) -> dict[str, str]:
        """Version and digest of the object that was made before."""
        with suppress(OSError, ValueError):
            found = json.loads(self._record.read_bytes())
            if isinstance(found, dict):
                return found
        return {}


class _SaidAs(WatcherGroup):
    """Passes every event on, and names the object in notes."""

    def __init__(self, watcher: Watcher, path: Path, address: StoreAddress) -> None:
        super().__init__(watcher)
        self._names = (str(path), str(address))

    def note(self, text: str) -> None:
        """Pass on."""
        super().note(text.replace(*self._names))


def _staged(address: StoreAddress) -> Path:
    """The file that becomes an object, in a folder of its own."""
    # The same address means another object on another store.
    settings = ADDRESSES[address.store] + ((AZURE_ACCOUNT,) if address.store == "az" else ())
    known = repr((str(address), [*map(os.environ.get, settings)]))
    folder = state_root() / "stored" / hashlib.sha256(known.encode()).hexdigest()[:32]
    return folder / legal_name(address.name)


def _digest_of(file: Path) -> str:
    with storage_errors(file), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
