"""An image of a collection, before it is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import UNASSIGNED
from opsin.stores.store_address import StoredObject


@dataclass(frozen=True)
class ListedImage:
    """One image of a collection, before it is decoded."""

    name: str
    image: str | Path | StoredObject | bytes | NDArray[np.uint8] | int
    label: int = -1
    part: int = UNASSIGNED
    problem: ImageError | None = None

    @classmethod
    def of(cls, contents: LabelledImages, row: int) -> Self:
        """Return the image of a row, or why its archive does not give it."""
        name = str(contents.names[row])
        try:
            return cls(name, contents.images[row])
        except ImageError as error:
            return cls(name, b"", problem=error)

    @property
    def path(self) -> str | None:
        """Its file, where it is one."""
        return str(self.image) if isinstance(self.image, str | Path) else None

    def absolute(self) -> Self:
        """Return the same with its file's whole path, for a process that works elsewhere."""
        if self.path is None:
            return self
        return replace(self, image=os.path.abspath(self.path))  # noqa: PTH100  any text
