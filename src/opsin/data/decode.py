"""Every image of a source, decoded once into the cache."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import itertools
import math
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, OpsinError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, file_size
from opsin.core.metadata import Bits, Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import scratch_directory, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data import cache, decode_checkpoint, sources
from opsin.data.array_image import to_bytes
from opsin.data.decode_checkpoint import Chunk, DecodeCheckpoint
from opsin.data.deep_pixels import bits_needed, brighter_than
from opsin.data.image_subset import take
from opsin.data.images import content_of, read_header, read_sized
from opsin.data.lazy_images import THREADS, Images, LazyImages
from opsin.data.listed_image import ListedImage
from opsin.data.read_ahead import read_ahead
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.split import TEST
from opsin.stores.store_address import StoredObject

#: What else is found out of some rows, from their prepared pixels ``uint8[M, H, W, C]``: numbers
#: ``float32[M, F]``.
Look = Callable[[range, NDArray[np.uint8]], NDArray[np.float32]]

#: Side that larger images, and collections of several sizes, are brought to.
DEFAULT_SIZE = 64
_PROBES = 200
# Smaller images are enlarged: a network needs something to look at.
_SMALLEST = 4

# Images that a thread decodes before it hands them over, and bytes of pixels that may wait
# for that: the memory that reading takes is the same for ten thousand images and ten million.
_ROWS: Final = 32
_CHUNK: Final = 1 << 20
_WAITING: Final = 32 << 20
_ELSEWHERE: Final = "set OPSIN_CACHE to another folder"
# Seconds of work that a killed process may lose.
_SAVED_EVERY: Final = 2.0


class ImagePixels(NamedTuple):
    """An image, prepared."""

    pixels: NDArray[np.uint8]
    source_digest: NDArray[np.uint8]
    size: tuple[int, int]
    depth: int = 0


#: Prepares so many images on other machines, in their order, or says why one cannot be read.
RemoteReader = Callable[
    [Preparation, Iterator[ListedImage], int],
    Iterator[tuple[ListedImage, ImagePixels | ImageError]],
]

# What decodes the images that are left to do.
_Fill = Callable[[DecodeCheckpoint, LabelledImages, Preparation, Watcher], None]


def read(
    recipe: DataRecipe, *, watcher: Watcher = SILENT, for_training: bool = True
) -> cache.Decoded:
    """Decode a source's images, or find them in the cache, without splitting them."""
    found = sources.find_all(recipe, watcher=watcher)
    return read_found(found, recipe, watcher, for_training=for_training)


def read_found(
    found: LocatedSource,
    recipe: DataRecipe,
    watcher: Watcher,
    *,
    for_training: bool,
    remote: RemoteReader | None = None,
) -> cache.Decoded:
    """Do the work of `read` for a source that was found already."""
    key = cache_key(found.key, recipe)
    decoded = look_up(key, recipe)
    if decoded is None:
        contents = open_found(found, recipe, for_training=for_training)
        decoded = _decoded(contents, recipe, key, watcher, remote)
    check_readable(decoded, recipe)
    clipped = sum(count for depth, count in decoded.depths.items() if depth > (decoded.bits or 16))
    if decoded.bits is not None and clipped:
        watcher.note(f"{counted(clipped, 'image')}: {brighter_than(decoded.bits)}")
    return decoded if found.left_out is None else replace(decoded, left_out=found.left_out)


def cache_key(found_key: str, recipe: DataRecipe) -> str:
    """Return the key of a source's images, prepared as a recipe asks, for `look_up`."""
    return cache.index_key(found_key, recipe.classes, recipe.size, recipe.channels, recipe.resize)


def look_up(
    key: str, recipe: DataRecipe, on_the_fly: cache.OnTheFly | None = None
) -> cache.Decoded | None:
    """Do as `cache.look_up`, for images in the bits that a recipe asks for, or in their own."""
    for each in dict.fromkeys((key, _key_of_bits(key, recipe.bits))):
        decoded = cache.look_up(each, on_the_fly)
        if decoded is not None and (
            recipe.bits is None or not decoded.depths or decoded.bits == recipe.bits
        ):
            return decoded
    return None


def _key_of_bits(key: str, bits: Bits | None) -> str:
    return key if bits is None else cache.index_key(key, bits)


