"""What a finished shard says of itself, in a file beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from opsin._version import __version__
from opsin.core.artifacts.artifact import Count, Stored, Text, first_of
from opsin.core.errors import RecipeError
from opsin.core.regular_file import open_regular
from opsin.core.storage import storage_errors, write_json
from opsin.core.stored_json import JsonObject, read_json
from opsin.data.shard import Shard, ShardInputs

_FORMAT = 1
#: Commands whose work can be divided; ``audit`` is ``opsin data --audit``.
ShardedVerb = Literal["predict", "embed", "evaluate", "audit"]


class ShardManifest(Stored):
    """A finished shard: of what it was made, and what its file holds."""

    format: Literal[1] = Field(description="Version of this file's format.")
    opsin: Text = Field(description="The version that made it.")
    verb: ShardedVerb
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

    @property
    def reports(self) -> bool:
        """Whether the rows of all shards become a report, which is JSON."""
        return self.verb in ("evaluate", "audit")

    def difference(self, other: ShardManifest) -> str:
        """Return in which way two shards do not belong together; empty where they do."""
        if self.verb != other.verb:
            return "command"
        if (self.images, self.inputs) != (other.images, other.inputs):
            return "list of images"
        names = {**self.options, **other.options}
        different = (name for name in names if self.options.get(name) != other.options.get(name))
        return next(different, "").removeprefix("the ")

    @classmethod
    def read(cls, file: Path) -> ShardManifest:
        """Read the manifest of a shard's file.

        Raises:
            RecipeError: There is none, or it is damaged.
        """
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
    """Return where the manifest of a shard's file is."""
    return file.with_name(f"{file.name}.manifest.json")


@dataclass(frozen=True)
class FinishedShard:
    """A shard's file, and what it says of itself."""

    file: Path
    manifest: ShardManifest

    @classmethod
    def read(cls, file: Path) -> FinishedShard:
        """Read the manifest of a shard's file.

        Raises:
            RecipeError: There is none, or it is damaged.
        """
        return cls(file, ShardManifest.read(file))

    def check_alike(self, other: FinishedShard) -> None:
        """Refuse another shard that does not belong to the same whole.

        Raises:
            RecipeError: It does not.
        """
        difference = self.manifest.difference(other.manifest)
        if difference:
            raise RecipeError(
                "shards of the same model, images and options",
                f"{other.file.name} was made with another {difference} than {self.file.name}",
                "Make those anew that are wrong, or move them away.",
            )


@dataclass(frozen=True)
class ShardTask:
    """A shard that is to be made.

    Args:
        verb: By which command.
        inputs: Of which images.
        options: What rows depend on, under names that the user understands.
        file: The shard's file.
    """

    verb: ShardedVerb
    inputs: ShardInputs
    options: JsonObject
    file: Path

    def finished(self, size: int | None = None) -> ShardManifest | None:
        """Return the manifest where the shard was made before, with the same inputs and options.

        Args:
            size: Bytes of its file, where that lies elsewhere.

        Raises:
            RecipeError: It was made with others.
        """
        if not manifest_of(self.file).exists():
            return None
        found = ShardManifest.read(self.file)
        options = json.loads(json.dumps(self.options))
        inputs = self.inputs
        other = [name for name, value in options.items() if found.options.get(name) != value]
        if (found.images, found.inputs) != (inputs.images, inputs.fingerprint):
            other.insert(0, "the images")
        if found.verb != self.verb or found.part != inputs.shard or other:
            raise RecipeError(
                f"the model, images and options that {self.file} was made with",
                f"other than then: {', '.join(other) or 'the shard'}",
                "Give another file, or the same again.",
            )
        if size is None and self.file.is_file():
            size = self.file.stat().st_size
        return found if size == found.size else None

    def finish(
        self, content: Path, rows: int, summary: JsonObject, *, opsin: str = __version__
    ) -> ShardManifest:
        """Write the manifest, and return it.

        Args:
            content: What is, or will be, the shard's file.
            rows: Its rows.
            summary: What the command says of it.
            opsin: The version that made its rows.

        Raises:
            StorageError: The disk refuses the write.
        """
        with storage_errors(content), content.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        manifest = ShardManifest(
            format=_FORMAT,
            opsin=opsin,
            verb=self.verb,
            shard=self.inputs.shard.number,
            shards=self.inputs.shard.count,
            images=self.inputs.images,
            inputs=self.inputs.fingerprint,
            options=self.options,
            rows=rows,
            size=content.stat().st_size,
            sha256=digest,
            summary=summary,
        )
        write_json(manifest_of(self.file), manifest.to_json())
        return manifest
