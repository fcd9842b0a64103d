"""Every image of a source, decoded once into ``<cache>/decoded/<key>``, complete or not.

``images-<bits>.npy`` holds the pixels, ``rows-<bits>.npy`` facts about each row; a row is marked as
done once its pixels are on the disk. ``about.json`` is written last, and an empty file named by the
preparation, by which other sets find these pixels. Unreadable images are never done, and are tried
again where the work was interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import filelock
import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.format import counted
from opsin.core.metadata import Bits, Preparation
from opsin.core.platform import sync
from opsin.core.recipe import DataRecipe
from opsin.core.storage import exclusive, storage_errors
from opsin.data import cache, formats
from opsin.data.corrections import Decoded
from opsin.data.image_engine import ImageSteps, answer_images
from opsin.data.image_stream import ListedImage
from opsin.data.images import PreparedImage, content_of, prepare, read_header
from opsin.data.lazy_images import THREADS
from opsin.data.pixel_values import bits_needed, brighter_than, to_bytes
from opsin.data.sources.contents import LabelledImages, LocatedSource, read_facts, take, write_facts
from opsin.data.split import TEST

#: Side that larger images, and collections of several sizes, are brought to.
DEFAULT_SIZE = 64
# Images looked at for the size; smaller ones than the latter are enlarged.
_PROBES, _SMALLEST = 200, 4
# Images per chunk, and their bytes at most: memory use does not depend on the number of images.
_ROWS, _CHUNK = 32, 1 << 20
# Seconds between saves: the most work that a killed process loses.
_SAVED_EVERY: Final = 2.0
_ROW: Final = np.dtype(
    [("done", "?"), ("depth", "u1"), ("range", "u1", (2,)), ("size", "i4", (2,)),
     ("digest", "u1", (32,)), ("source_digest", "u1", (32,))]
)  # fmt: skip

#: A prepared image, with the SHA-256 of the original.
ReadImage = tuple[PreparedImage, NDArray[np.uint8]]
#: Reads images, here or on other machines, in their order, or says why one cannot be read.
AnswerAll = Callable[
    [ImageSteps[ReadImage, ReadImage], Iterable[ListedImage]],
    Generator[tuple[ListedImage, ReadImage | ImageError]],
]


def cache_key(found_key: str, recipe: DataRecipe) -> str:
    """Return the cache key of a source's images under a recipe's preparation."""
    return cache.index_key(found_key, recipe.classes, recipe.size, recipe.channels, recipe.resize)


def _folder_of(key: str, bits: Bits | None = None) -> Path:
    name = key if bits is None else cache.index_key(key, bits)
    return cache.cache_root() / "decoded" / name


def look_up(key: str, recipe: DataRecipe) -> Decoded | None:
    """Return cached images in the recipe's bits, or in any if it names none."""
    for folder in dict.fromkeys((_folder_of(key), _folder_of(key, recipe.bits))):
        try:
            decoded = _read_set(folder)
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError):
            continue
        if decoded and (recipe.bits in (None, decoded.bits) or not decoded.depths):
            return decoded
    return None


def _read_set(folder: Path) -> Decoded | None:
    """Return the images of a folder; ``None``, or an error, if any is missing."""
    columns = read_facts(folder)
    bits, depths = columns.pop("assumed"), columns.pop("depths")
    unreadable = [(name, reason) for name, reason in columns.pop("unreadable")]
    # A HEIC reader may have been installed since.
    if any(why == formats.NEEDS_HEIF for _, why in unreadable) and formats.heif_reader():
        return None
    rows = np.load(folder / f"rows-{bits}.npy", allow_pickle=False)
    images = np.load(folder / f"images-{bits}.npy", mmap_mode="r", allow_pickle=False)
    of_columns = (len(columns[name]) for name in ("labels", "source_parts", "names"))
    lengths = {len(images), len(rows), *of_columns}
    if rows.dtype != _ROW or len(lengths) > 1:
        return None
    for name in ("digest", "source_digest", "size", "range"):
        columns[f"{name}s"] = np.ascontiguousarray(rows[name])
    decoded = Decoded(
        **columns,
        images=images,
        rows=np.arange(len(rows)),
        unreadable=unreadable,
        bits=bits if depths else None,
        depths={int(depth): count for depth, count in depths.items()},
    )
    good = np.flatnonzero(rows["done"])
    whole = len(good) == len(rows)
    return decoded if whole else replace(take(decoded, good), rows=np.arange(len(good)))


