"""What a run was trained on: ``dataset.json``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from opsin.core.artifacts.artifact import Artifact, Count, Stored, Text
from opsin.core.metadata import Preparation


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
    """What a source holds and is not read, of one kind."""

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
    shape: list[Count] = Field(
        min_length=3, max_length=3, description="Height, width and channels of a prepared image."
    )
    dtype: Text = "uint8"
    range: list[Count] = Field([0, 255], description="Smallest and largest value of a pixel.")
    counts: dict[str, dict[str, Count]] = Field(
        description="Images of each class in each part (train, val, test)."
    )
    groups: Count = Field(0, description="Number of groups that the split keeps together.")
    problem: str | None = Field(None, description="Why training would be refused.")
    corrections: CorrectionCounts | None = None
    preparation: Preparation
    audit: AuditCounts = Field(default_factory=AuditCounts)
    unreadable: list[Unreadable] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(
        default_factory=list, description="What the source holds and is not read, by kind."
    )
    findings: dict[str, Count] = Field(
        default_factory=dict, description="Number of images by kind of finding."
    )
    test_set: Text | None = Field(
        None, description="Identifies the test images by content; null without test images."
    )
