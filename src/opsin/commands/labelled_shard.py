"""One shard of images with labels: decoded, looked at, and written into a file of its own."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from opsin.commands.labelled_rows import LabelledRows, no_pixels, write_labelled
from opsin.commands.out_file import OutFile
from opsin.commands.shard_manifest import ShardManifest, ShardTask
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.metadata import Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import check_writable, exclusive, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.cache import Decoded
from opsin.data.decode import Look, choose_preparation, fill
from opsin.data.decode_checkpoint import DecodeCheckpoint
from opsin.data.image_subset import ImageSubset
from opsin.data.shard import NamesDigest, ShardInputs
from opsin.data.sources.contents import LabelledImages
from opsin.stores.store_address import StoreAddress

# Of a recipe: where images lie, which may be another place on each machine.
_PLACES: Final = ("sources", "test", "labels")


@dataclass(frozen=True)
class MadeShard:
    """A shard of an evaluation or an audit.

    Args:
        out: Its file or object; `opsin.merge` makes the whole of all.
        shard: Which one: ``2/3``.
        images: Images that could be read.
        unreadable: Files that could not.
        seconds: How long it took.
    """

    out: Path | StoreAddress
    shard: str
    images: int
    unreadable: int
    seconds: float

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        return asdict(self) | {"out": str(self.out)}


def recipe_of(manifest: ShardManifest) -> DataRecipe:
    """Return how the images of a shard are read; their places are those of its machine.

    Raises:
        RecipeError: The manifest does not say it.
    """
    said = {**manifest.options, **manifest.summary}
    try:
        return DataRecipe(**{name: said[name] for name in DataRecipe.model_fields})
    except (KeyError, ValueError) as error:
        raise RecipeError(
            "the manifest of a shard", f"one says {error} in no known way", "Make the shards again."
        ) from error


@dataclass(frozen=True)
class LabelledShard:
    """One shard of a source that has labels, to be made.

    Args:
        verb: By which command.
        recipe: How images are read.
        contents: All images of the source.
        place: Where the shard goes, and which it is.
        watcher: Receives the progress of the work.
    """

    verb: Literal["evaluate", "audit"]
    recipe: DataRecipe
    contents: LabelledImages
    place: OutFile
    watcher: Watcher

    @property
    def file(self) -> Path:
        """The shard's file."""
        return self.place.path

    def preparation(self) -> Preparation:
        """Return how all images of the source become pixels."""
        return choose_preparation(self.contents, self.recipe)

    def make(
        self,
        look: Look,
        width: int,
        *,
        pixels: bool,
        made_with: JsonObject,
        where: JsonObject,
    ) -> MadeShard:
        """Write the shard's file and manifest, where it is not finished.

        Args:
            look: Finds out what is kept of some of its images, by their rows in the source.
            width: How many numbers that are, of an image.
            pixels: Whether the images themselves are kept, too.
            made_with: What rows depend on beside the images and how they are read.
            where: What `opsin.merge` must know of this machine.

        Raises:
            RecipeError: It was made with other options.
            StorageError: The disk refuses a write.
        """
        began = time.monotonic()
        options = self.recipe.model_dump(mode="json")
        places = {name: options.pop(name) for name in _PLACES}
        options |= made_with | {"the classes": list(self.contents.classes)}
        task = ShardTask(self.verb, self._inputs(), options, self.file)

        def write() -> ShardManifest:
            rows = self._decoded(task, look, width, pixels=pixels)
            write_labelled(self.file, rows)
            said = {"unreadable": len(rows.decoded.unreadable), **places, **where}
            return task.finish(self.file, len(rows.found), said)

        with self.place.errors():
            done = self._finished(task, write)
        return MadeShard(
            self.place.shown,
            str(self.place.shard),
            done.rows,
            int(done.summary["unreadable"]),
            time.monotonic() - began,
        )

    def _finished(self, task: ShardTask, write: Callable[[], ShardManifest]) -> ShardManifest:
        """Return the manifest, once the shard is where it belongs; write it where it is not."""
        claim = self.place.claim()
        if (before := task.finished(claim.finished)) is not None:
            self.watcher.note(f"{self.place.shown} is finished")
            self.place.settle(claim)
            return before
        check_writable(self.file)
        with self._alone():
            done = task.finished() or write()
            self._forget()
        self.place.publish(claim)
        return done

    def _inputs(self) -> ShardInputs:
        contents, names = self.contents, NamesDigest()
        groups = contents.groups or [""] * len(contents)
        for row, name in enumerate(contents.names):
            label = contents.classes[contents.labels[row]]
            names.add(f"{name}\0{label}\0{contents.given[row]}\0{groups[row]}")
        if self.place.shard is None:
            raise TypeError("the whole is no shard")
        return ShardInputs(self.place.shard, names.count, names.hex)

    @contextlib.contextmanager
    def _alone(self) -> Any:
        """Let one process at a time make the shard."""
        lock = self.file.with_name(f".{self.file.name}.lock")

        def wait() -> None:
            shown = self.place.shown
            self.watcher.note(f"another Opsin is making {shown}; waiting for it to finish")

        with storage_errors(self.file), exclusive(lock, wait):
            yield
        with contextlib.suppress(OSError):
            lock.unlink()

    def _decoded(self, task: ShardTask, look: Look, width: int, *, pixels: bool) -> LabelledRows:
        """Decode the shard's images, from where an earlier process was stopped."""
        like, rows = self.preparation(), task.inputs.rows
        part = self.contents.rows(np.arange(rows.start, rows.stop))
        shape = (like.height, like.width, like.channels)
        if not len(part):
            return _nothing(part, shape, width, pixels=pixels)
        made = json.dumps([task.inputs.fingerprint, task.options], sort_keys=True)
        key = hashlib.sha256(made.encode()).hexdigest()[:16]
        folder = self.file.with_name(f".{self.file.name}.{key}.rows")
        self._forget(folder)
        store = DecodeCheckpoint(folder, len(part), shape, stored=pixels, found=width)

        def looked(places: range, images: Any) -> Any:
            return look(range(rows.start + places.start, rows.start + places.stop), images)

        try:
            fill(store, part, like, self.watcher, look=looked)
        finally:
            store.close()
        return _rows_in(folder, store.reasons, part, shape, pixels=pixels)

    def _forget(self, but: Path | None = None) -> None:
        """Remove what was left of the shard when it was made, perhaps with other options."""
        for folder in self.file.parent.glob(f".{glob.escape(self.file.name)}.*.rows"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)