def open_found(found: LocatedSource, recipe: DataRecipe, *, for_training: bool) -> LabelledImages:
    """List the images of a source that was found already, those of the classes asked for."""
    contents = found.open()
    if recipe.classes:
        contents = contents.keep(recipe.classes)
    if for_training:
        contents.check()
    elif not len(contents):
        raise SourceError(
            "images", f"{recipe.source} holds none of these classes", "Check --classes."
        )
    return contents


def check_readable(decoded: cache.Decoded, recipe: DataRecipe) -> None:
    """Refuse a source with more unreadable files than its recipe allows."""
    if not len(decoded.labels):
        raise _none_readable(decoded.unreadable)
    unreadable, total = len(decoded.unreadable), len(decoded.labels) + len(decoded.unreadable)
    if unreadable > recipe.max_unreadable * total:
        name, reason = decoded.unreadable[0]
        raise SourceError(
            f"at most {recipe.max_unreadable:.0%} unreadable files",
            f"{unreadable:,} of {total:,} are ({name}: {reason})",
            "Mend or remove them, or allow more with --max-unreadable.",
        )


def _none_readable(unreadable: Sequence[tuple[str, str]]) -> SourceError:
    name, reason = unreadable[0]
    return SourceError(
        "images that can be read",
        f"none of the {len(unreadable):,} can ({name}: {reason})",
        "Check the files.",
    )


def read_by_default(
    found: LocatedSource, recipe: DataRecipe, decoded: cache.Decoded, watcher: Watcher
) -> cache.Decoded:
    """Return the same images as they are prepared by default."""
    asked = {"size": None, "channels": None, "resize": "fit", "bits": None}
    if all(getattr(recipe, name) == value for name, value in asked.items()):
        return decoded
    default = recipe.model_copy(update=asked)
    shape = decoded.images.shape[1:]
    own_bits = recipe.bits is None or not decoded.depths
    if own_bits and look_up(cache_key(found.key, default), default) is None:
        contents = found.open()
        like = choose_preparation(contents.keep(recipe.classes) if recipe.classes else contents,
                                   default)  # fmt: skip
        if (like.height, like.width, like.channels, like.resize) == (*shape, recipe.resize):
            return decoded
    plain = read_found(found, default, watcher, for_training=False)
    row_of = {key: row for row, key in enumerate(_names_and_digests(plain))}
    rows = [row_of.get(key, -1) for key in _names_and_digests(decoded)]
    same = (plain.images.shape[1:], "fit", plain.bits) == (shape, recipe.resize, decoded.bits)
    if -1 in rows or same:
        return decoded
    return take(plain, np.array(rows, np.int64))


def _names_and_digests(decoded: cache.Decoded) -> Iterator[tuple[str, bytes]]:
    for name, digest in zip(decoded.names, decoded.source_digests, strict=True):
        yield name, digest.tobytes()


def _decoded(
    contents: LabelledImages,
    recipe: DataRecipe,
    key: str,
    watcher: Watcher,
    remote: RemoteReader | None,
) -> cache.Decoded:
    """Decode a set into the cache or, where it is too large for the disk, all but its pixels."""
    preparation = choose_preparation(contents, recipe)
    needed = len(contents) * preparation.height * preparation.width * preparation.channels
    limit = _disk_limit(recipe, key)
    on_the_fly: cache.OnTheFly | None = None
    if needed > limit:
        key = cache.index_key(key, "on the fly")
        watcher.note(
            f"decoded, the images take {file_size(needed)}, and {file_size(limit)} are "
            "allowed on the disk: they are read on the fly, which is slower (--disk-limit allows "
            "more)"
        )

        def on_the_fly(rows: NDArray[np.int64], bits: Bits | None) -> Images:
            kept = contents.rows(rows)
            like = preparation.model_copy(update={"bits": bits})
            return LazyImages(kept.images, kept.names, like)

    decoded = look_up(key, recipe, on_the_fly) if on_the_fly else None
    if decoded is None:
        with (
            storage_errors(decode_checkpoint.folder_of(_key_of_bits(key, recipe.bits)), _ELSEWHERE),
            decode_checkpoint.alone(_key_of_bits(key, recipe.bits), watcher),
        ):
            # Another process may have done the work meanwhile.
            decoded = look_up(key, recipe, on_the_fly)
            if decoded is None:
                work: _Fill = fill
                if remote is not None and not isinstance(contents.images, np.ndarray):
                    work = functools.partial(_fill_from, remote)
                stored = on_the_fly is None
                _decode(contents, preparation, key, watcher, work, bits=recipe.bits, stored=stored)
                decoded = look_up(key, recipe, on_the_fly)
    if decoded is None:
        raise SourceError(
            f"the cache at {cache.cache_root()} to keep what is written there",
            "it did not",
            "Set OPSIN_CACHE to another folder.",
        )
    return decoded


