"""Corrections of labels, and what they have done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from opsin.core.artifacts.records import CorrectionCounts


class Correction(NamedTuple):
    """A row of a corrections file."""

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
    """What corrections have done."""

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
