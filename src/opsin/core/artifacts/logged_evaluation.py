"""Evaluations on test images after the training: ``looks.jsonl``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from opsin.core.artifacts.artifact import Count, Seconds, Share, Stored, Text


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
