"""The small JSON files of a run: its name and note, looks at test images, trackers, its origin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field, ValidationInfo, field_validator

from opsin.core.artifacts.artifact import Artifact, Count, Seconds, Share, Stored, Text

#: Characters of a run's name and of its note, at most.
NAME_MOST: Final = 200
NOTE_MOST: Final = 10_000
#: The model's name in the recipe of an imported classifier.
IMPORTED: Final = "imported"


class RunNotes(Artifact):
    """The name and the note that people gave a run; empty where they gave none."""

    FILE: ClassVar[str] = "notes.json"

    name: str = Field("", description=f"Name of the run, at most {NAME_MOST} characters.")
    note: str = Field("", description=f"Note about the run, at most {NOTE_MOST:,} characters.")

    @field_validator("name", "note", mode="before")
    @classmethod
    def _shorten(cls, text: object, info: ValidationInfo) -> object:
        """Cut what another program wrote to the length that pages have room for."""
        most = NAME_MOST if info.field_name == "name" else NOTE_MOST
        return text[:most] if isinstance(text, str) else text or ""


class LoggedEvaluation(Stored):
    """One evaluation on test images, a line of the file."""

    FILE: ClassVar[str] = "looks.jsonl"

    time: Seconds | None = Field(None, description="When, in seconds since 1970.")
    test_set: Text = Field(description="Identifies the test images by content.")
    images: Count | None = None
    accuracy: Share | None = None
    inputs: Text | None = Field(
        None,
        description="Of one shard, the SHA-256 of the names of all images; null for the whole.",
    )


class TrackedRun(Stored):
    """What a tracker calls the run, a line of the file; the last line of a tracker counts."""

    FILE: ClassVar[str] = "trackers.jsonl"

    tracker: Text = Field(description="Its name, as `--track` takes it.")
    # It becomes part of addresses and of names of folders, and a stranger may have written it.
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class ImportParity(Stored):
    """How close the file's answers are to those that its maker's program gave."""

    file: Text = Field(description="Array file with the images and the maker's answers.")
    images: Count
    difference: float = Field(description="Largest difference of probabilities.")
    labels: Count = Field(0, description="Images with another label.")


class ImportRecord(Artifact):
    """Where an imported classifier is from, what was found out, and what it was compared with."""

    FILE: ClassVar[str] = "import.json"

    file: Text = Field(description="Name of the file that it was read from.")
    sha256: Text = Field(description="Of that file, in hexadecimal.")
    maker: Text = Field(description="Program that saved it, with its version.")
    network: Text = Field("", description="What its maker calls the network.")
    pixels: Text = Field(description="What it takes for pixels, and where that is stated.")
    answers: Text = Field(description="What it answers with, and how that became probabilities.")
    classes_from: Text = Field(description="Where the names of the classes are stated.")
    licence: Text = Field(description="Under which it is published, or unknown.")
    parity: ImportParity | None = Field(
        None, description="Comparison with the maker's answers; null where none were given."
    )
