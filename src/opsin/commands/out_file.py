"""Output files of verbs, local or on a store, and manifests of shards.

An object is first a file in this account's state folder, so that a killed command can resume. It
is uploaded whole, at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from opsin._version import __version__
from opsin.core.artifacts.records import Count, Stored, Text, first_of
from opsin.core.errors import RecipeError, StorageError
from opsin.core.files import legal_name, open_regular, state_root
from opsin.core.storage import storage_errors, write_json
from opsin.core.stored_json import JsonObject, read_json
from opsin.data.shard import Shard, ShardInputs
from opsin.stores.bucket import open_bucket, said_as
from opsin.stores.store_address import (
    ADDRESSES,
    AZURE_ACCOUNT,
    StoreAddress,
    StoredObject,
    is_stored,
)


class ShardManifest(Stored):
    """The manifest of a finished shard: its inputs and its file."""

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
        """Its shard."""
        return Shard(self.shard, self.shards)

    def difference(self, other: ShardManifest) -> str:
        """Name a difference between two shards' inputs, or return ``""``."""
        if self.verb != other.verb:
            return "command"
        if (self.images, self.inputs) != (other.images, other.inputs):
            return "list of images"
        names = {**self.options, **other.options}
        different = [name for name in names if self.options.get(name) != other.options.get(name)]
        different += ["number of shards"] if self.shards != other.shards else []
        return next(iter(different), "").removeprefix("the ")

    @classmethod
    def read(cls, file: Path) -> ShardManifest:
        """Read the manifest of a shard's file; raise `RecipeError` if missing or damaged."""
        path = manifest_of(file)
        try:
            with open_regular(path, follow_links=False) as stream:
                manifest = cls.model_validate(read_json(stream))
            manifest.part  # noqa: B018  raises where there is no such shard
        except FileNotFoundError:
            raise RecipeError(
                f"There is no {path.name}, so {file.name} is not finished",
                "Run its command once more; it continues where it stopped.",
            ) from None
        except (OSError, ValueError, RecipeError) as error:
            why = first_of(error) if isinstance(error, ValidationError) else str(error)
            raise RecipeError(f"{path} is damaged ({why})", "Make the shard again.") from error
        return manifest


def manifest_of(file: Path) -> Path:
    """Return the path of a shard's manifest."""
    return file.with_name(f"{file.name}.manifest.json")


@dataclass(frozen=True)
class ShardTask:
    """A shard to be made: its command, images and options."""

    verb: Literal["predict", "embed"]
    inputs: ShardInputs
    options: JsonObject
    file: Path

    def finished(self) -> ShardManifest | None:
        """Return the manifest if the shard is finished with the same inputs and options."""
        if not manifest_of(self.file).exists():
            return None
        manifest = ShardManifest.read(self.file)
        options = json.loads(json.dumps(self.options))
        other = [name for name, value in options.items() if manifest.options.get(name) != value]
        if (manifest.images, manifest.inputs) != (self.inputs.images, self.inputs.fingerprint):
            other.insert(0, "the images")
        if manifest.verb != self.verb or manifest.part != self.inputs.shard or other:
            raise RecipeError(
                f"{self.file} was made with other options: {', '.join(other) or 'the shard'}",
                "Give another file, or the same options again.",
            )
        is_whole = self.file.is_file() and self.file.stat().st_size == manifest.size
        return manifest if is_whole else None

    def finish(self, rows: int, summary: JsonObject) -> None:
        """Write the manifest of the finished file."""
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
            sha256=digest_of(self.file),
            summary=summary,
        )
        write_json(manifest_of(self.file), manifest.to_json())


@dataclass(frozen=True)
class OutFile:
    """The target of ``--out``: a file, or the local file of an object."""

    path: Path
    address: StoreAddress | None = None

    @classmethod
    def read(cls, out: str | os.PathLike[str], shard: Shard | None = None) -> OutFile:
        """Read ``--out``; a shard gets its own file beside it."""
        if not is_stored(out):
            return cls(Path(out) if shard is None else shard.file(Path(out)))
        address = StoreAddress.read(out)
        if shard is not None:
            raise RecipeError(f"A shard is a file, and {out} is on a store", "Copy it there later.")
        # The same address means another object on another store.
        settings = ADDRESSES[address.store] + ((AZURE_ACCOUNT,) if address.store == "az" else ())
        known = repr((str(address), [*map(os.environ.get, settings)]))
        folder = state_root() / "stored" / hashlib.sha256(known.encode()).hexdigest()[:32]
        return cls(folder / legal_name(address.name), address)

    @property
    def shown(self) -> Path | StoreAddress:
        """The path or address to show."""
        return self.path if self.address is None else self.address

    def errors(self) -> AbstractContextManager[None]:
        """Let the errors of a block name the object."""
        return nullcontext() if self.address is None else said_as(self.path, self.address)

    def claim(self) -> StoredObject | None:
        """Return the existing object; raise `StorageError` if this account did not make it."""
        if self.address is None:
            return None
        bucket = open_bucket(self.address)
        there = bucket.find(self.address.key)
        if there is None or there.version == self._record().get("version"):
            return there
        # Perhaps the command was killed right after it had made the object.
        if self.path.is_file() and bucket.sent(there.key, digest_of(self.path)) is not None:
            return there
        raise StorageError(f"{self.address} is there already", "Choose another name with --out.")

    def publish(self, there: StoredObject | None, *, keep: bool = False) -> None:
        """Upload the object; ``keep`` the local file to resume later."""
        if self.address is None:
            return
        digest = digest_of(self.path)
        if there is None or self._record().get("sha256") != digest:
            made = open_bucket(self.address).write(self.address.key, self.path, there, digest)
            if keep:
                record = {"version": made.version, "sha256": digest}
                write_json(self.path.with_name(".stored.json"), record)
        if not keep:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def _record(self) -> dict[str, str]:
        """Return version and digest of the last upload."""
        with suppress(OSError, ValueError):
            record = json.loads(self.path.with_name(".stored.json").read_bytes())
            if isinstance(record, dict):
                return record
        return {}


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with storage_errors(file), open_regular(file) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
