"""A collection's images as their source has them: files, the contents of files, or pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.errors import ImageError, SourceError
from opsin.data import sources
from opsin.data.dataset import Dataset
from opsin.data.formats import SUFFIXES, is_heif
from opsin.data.images import content_of
from opsin.data.sources.contents import UnpreparedImages
from opsin.stores.store_address import StoredObject

# Bytes of a file that are held at once.
_BLOCK: Final = 1 << 22
#: The parts of a split.
PARTS: Final = ("train", "val", "test")
# How the contents of files begin, and the endings of their names.
_BEGINNINGS: Final = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif", b"P5": ".pgm", b"P6": ".ppm",
    b"\0\0\0\x0cjP": ".jp2",
}  # fmt: skip


@dataclass(frozen=True)
class SourceImages:
    """The images of a collection, byte by byte as they were, where its source has files."""

    dataset: Dataset
    images: UnpreparedImages | None

    @classmethod
    def of(cls, dataset: Dataset) -> SourceImages:
        """Find the images in their source."""
        recipe = dataset.recipe
        contents = (dataset.held or sources.find_all(recipe)).open()
        if recipe.classes:
            contents = contents.keep(recipe.classes)
        if dataset.unreadable:
            bad = {name for name, _ in dataset.unreadable}
            good = [row for row, name in enumerate(contents.names) if name not in bad]
            contents = contents.rows(np.array(good, np.int64))
        labels = contents.labels
        if dataset.corrected:  # the files still have their old labels, and those left out are there
            kept = set(dataset.names)
            remaining = [row for row, name in enumerate(contents.names) if name in kept]
            contents, labels = contents.rows(np.array(remaining, np.int64)), dataset.labels
        if list(contents.names) == dataset.names and np.array_equal(labels, dataset.labels):
            arrays = isinstance(contents.images, np.ndarray)
            return cls(dataset, None if arrays else contents.images)
        raise SourceError(f"{recipe.source} holds other images by now", "Load it again.")

    def file(self, row: int) -> Path | None:
        """Return where an image's file is; ``None`` where it has none."""
        image = None if self.images is None else self.images[row]
        return image if isinstance(image, Path) else None

    def name(self, row: int) -> str:
        """Return what an image's file is called, or would be."""
        image = None if self.images is None else self.images[row]
        if isinstance(image, Path | StoredObject):
            return image.name
        base = self.dataset.names[row].rpartition("/")[2]
        if isinstance(image, bytes):
            ending = next((e for start, e in _BEGINNINGS.items() if image.startswith(start)), "")
            ending = ".heic" if is_heif(image) else ending
            return base if base.lower().endswith(SUFFIXES) else base + ending
        return f"{base}.png"

    def content(self, row: int) -> bytes:
        """Return the content of an image's file; pixels become PNG, prepared as they are."""
        return b"".join(self.blocks(row))

    def blocks(self, row: int) -> Iterator[bytes]:
        """Yield `content` in pieces."""
        try:
            image = None if self.images is None else self.images[row]
            if isinstance(image, StoredObject):
                image = content_of(image, self.dataset.names[row])
        except ImageError as error:
            raise SourceError(error.message, "Load it again.") from error
        if not isinstance(image, Path):
            yield image if isinstance(image, bytes) else encode_png(self.dataset.images[row])
            return
        try:
            with image.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    yield block
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SourceError(f"{image}: {reason}", "Load it again.") from error


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return ``uint8[H, W, 1 or 3]`` as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(stream, "PNG")
    return stream.getvalue()


def parts_of(dataset: Dataset) -> list[str]:
    """Return the part of each image: ``train``, ``val`` or ``test``."""
    parts = [""] * len(dataset)
    for part in PARTS:
        for row in dataset.split.rows(part):
            parts[row] = part
    return parts