def read_located(
    source: LocatedSource,
    recipe: DataRecipe,
    watcher: Watcher,
    *,
    for_training: bool,
    answer_all: AnswerAll = answer_images,
) -> Decoded:
    """Decode a source's images, or take them from the cache, without splitting them."""
    key = cache_key(source.key, recipe)
    decoded = look_up(key, recipe)
    if decoded is None:
        contents = source.open().keep(recipe.classes)
        if for_training:
            contents.check()
        elif not len(contents):
            raise SourceError(f"{recipe.source} holds no images of these classes")
        decoded = _decode(contents, recipe, key, watcher, answer_all)
    bad, total = len(decoded.unreadable), len(decoded.labels) + len(decoded.unreadable)
    first = ": ".join(decoded.unreadable[0]) if bad else ""
    if bad == total:
        raise SourceError(f"None of the {bad:,} images can be read ({first})")
    if bad > recipe.max_unreadable * total:
        raise SourceError(
            f"{bad:,} of {total:,} files are unreadable ({first}); at most "
            f"{recipe.max_unreadable:.0%} may be",
            "Mend or remove them, or allow more with --max-unreadable.",
        )
    clipped = sum(count for depth, count in decoded.depths.items() if depth > (decoded.bits or 16))
    if decoded.bits is not None and clipped:
        watcher.note(f"{counted(clipped, 'image')}: {brighter_than(decoded.bits)}")
    return decoded if source.left_out is None else replace(decoded, left_out=source.left_out)


def read_by_default(
    source: LocatedSource, recipe: DataRecipe, decoded: Decoded, watcher: Watcher
) -> Decoded:
    """Return the same images, in the same order, under the default preparation."""
    plain = {"size": None, "channels": None, "resize": "fit", "bits": None}
    default = recipe.model_copy(update=plain)
    if default == recipe:
        return decoded
    as_asked = (*decoded.images.shape[1:], recipe.resize)
    own_bits = recipe.bits is None or not decoded.depths
    if own_bits and look_up(cache_key(source.key, default), default) is None:
        usual = choose_preparation(source.open().keep(recipe.classes), default)
        if (*usual.shape, usual.resize) == as_asked:
            return decoded
    other = read_located(source, default, watcher, for_training=False)
    if (*other.images.shape[1:], "fit", other.bits) == (*as_asked, decoded.bits):
        return decoded

    def keys(images: Decoded) -> Iterator[tuple[str, bytes]]:
        return zip(images.names, map(bytes, images.source_digests), strict=True)

    row_of = {key: row for row, key in enumerate(keys(other))}
    rows = [row_of.get(key, -1) for key in keys(decoded)]
    return decoded if -1 in rows else take(other, np.array(rows, np.int64))


def _decode(
    contents: LabelledImages,
    recipe: DataRecipe,
    key: str,
    watcher: Watcher,
    answer_all: AnswerAll,
) -> Decoded:
    preparation, folder = choose_preparation(contents, recipe), _folder_of(key, recipe.bits)
    waiting = "another Opsin is reading the same images; waiting for it to finish"
    for lock in folder.parent.glob("*.lock"):  # unfinished sets go after a week
        old = lock.with_suffix("")
        with contextlib.suppress(OSError, filelock.Timeout):
            newest = max(file.stat().st_mtime for file in (lock, *old.glob("*")))
            if newest < time.time() - 7 * 86_400 and not (old / cache.ABOUT).exists():
                with filelock.FileLock(lock, timeout=0):
                    shutil.rmtree(old)
    elsewhere = "set OPSIN_CACHE to another folder"
    with (
        storage_errors(folder, elsewhere),
        exclusive(folder.with_suffix(".lock"), lambda: watcher.note(waiting)),
    ):
        # Another process may have done the work meanwhile.
        decoded = look_up(key, recipe)
        if decoded is None:
            if (folder / cache.ABOUT).exists():  # damaged since it was made
                shutil.rmtree(folder)
            store = _fill(folder, contents, preparation, watcher, answer_all)
            deepest = int(store.rows["depth"].max())
            bits = bits_needed((1 << deepest) - 1)
            if recipe.bits is None and deepest and store.bits != bits:
                first, preparation = store.bits, preparation.model_copy(update={"bits": bits})
                store = _fill(folder, contents, preparation, watcher, answer_all)
                for file in folder.glob(f"*-{first}.*"):
                    file.unlink()
            depths, counts = np.unique(store.rows["depth"], return_counts=True)
            reasons = sorted(store.reasons.items())
            write_facts(
                folder,
                contents,
                arrays={},
                assumed=store.bits,
                depths={str(d): int(n) for d, n in zip(depths, counts, strict=True) if d},
                unreadable=[(str(contents.names[row]), why) for row, why in reasons],
            )
            (folder / _mark(preparation)).touch()
            decoded = look_up(key, recipe)
    if decoded is None:
        problem = f"The cache at {cache.cache_root()} does not keep what is written there"
        raise StorageError(problem, f"{elsewhere.capitalize()}.")
    return decoded


