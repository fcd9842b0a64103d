"""Corrections of labels, and what they have done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from opsin.core.artifacts.dataset_record import CorrectionCounts


class Correction(NamedTuple):
    """A row of a corrections file.

    Args:
        digest: First 16 bytes of the SHA-256 of the image's prepared pixels, as hexadecimal
            digits, or ``""``.
        name: What the image is called, or ``""``.
        label: Its class from now on; ``-`` or ``""`` to leave it out.
        suggested: What Opsin suggests; for the reader.
        score: Doubt in the present label, 0 to 1; for the reader.
        line: Where the row stands in its file, for errors.
        present: The class that the image has without the row; ``""`` where that is not stated. An
            image of another class is not meant.
    """

    digest: str
    name: str
    label: str
    suggested: str = ""
    score: float = math.nan
    line: int = 0
    present: str = ""

    def __str__(self) -> str:
        return f"line {self.line:,} ({self.name or self.digest})"


@dataclass(frozen=True)
class Applied:
    """What corrections have done.

    Args:
        file: The file, as it was given.
        rows: What it says.
        relabelled: Images that have another class now.
        left_out: Images that are left out.
        by_name: Rows whose image was known by its name, not by its content.
    """

    file: str
    rows: tuple[Correction, ...]
    relabelled: int
    left_out: int
    by_name: int

    @property
    def words(self) -> str:
        """What was done, in words: ``3 relabelled, 1 left out``."""
        return f"{self.relabelled:,} relabelled, {self.left_out:,} left out"

    def counts(self) -> CorrectionCounts:
        """Return the file and how many of each, as a run's ``dataset.json`` keeps it."""
        return CorrectionCounts(
            file=self.file,
            rows=len(self.rows),
            relabelled=self.relabelled,
            left_out=self.left_out,
            by_name=self.by_name,
        )
