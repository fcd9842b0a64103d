"""The decoded images of a dataset, or of a run as they were in training."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.cache import digest_names
from opsin.data.corrections import Decoded
from opsin.data.dataset import fingerprint_of
from opsin.data.fill_cache import cache_key, look_up
from opsin.data.pixel_values import encode_png
from opsin.data.run_images import pair_up, read_images, recipe_of_run
from opsin.data.sources.contents import take
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.dataset_search import key_of
from opsin.studio.errors import NotThere


class NotDecoded(NotThere):
    """Images not decoded yet; their dataset's page decodes them."""


@dataclass(frozen=True, eq=False)
class DecodedDataset:
    """The decoded images of a dataset or a run, by their rows."""

    id: str
    decoded: Decoded
    key: str
    route: str = "images"
    has_val: bool = False  # whether a run kept a part of the images for validation

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return self.decoded.classes

    @cached_property
    def version(self) -> str:
        """It differs for other images."""
        content = hashlib.blake2s(repr(self.decoded.images.shape).encode(), digest_size=6)
        content.update(np.ascontiguousarray(self.decoded.digests).data)
        return content.hexdigest()

    def __len__(self) -> int:
        return len(self.decoded.labels)

    def png(self, row: int) -> bytes:
        """An image as a PNG file, at the training size."""
        if not 0 <= row < len(self):
            raise NotThere(f"There is no photograph {row} of {len(self):,}", "Go back a page.")
        return encode_png(self.decoded.images[row], compress_level=1)

    def digest(self, row: int) -> str:
        """An image's key in a table of corrections: 32 hexadecimal digits."""
        return digest_names(self.decoded.digests[[row]])[0]

    def address(self, row: int) -> str:
        """An image's URL, which differs for each version."""
        return f"/{self.route}/{self.id}/{row}?v={self.version}"


def key_of_images(dataset: LibraryDataset) -> str:
    """The key of a dataset's decoded images."""
    return cache_key(key_of(dataset.recipe(), dataset.title), dataset.recipe())


def open_set(dataset: LibraryDataset) -> DecodedDataset:
    """Open the decoded images of a dataset, without its corrections."""
    key = key_of_images(dataset)
    decoded = look_up(key, dataset.recipe())
    if decoded is None:
        raise _unread(dataset.title)
    return DecodedDataset(dataset.id, decoded, key)


def open_run(run_id: str, directory: RunDirectory) -> DecodedDataset:
    """Open the images of a run as they were in training, in its order.

    Others may be there now, and some may have been renamed or moved to other classes.
    """
    recipe, record = recipe_of_run(directory), directory.read(DatasetRecord)
    found_key = key_of(recipe)
    # Its size may have been left to the images when they were decoded.
    for size, channels in itertools.product((None, recipe.size), (None, recipe.channels)):
        read = recipe.model_copy(update={"size": size, "channels": channels})
        key = cache_key(found_key, read)
        decoded = look_up(key, read)
        if decoded is not None and list(decoded.images.shape[1:]) == record.shape:
            break
    else:
        raise _unread(recipe.source)
    images, digests = read_images(directory), digest_names(decoded.digests)
    then = [(image.digest, image.name) for image in images]
    now = list(zip(digests, decoded.names, strict=True))
    pairs = sorted(pair_up(then, now, (lambda one: one, lambda one: one[0])))
    number = {name: label for label, name in enumerate(record.classes)}
    kept = replace(
        take(decoded, np.array([other for _, other in pairs], np.int64)),
        classes=tuple(record.classes),
        labels=np.array([number.get(images[one].label, 0) for one, _ in pairs], np.int64),
    )
    if fingerprint_of(kept) != record.fingerprint:
        raise NotThere(
            f"The photographs of {recipe.source} have changed since the training",
            "Put them back, or train again.",
        )
    has_val = len(directory.load_arrays(directory.split).get("val", ())) > 0
    return DecodedDataset(run_id, kept, key, "run-images", has_val)


def _unread(title: str) -> NotDecoded:
    return NotDecoded(
        f"The photographs of {title} were not read yet", "Open its page Photos, which reads them."
    )
