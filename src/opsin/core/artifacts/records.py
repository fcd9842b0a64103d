"""Schemas of a run's JSON files, except its report; of its recipe, what all models share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from opsin.core.errors import RunError
from opsin.core.files import open_regular
from opsin.core.metadata import Count, Preparation, limited_text
from opsin.core.storage import write_json
from opsin.core.stored_json import first_fault, read_json

#: Latest accepted time, in seconds since 1970: about the year 9900.
LATEST: Final = 2.5e11
#: Most characters of a text; sources can be long.
LONGEST: Final = 20_000

Text = Annotated[str, limited_text(LONGEST)]
# Average precisions can exceed 1 by a rounding error.
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]
Seconds = Annotated[float, Field(ge=0, le=LATEST)]


class Stored(BaseModel):
    """A part of a file; unknown fields, perhaps of a later Opsin, are kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Line(Stored):
    """A line of a file of JSON lines."""

    FILE: ClassVar[str]
    #: Whether several processes add lines: then one that a crash has cut may be in the middle.
    SHARED: ClassVar[bool] = False


class Artifact(Stored):
    """A JSON file of a run."""

    FILE: ClassVar[str]
    FORMAT: ClassVar[int] = 1

    format: int = Field(1, ge=1, description="Version of this file's format.")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read and check a file; no link is followed."""
        try:
            with open_regular(file, follow_links=False) as stream:
                content = read_json(stream)
        except (OSError, ValueError) as error:
            raise damaged(file, error) from error
        if not isinstance(content, dict):
            raise damaged(file, "it holds no object")
        stated = content.get("format", 1)
        if type(stated) is int and stated > cls.FORMAT:
            raise RunError(f"{file} has format {stated}, of a later Opsin", "Update Opsin.")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise damaged(file, ": ".join(first_fault(error))[:300]) from error

    def write(self, folder: Path, *, synced: bool = True) -> None:
        """Write the file into a folder."""
        content = self.model_dump(mode="json", exclude_unset=True)
        write_json(folder / self.FILE, {"format": self.FORMAT} | content, synced=synced)


def damaged(file: Path, why: Exception | str) -> RunError:
    """The error of a file that does not hold what Opsin writes."""
    reason = why.strerror if isinstance(why, OSError) else str(why)
    return RunError(f"{file} is damaged ({reason})", "Restore the file or train again.")


class Location(Stored):
    """Where the images of a run lie."""

    sources: list[Text] = Field(default_factory=list, description="Names, folders or files.")
    test: Text | None = Field(None, description="Source of the test images alone.")
    labels: Text | None = Field(None, description="Table of corrected labels.")


class Unreadable(Stored):
    """A file that could not be decoded."""

    name: str
    reason: str


class LeftOut(Stored):
    """Entries of one kind that a source contains but Opsin does not read."""

    kind: str = Field(description="In the singular: text file, hidden file, empty folder …")
    count: Count
    examples: list[str] = Field(default_factory=list, description="Up to five names.")


class CorrectionCounts(Stored):
    """How many labels the user's corrections changed."""

    file: str
    rows: Count = 0
    relabelled: Count = 0
    left_out: Count = 0
    by_name: Count = 0


class AuditCounts(Stored):
    """How many problems the audit of the images found."""

    unreadable: Count = 0
    repeated_rows: Count = 0
    near_duplicates: Count = 0
    test_copies_in_training: Count = 0
    test_near_duplicates_in_training: Count = 0


class DatasetRecord(Artifact):
    """The images, classes and split that a run was trained with."""

    FILE: ClassVar[str] = "dataset.json"

    source: Text = Field(description="All sources in one line.")
    location: Location = Field(default_factory=Location)
    fingerprint: Text = Field(description="SHA-256 of images and labels.")
    classes: list[str]
    images: Count = Field(description="Number of images in all parts.")
    shape: list[Count] = Field(min_length=3, max_length=3, description="Height, width, channels.")
    dtype: Text = "uint8"
    range: list[Count] = Field([0, 255], description="Smallest and largest value of a pixel.")
    counts: dict[str, dict[str, Count]] = Field(description="Images by class and part.")
    groups: Count = Field(0, description="Number of groups that the split keeps together.")
    problem: str | None = Field(None, description="Why training would be refused.")
    corrections: CorrectionCounts | None = None
    preparation: Preparation
    audit: AuditCounts = Field(default_factory=AuditCounts)
    unreadable: list[Unreadable] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list, description="What is not read, by kind.")
    findings: dict[str, Count] = Field(default_factory=dict, description="Images by kind.")
    test_set: Text | None = Field(None, description="Identifies the test images by content.")