def _disk_limit(recipe: DataRecipe, key: str) -> float:
    """Return the bytes that a decoded set may take on the disk."""
    if recipe.disk_limit is not None:
        return recipe.disk_limit * 1e9
    place = cache.cache_root()
    while not place.exists() and place != place.parent:
        place = place.parent
    with storage_errors(place, _ELSEWHERE):
        taken = decode_checkpoint.taken_by(_key_of_bits(key, recipe.bits))
        return (shutil.disk_usage(place).free + taken) / 2


def _decode(
    contents: LabelledImages,
    preparation: Preparation,
    key: str,
    watcher: Watcher,
    work: _Fill,
    *,
    bits: Bits | None,
    stored: bool,
) -> None:
    """Decode every image, pass over those that are damaged, and take the rest into the cache."""
    start = folder = decode_checkpoint.folder_of(_key_of_bits(key, bits))
    shape = (preparation.height, preparation.width, preparation.channels)

    def decoded_into(folder: Path) -> DecodeCheckpoint:
        store = DecodeCheckpoint(folder, len(contents), shape, stored=stored)
        try:
            work(store, contents, preparation, watcher)
        finally:
            store.close()
        return store

    store = decoded_into(folder)
    counts = Counter(np.load(folder / "depths.npy", allow_pickle=False).tolist())
    depths = {depth: counts[depth] for depth in sorted(counts) if depth}
    own = bits_needed((1 << max(depths, default=8)) - 1)
    if bits is None and depths and preparation.bits != own:
        preparation = preparation.model_copy(update={"bits": own})
        folder = start / "again"
        store = decoded_into(folder)
    if bits is not None and depths and bits != own:
        key = _key_of_bits(key, bits)
    lines = contents.lines
    unreadable = [
        (
            str(contents.names[row]),
            store.reasons[row] + (f" (line {lines[row]:,})" if lines is not None else ""),
        )
        for row in sorted(store.reasons)
    ]
    readable = np.ones(len(contents), bool)
    readable[list(store.reasons)] = False
    good = np.flatnonzero(readable)
    if not good.size:
        shutil.rmtree(start, ignore_errors=True)
        raise _none_readable(unreadable)
    kept = contents.rows(good) if unreadable else contents
    with scratch_directory(cache.cache_root() / "datasets") as scratch:
        for file in (folder / f"{name}.npy" for name in decode_checkpoint.KEPT):
            if file.exists():
                _take(file, scratch / file.name, good if unreadable else None)
        if not stored:
            np.save(scratch / "rows.npy", good, allow_pickle=False)
        np.save(scratch / "labels.npy", kept.labels, allow_pickle=False)
        np.save(scratch / "given.npy", kept.given, allow_pickle=False)
        about: JsonObject = {
            "classes": list(kept.classes),
            "names": list(kept.names),
            "groups": list(kept.groups),
            "mirrored": kept.mirrored,
            "repeated": kept.repeated,
            "resize": preparation.resize,
            "bits": preparation.bits if depths else None,
            "depths": {str(depth): count for depth, count in depths.items()},
        }
        cache.keep(key, scratch, about, unreadable, contents.source, left_out=contents.left_out)
    shutil.rmtree(start, ignore_errors=True)


def _take(file: Path, target: Path, rows: NDArray[np.int64] | None) -> None:
    """Take a file of an unfinished set, or some of its rows, and leave it where it is."""
    if rows is not None:
        cache.copy_rows(file, target, rows)
        return
    try:
        target.hardlink_to(file)
    except OSError:  # a file system without links
        file.replace(target)