def _mark(preparation: Preparation) -> str:
    return cache.index_key(preparation.model_dump_json())[:32]


class _OtherSets:
    """Whole sets of the same preparation, whose images need not be decoded again."""

    def __init__(self, preparation: Preparation) -> None:
        self._sets, self._shape = [], preparation.shape
        for mark in _folder_of("").glob(f"*/{_mark(preparation)}"):
            names = (f"{name}-{preparation.bits}.npy" for name in ("rows", "images"))
            rows, images = map(mark.with_name, names)
            with contextlib.suppress(OSError, ValueError, EOFError):
                known = np.load(rows, mmap_mode="r")
                order = np.argsort(keys := cache.as_keys(known["source_digest"]))
                self._sets.append((images, known, order, keys[order]))

    def find(self, digest: NDArray[np.uint8]) -> PreparedImage | None:
        """Return an image by the SHA-256 of its file."""
        (key,) = cache.as_keys(digest[None])
        for file, rows, order, keys in self._sets:
            place = int(np.searchsorted(keys, key))
            if place < len(keys) and keys[place] == key and rows["done"][row := order[place]]:
                # Not by np.load: Python 3.11 cannot parse a header in two threads at once.
                with contextlib.suppress(OSError, ValueError), file.open("rb") as stream:
                    size = math.prod(self._shape)
                    stream.seek((int(row) - len(keys)) * size, os.SEEK_END)
                    pixels = np.fromfile(stream, np.uint8, size).reshape(self._shape)
                    # The set may be damaged, or removed and being made again.
                    if not np.array_equal(cache.digest_rows(pixels[None])[0], rows["digest"][row]):
                        continue
                    facts = (*rows["size"][row], rows["depth"][row])
                    return PreparedImage("", pixels, (), *map(int, facts))
        return None


class _Store:
    """A set that is being decoded; an earlier process's rows are reused if they fit."""

    def __init__(self, folder: Path, count: int, shape: tuple[int, int, int], bits: Bits) -> None:
        self.count, self.shape, self.bits = count, shape, bits
        #: Why images cannot be read, by their rows.
        self.reasons: dict[int, str] = {}
        self._unsaved: list[tuple[slice, NDArray[np.void]]] = []
        files = {name: folder / f"{name}-{bits}.npy" for name in ("rows", "images")}
        arrays = {"rows": (_ROW, (count,)), "images": (np.dtype(np.uint8), (count, *shape))}
        self._images = files["images"]
        fits = False
        with contextlib.suppress(OSError, ValueError, EOFError):  # "r+" would fill up a cut file
            fits = all(  # and none stays open: on Windows it could not be written
                (there.dtype, there.shape) == arrays[name]
                for name, file in files.items()
                for there in [np.load(file, mmap_mode="r")]
            )
        if not fits:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for name, file in files.items():
                    cache.new_array(file, *arrays[name])
            except OSError:
                # Free the space that was allocated already.
                shutil.rmtree(folder, ignore_errors=True)
                raise
        self.rows = np.load(files["rows"], mmap_mode="r+")

    def pending(self, step: int) -> list[range]:
        """Return the missing rows, in pieces of at most ``step``."""
        left = np.flatnonzero(~self.rows["done"])
        return [
            range(start, min(start + step, int(run[-1]) + 1))
            for run in np.split(left, np.flatnonzero(np.diff(left) > 1) + 1)
            if len(run)
            for start in range(int(run[0]), int(run[-1]) + 1, step)
        ]

    def put(self, rows: range, images: NDArray[np.uint8], known: NDArray[np.void]) -> None:
        """Add decoded images; those that are done count as such after the next `save`."""
        flat, places = images.reshape(len(images), -1), slice(rows.start, rows.stop)
        known["range"] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
        known["digest"] = cache.digest_rows(images)
        # A map of its own: one for all would count as memory of this process.
        np.load(self._images, mmap_mode="r+")[places] = images
        self._unsaved.append((places, known))

    def save(self) -> None:
        """Write all pixels to the disk, and only then mark their rows as done."""
        if self._unsaved:
            sync(self._images)
            for places, known in self._unsaved:
                self.rows[places] = known
            self.rows.flush()
            self._unsaved.clear()


