"""A set of decoded images, opened."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.recipe import DataRecipe
from opsin.data import cache
from opsin.data.audit import Finding
from opsin.data.corrections import Decoded
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from opsin.studio.errors import NotThere

#: Parts of a split by their codes; the first is for images without one.
PARTS: Final = {UNASSIGNED: "unsplit", TRAIN: "train", VAL: "val", TEST: "test"}


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """An image ``uint8[H, W, C]`` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, "PNG", compress_level=1
    )
    return file.getvalue()


class DecodedDataset:
    """The decoded images of a set or a run."""

    def __init__(
        self, id_: str, decoded: Decoded, *, key: str = "",
        kept: NDArray[np.int64] | None = None, recipe: DataRecipe | None = None,
    ) -> None:  # fmt: skip
        self.id = id_
        self.decoded = decoded
        self.key = key
        self.recipe = recipe or DataRecipe.of(id_)
        self.parts: NDArray[np.uint8] = decoded.source_parts.copy()
        self.findings: dict[str, Finding] | None = None
        self.looked = 0.0
        self._kept = kept
        content = hashlib.blake2s(repr(decoded.images.shape).encode(), digest_size=6)
        content.update(np.ascontiguousarray(decoded.digests).data)
        self.version = content.hexdigest()

    def __len__(self) -> int:
        return len(self.decoded.labels)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return list(self.decoded.classes)

    def png(self, row: int) -> bytes:
        """Return an image as a PNG file, at the training size."""
        return png_of(self.decoded.images[self._row(row)])

    def label(self, row: int) -> int:
        """Return an image's class in the source, or as the run was trained."""
        return int(self.decoded.labels[self._row(row)])

    def name(self, row: int) -> str:
        """Return an image's name: its path below the source, or ``train/123``."""
        return str(self.decoded.names[self._row(row)])

    def part(self, row: int) -> str:
        """Return an image's part: ``train``, ``val``, ``test`` or ``unsplit``."""
        return PARTS[int(self.parts[self._row(row)])]

    def digest(self, row: int) -> str:
        """Return an image's key in a corrections file: 32 hexadecimal digits."""
        [name] = cache.digest_names(self.decoded.digests[[self._row(row)]])
        return name

    def address(self, row: int) -> str:
        """Return an image's URL, which differs for each version."""
        route = "images" if self._kept is None else "run-images"
        return f"/{route}/{self.id}/{row}?v={self.version}"

    def source_rows(self, rows: Collection[int]) -> list[int]:
        """Return the rows in the set without corrections."""
        checked = [self._row(row) for row in rows]
        return checked if self._kept is None else self._kept[checked].tolist()

    def take_split(self, rows: Mapping[str, NDArray[np.int64]]) -> None:
        """Set the part of each row, as in a run's ``split.npz``."""
        self.parts = np.full(len(self), UNASSIGNED, np.uint8)
        for code, part in PARTS.items():
            chosen = rows.get(part, np.array([], np.int64))
            self.parts[chosen[chosen < len(self)]] = code

    def _row(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise NotThere(f"There is no image {row} of {len(self):,}", "Go back a page.")
        return row