def rows_at_once(shape: Sequence[int]) -> int:
    """Return how many images a thread works on at once: fewer of large ones."""
    return max(1, min(_ROWS, _CHUNK // math.prod(shape)))


def fill(
    store: DecodeCheckpoint,
    contents: LabelledImages,
    preparation: Preparation,
    watcher: Watcher,
    *,
    look: Look | None = None,
) -> None:
    """Decode the rows that are left to do, in threads, and keep what is done whatever happens."""
    size = preparation.height * preparation.width * preparation.channels
    step = rows_at_once((preparation.height, preparation.width, preparation.channels))
    pending, left = _left(store, step, watcher)
    shape = (preparation.height, preparation.width, preparation.channels)
    ready = isinstance(contents.images, np.ndarray) and contents.images.shape[1:] == shape
    told = SILENT if ready and look is None else watcher
    told.begin("Read", left, "images")
    stop = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def submit(rows: range) -> concurrent.futures.Future[Chunk | None]:
        return pool.submit(_chunk, contents, rows, preparation, stop, look)

    ahead = max(2 * THREADS, _WAITING // (step * size))
    following = iter(pending)
    queue = deque(submit(rows) for rows in itertools.islice(following, ahead))
    done, saved = 0, time.monotonic()
    try:
        while queue:
            done += _put(store, queue.popleft())
            queue.extend(submit(rows) for rows in itertools.islice(following, 1))
            told.advance(done)
            if time.monotonic() - saved > _SAVED_EVERY:
                store.save()
                saved = time.monotonic()
    except SourceError:  # of a store, which may give the rest another time
        store.save()
        raise
    except KeyboardInterrupt:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future in queue:
            done += _put(store, future)
        _save_stopped(store, watcher)
        raise
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    store.save()
    told.end()


def _left(store: DecodeCheckpoint, step: int, watcher: Watcher) -> tuple[list[range], int]:
    """Return the rows that are left to do, in pieces, and how many they are."""
    pending = store.pending(step)
    left, total = sum(map(len, pending)), len(store.done)
    if left < total:
        watcher.note(f"{total - left:,} of {total:,} images were read before; going on from there")
    return pending, left


def _save_stopped(store: DecodeCheckpoint, watcher: Watcher) -> None:
    store.save()
    watcher.note(
        f"stopped: {int(store.done.sum()):,} of {len(store.done):,} images are read and kept; the "
        "same command goes on from there"
    )


def _fill_from(
    remote: RemoteReader,
    store: DecodeCheckpoint,
    contents: LabelledImages,
    preparation: Preparation,
    watcher: Watcher,
) -> None:
    """Let other machines decode the rows that are left to do, and keep what is done."""
    pending, left = _left(store, _ROWS, watcher)
    watcher.begin("Read", left, "images")
    items = (ListedImage.of(contents, row) for rows in pending for row in rows)
    answers = remote(preparation, items, left)
    done, saved = 0, time.monotonic()
    try:
        for rows in pending:
            store.put(_chunk_of(rows, preparation, answers))
            done += len(rows)
            watcher.advance(done)
            if time.monotonic() - saved > _SAVED_EVERY:
                store.save()
                saved = time.monotonic()
    except KeyboardInterrupt:
        _save_stopped(store, watcher)
        raise
    except OpsinError:
        store.save()
        raise
    store.save()
    watcher.end()


def _chunk_of(
    rows: range,
    preparation: Preparation,
    answers: Iterator[tuple[ListedImage, ImagePixels | ImageError]],
) -> Chunk:
    """Return the next images that come from elsewhere as a chunk."""
    shape = (preparation.height, preparation.width, preparation.channels)
    images = np.zeros((len(rows), *shape), np.uint8)
    digests = np.zeros((len(rows), 32), np.uint8)
    sizes = np.zeros((len(rows), 2), np.int32)
    depths = np.zeros(len(rows), np.uint8)
    reasons: dict[int, str] = {}
    for place, (item, answer) in enumerate(itertools.islice(answers, len(rows))):
        if isinstance(answer, ImageError):
            reasons[rows[place]] = answer.received.removeprefix(f"{item.name}: ")
        else:
            images[place], digests[place], sizes[place], depths[place] = answer
    return Chunk.of(rows.start, images, sizes, reasons, digests, depths=depths)


def _put(store: DecodeCheckpoint, future: concurrent.futures.Future[Chunk | None]) -> int:
    """Hand a finished chunk over; return how many images it has, 0 where it was given up."""
    if future.cancelled():
        return 0
    chunk = future.result()
    if chunk is None:
        return 0
    store.put(chunk)
    return len(chunk.images)


def _chunk(
    contents: LabelledImages,
    rows: range,
    preparation: Preparation,
    stop: threading.Event,
    look: Look | None,
) -> Chunk | None:
    """Decode some images, and look at them; ``None`` where that was stopped."""
    chunk = _pixels(contents, rows, preparation, stop)
    if chunk is None or look is None:
        return chunk
    return replace(chunk, found=look(rows, chunk.images))


def _pixels(
    contents: LabelledImages, rows: range, preparation: Preparation, stop: threading.Event
) -> Chunk | None:
    sources = contents.images
    shape = (preparation.height, preparation.width, preparation.channels)
    if isinstance(sources, np.ndarray) and sources.shape[1:] == shape:
        same = sources[rows.start : rows.stop]
        sizes = np.full((len(rows), 2), shape[:2], np.int32)
        if same.dtype == np.uint8:
            return Chunk.of(rows.start, cast("NDArray[np.uint8]", same), sizes, {})
        largest = same.reshape(len(rows), -1).max(axis=1)
        deep = np.array([bits_needed(int(each)) for each in largest], np.uint8)
        pixels, _ = to_bytes(same, contents.source, bits=preparation.bits)
        return Chunk.of(rows.start, pixels, sizes, {}, cache.digest_rows(same), depths=deep)
    images = np.zeros((len(rows), *shape), np.uint8)
    digests = np.zeros((len(rows), 32), np.uint8)
    sizes = np.zeros((len(rows), 2), np.int32)
    depths = np.zeros(len(rows), np.uint8)
    reasons: dict[int, str] = {}
    listed = read_ahead(ListedImage.of(contents, row) for row in rows)
    with contextlib.closing(listed):
        for place, each in enumerate(listed):
            if stop.is_set():
                return None
            try:
                one = read_pixels(each, preparation)
                images[place], digests[place], sizes[place], depths[place] = one
            except ImageError as error:
                reasons[rows[place]] = error.received.removeprefix(f"{each.name}: ")
    return Chunk.of(rows.start, images, sizes, reasons, digests, depths=depths)


def read_pixels(item: ListedImage, preparation: Preparation) -> ImagePixels:
    """Prepare an image."""
    if item.problem:
        raise item.problem
    image = cast("str | Path | StoredObject | bytes | NDArray[np.uint8]", item.image)
    content, digest = content_and_digest(image, item.name)
    ready = read_sized(content, preparation, item.name)
    return ImagePixels(ready.pixels, digest, (ready.height, ready.width), ready.depth)


def content_and_digest(
    image: str | Path | StoredObject | bytes | NDArray[np.uint8], name: str
) -> tuple[bytes | NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a file's bytes, or an array, with their SHA-256, ``uint8[32]``."""
    if isinstance(image, np.ndarray):
        return image, cache.digest_rows(image[None])[0]
    content = content_of(image, name)
    return content, np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def choose_preparation(contents: LabelledImages, recipe: DataRecipe) -> Preparation:
    """Choose size and channels, by the recipe or by a look at some of the images."""
    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    if isinstance(contents.images, np.ndarray):
        height, width, channels = contents.images.shape[1:]
        sizes[height, width] += 1
        colour = channels == 3
    elif recipe.size is None or recipe.channels is None:
        # Not at the test images: they decide nothing.
        rows = np.flatnonzero(contents.given != TEST)
        rows = rows if rows.size else np.arange(len(contents))
        for row in rows[:: max(1, len(rows) // _PROBES)]:
            with contextlib.suppress(ImageError):
                height, width, has_colour = read_header(contents.images[row])
                sizes[height, width] += 1
                colour = colour or has_colour
    own = next(iter(sizes), (DEFAULT_SIZE, DEFAULT_SIZE))
    if len(sizes) > 1 or max(own) > DEFAULT_SIZE:
        own = (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = recipe.size or (max(_SMALLEST, own[0]), max(_SMALLEST, own[1]))
    return Preparation(
        height=height,
        width=width,
        channels=recipe.channels or (3 if colour else 1),
        resize=recipe.resize,
        bits=recipe.bits or 16,
    )
