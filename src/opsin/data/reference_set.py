"""Images with known classes, prepared for one classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.data.lazy_images import Images


@dataclass(frozen=True)
class ReferenceSet:
    """Images with known classes, prepared for one classifier."""

    images: Images
    labels: NDArray[np.int64]
    names: Sequence[str]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    source: str
    test: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    own: bool = False
    groups: NDArray[np.int64] | None = None

    def row_called(self, name: str) -> int | None:
        """Return the row of an image by its name, or by its part and number: ``test/17``."""
        if name in self.names:
            return list(self.names).index(name)
        part, _, number = name.partition("/")
        rows = {"train": self.train, "val": self.val, "test": self.test}.get(part, ())
        return int(rows[int(number)]) if number.isdecimal() and int(number) < len(rows) else None

    def rows_of(self, part: Literal["train", "val"]) -> NDArray[np.int64]:
        """Return a part's rows, ascending."""
        rows = np.sort(self.train if part == "train" else self.val)
        if not len(rows):
            kind = "training" if part == "train" else "validation"
            raise SourceError(f"{self.source} has no {kind} images", "Give others: --data SOURCE.")
        return rows
