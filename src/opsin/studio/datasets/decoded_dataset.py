"""The decoded images of a dataset, or of a run as they were in training."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import numpy as np

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.recipe import DataRecipe
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


class DecodedDataset:
    """The decoded images of a dataset or a run, by their rows."""

    def __init__(self, id_: str, decoded: Decoded, key: str, recipe: DataRecipe) -> None:
        self.id, self.decoded, self.key, self.recipe = id_, decoded, key, recipe
        #: Whether a run kept a part of the images for validation.
        self.has_val = False
        #: Names of the classes, in the order of their labels.
        self.classes = list(decoded.classes)
        self.route = "images"
        content = hashlib.blake2s(repr(decoded.images.shape).encode(), digest_size=6)
        content.update(np.ascontiguousarray(decoded.digests).data)
        self.version = content.hexdigest()

    def __len__(self) -> int:
        return len(self.decoded.labels)

    def png(self, row: int) -> bytes:
        """An image as a PNG file, at the training size."""
        if not 0 <= row < len(self):
            raise NotThere(f"There is no photograph {row} of {len(self):,}", "Go back a page.")
        return encode_png(self.decoded.images[row], compress_level=1)

    def label(self, row: int) -> int:
        """An image's class in the source, or as the run was trained."""
        return int(self.decoded.labels[row])

    def name(self, row: int) -> str:
        """An image's name: its path below the source, or ``train/123``."""
        return self.decoded.names[row]

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
    key, recipe = key_of_images(dataset), dataset.recipe()
    decoded = look_up(key, recipe)
    if decoded is None:
        raise _unread(dataset.title)
    return DecodedDataset(dataset.id, decoded, key, recipe)


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
    opened = DecodedDataset(run_id, kept, key, read)
    opened.route = "run-images"
    opened.has_val = len(directory.load_arrays(directory.split).get("val", ())) > 0
    return opened


def _unread(title: str) -> NotDecoded:
    return NotDecoded(
        f"The photographs of {title} were not read yet", "Open its page Photos, which reads them."
    )