def _rows_in(
    folder: Path,
    reasons: dict[int, str],
    part: LabelledImages,
    shape: tuple[int, int, int],
    *,
    pixels: bool,
) -> LabelledRows:
    """Return the images of a shard that can be read."""

    def load(name: str) -> Any:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array if name == "images" else array[good]

    good = np.setdiff1d(np.arange(len(part)), list(reasons))
    kept = part.rows(good)
    decoded = Decoded(
        images=ImageSubset(load("images"), good) if pixels else no_pixels(len(good), shape),
        labels=kept.labels,
        given=kept.given,
        digests=load("digests"),
        source_digests=load("source_digests"),
        sizes=load("sizes"),
        ranges=load("ranges"),
        names=list(kept.names),
        classes=list(kept.classes),
        groups=list(kept.groups),
        mirrored=kept.mirrored,
        unreadable=[(part.names[row], reasons[row]) for row in sorted(reasons)],
    )
    return LabelledRows(decoded, load("found"), pixels=pixels)


def _nothing(
    part: LabelledImages, shape: tuple[int, int, int], width: int, *, pixels: bool
) -> LabelledRows:
    """Return the rows of a shard without images."""
    decoded = Decoded(
        images=no_pixels(0, shape),
        labels=part.labels,
        given=part.given,
        digests=np.zeros((0, 32), np.uint8),
        source_digests=np.zeros((0, 32), np.uint8),
        sizes=np.zeros((0, 2), np.int32),
        ranges=np.zeros((0, 2), np.uint8),
        names=[],
        classes=list(part.classes),
        groups=[],
        mirrored=part.mirrored,
        unreadable=[],
    )
    return LabelledRows(decoded, np.zeros((0, width), np.float32), pixels=pixels)