# JSON has no NaN: non-finite values are null.
_Measured = Annotated[
    float,
    BeforeValidator(
        lambda value: math.nan if value is None else value, json_schema_input_type=float | None
    ),
]


class Epoch(Line):
    """One pass over the training images: a line of ``history.jsonl``.

    Losses are mean cross entropies in nats, accuracies shares between 0 and 1, times seconds.
    Training figures are running means over the epoch, with augmentation and dropout on; validation
    figures are exact. Non-finite values are ``null`` in the file.
    """

    FILE: ClassVar[str] = "history.jsonl"
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="null")

    epoch: Count = Field(description="Number of the epoch, from 1.")
    epochs: Count = Field(description="Epochs that were asked for.")
    step: Count = Field(description="Steps of the optimiser so far.")
    train_loss: _Measured
    train_accuracy: _Measured
    val_loss: _Measured
    val_accuracy: _Measured
    learning_rate: _Measured
    seconds: _Measured
    images_per_second: _Measured
    best: bool = Field(description="Whether no earlier epoch was better on validation images.")
    complete: bool = True


class JudgedImages(Artifact):
    """The images that are judged so far in a training, each by a head that had not seen it."""

    FILE: ClassVar[str] = "judged.json"

    rows: list[Count] = Field(description="Numbers of the images, as in split.npz.")
    right: list[bool] = Field(description="Whether the answer to each was right.")


State = Literal["running", "done", "stopped", "failed"]
_Amount = Annotated[float, Field(ge=0)]


class RunStatus(Artifact):
    """What a run is doing and how far it is, or how it ended."""

    FILE: ClassVar[str] = "status.json"

    state: State
    pid: int = Field(gt=0, lt=1 << 31, description="Process that trains or trained the run.")
    started: Seconds | None = Field(None, description="When it began, in seconds since 1970.")
    heartbeat: Seconds = Field(description="When this file was last written.")
    launch: Text | None = Field(None, description="By which restarted processes find their run.")
    cause: Text | None = Field(None, description="Why the run failed or stopped.")
    doing: Text | None = Field(None, description="Present work; ``3/10`` is epoch 3 of 10.")
    done: _Amount = Field(0.0, description="Finished units of that work.")
    total: _Amount = Field(0.0, description="All units of that work; 0 if they are not counted.")
    unit: Text = Field("", description="Name of the units, such as ``images``.")
    share: _Amount | None = Field(None, description="Finished part of the training, 0 to 1.")
    left: _Amount | None = Field(None, description="Seconds until the training ends.")
    speed: _Amount | None = Field(None, description="Units a second.")
    figures: dict[Text, float] = Field(default_factory=dict, description="Present loss, …")


#: The model's name in the recipe of an imported classifier.
IMPORTED: Final = "imported"


class RunNotes(Artifact):
    """The user's name for a run and note about it; empty by default."""

    FILE: ClassVar[str] = "notes.json"

    name: Annotated[str, limited_text(200)] = Field(
        "", description="Name of the run, at most 200 characters."
    )
    note: Annotated[str, limited_text(10_000)] = Field(
        "", description="Note about the run, at most 10,000 characters."
    )
    number: int = Field(0, ge=0, description="Number in its project of the studio; 0 without one.")


class LoggedEvaluation(Line):
    """One evaluation on test images, a line of the file."""

    FILE: ClassVar[str] = "looks.jsonl"
    SHARED: ClassVar[bool] = True

    time: Seconds | None = Field(None, description="When, in seconds since 1970.")
    test_set: Text = Field(description="Identifies the test images by content.")
    images: Count | None = None
    accuracy: Share | None = None
    inputs: Text | None = Field(None, description="Of one shard, the SHA-256 of all names.")


class TrackedRun(Line):
    """A tracker's id of the run, a line of the file; a tracker's last line counts."""

    FILE: ClassVar[str] = "trackers.jsonl"
    SHARED: ClassVar[bool] = True

    tracker: Text = Field(description="Its name, as `--track` takes it.")
    # Untrusted, and part of URLs and folder names.
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class ImportRecord(Artifact):
    """Origin of an imported classifier, and what was inferred about it."""

    FILE: ClassVar[str] = "import.json"

    file: Text = Field(description="Name of the file that it was read from.")
    sha256: Text = Field(description="Of that file, in hexadecimal.")
    maker: Text = Field(description="Program that saved it, with its version.")
    network: Text = Field("", description="What its maker calls the network.")
    pixels: Text = Field(description="What it takes for pixels, and where that is stated.")
    answers: Text = Field(description="What it answers with, and how that became probabilities.")
    classes_from: Text = Field(description="Where the names of the classes are stated.")
    licence: Text = Field(description="Under which it is published, or unknown.")