def rows_at_once(shape: Sequence[int]) -> int:
    """Return the number of images of shape ``H, W, C`` per chunk."""
    return max(1, min(_ROWS, _CHUNK // math.prod(shape)))


def _fill(
    folder: Path,
    contents: LabelledImages,
    preparation: Preparation,
    watcher: Watcher,
    answer_all: AnswerAll,
) -> _Store:
    """Decode the missing rows; finished ones are saved whatever happens."""
    store = _Store(folder, len(contents), preparation.shape, preparation.bits or 16)
    step, images = rows_at_once(store.shape), contents.images
    pending = store.pending(step)
    left = sum(map(len, pending))
    if left < store.count:
        before = f"{store.count - left:,} of {store.count:,} images were read before"
        watcher.note(f"{before}; going on from there")
    # Arrays of the right size take no time.
    ready = images if isinstance(images, np.ndarray) and images.shape[1:] == store.shape else None
    others = _OtherSets(preparation) if answer_all is answer_images else None
    read = functools.partial(read_pixels, preparation=preparation, others=others)
    steps = ImageSteps[ReadImage, ReadImage](read, list, math.prod(store.shape), step, THREADS)
    listed = (ListedImage.at(row, contents.names, images) for rows in pending for row in rows)
    shown, saved = watcher if ready is None else SILENT, time.monotonic()
    try:
        with contextlib.closing(answer_all(steps, listed)) as answers:
            for rows in watched(shown, "Read", left, pending, size=len):
                if ready is None:
                    _put_answers(store, rows, itertools.islice(answers, len(rows)))
                else:
                    same, known = ready[rows.start : rows.stop], np.zeros(len(rows), _ROW)
                    known["done"], known["size"] = True, store.shape[:2]
                    known["source_digest"] = cache.digest_rows(same)
                    if same.dtype != np.uint8:
                        known["depth"] = [bits_needed(int(m)) for m in same.max(axis=(1, 2, 3))]
                    pixels, _ = to_bytes(same, contents.source, bits=preparation.bits)
                    store.put(rows, pixels, known)
                if time.monotonic() - saved > _SAVED_EVERY:
                    store.save()
                    saved = time.monotonic()
    except KeyboardInterrupt:
        store.save()
        watcher.note(
            f"stopped: {int(store.rows['done'].sum()):,} of {store.count:,} images are read and "
            "kept; the same command goes on from there"
        )
        raise
    finally:
        store.save()
    return store


def _put_answers(
    store: _Store, rows: range, answers: Iterable[tuple[ListedImage, ReadImage | ImageError]]
) -> None:
    images, known = np.zeros((len(rows), *store.shape), np.uint8), np.zeros(len(rows), _ROW)
    for index, (item, answer) in enumerate(answers):
        if isinstance(answer, ImageError):
            store.reasons[rows[index]] = answer.message.removeprefix(f"{item.name}: ")
            continue
        ready, known["source_digest"][index] = answer
        images[index], known["depth"][index] = ready.pixels, ready.depth
        known["size"][index], known["done"][index] = (ready.height, ready.width), True
    store.put(rows, images, known)


def read_pixels(
    item: ListedImage, preparation: Preparation, others: _OtherSets | None = None
) -> ReadImage:
    """Prepare an image, with the SHA-256 of its file or array."""
    image = item.image
    if isinstance(image, np.ndarray):
        digest = cache.digest_rows(image[None])[0]
    else:
        image = content_of(image, item.name)
        digest = np.frombuffer(hashlib.sha256(image).digest(), np.uint8)
        if others and (known := others.find(digest)):
            return known, digest
    return prepare(image, preparation, item.name, match=False), digest


def choose_preparation(contents: LabelledImages, recipe: DataRecipe) -> Preparation:
    """Choose size and channels by the recipe, or by a sample of the images."""
    sizes: set[tuple[int, int]] = set()
    colour, images = False, contents.images
    if isinstance(images, np.ndarray):
        sizes.add(images.shape[1:3])
        colour = images.shape[3] == 3
    elif recipe.size is None or recipe.channels is None:
        # Test images must not influence it.
        rows = np.flatnonzero(contents.source_parts != TEST)
        rows = rows if rows.size else np.arange(len(contents))
        for row in rows[:: max(1, len(rows) // _PROBES)]:
            with contextlib.suppress(ImageError):
                height, width, has_colour = read_header(images[row])
                sizes.add((height, width))
                colour = colour or has_colour
    size = next(iter(sizes), (DEFAULT_SIZE, DEFAULT_SIZE))
    if len(sizes) > 1 or max(size) > DEFAULT_SIZE:
        size = (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = recipe.size or (max(_SMALLEST, size[0]), max(_SMALLEST, size[1]))
    channels = recipe.channels or (3 if colour else 1)
    return Preparation(
        height=height, width=width, channels=channels, resize=recipe.resize, bits=recipe.bits or 16
    )
