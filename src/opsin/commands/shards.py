"""Finished shards: what each says of itself, in a manifest beside its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from opsin._version import __version__
from opsin.core.artifacts.records import Count, Stored, Text, first_of
from opsin.core.errors import RecipeError
from opsin.core.files import open_regular
from opsin.core.storage import storage_errors, write_json
from opsin.core.stored_json import JsonObject, read_json
from opsin.data.shard import Shard, ShardInputs


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
        with storage_errors(self.file), self.file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
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
            sha256=digest,
            summary=summary,
        )
        write_json(manifest_of(self.file), manifest.to_json())
