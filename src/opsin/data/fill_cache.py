"""Every image of a source, decoded once into the cache."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import itertools
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import filelock
import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.metadata import Bits, Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import exclusive, storage_errors
from opsin.data import cache, sources
from opsin.data.decoded import Decoded, take
from opsin.data.decoded_store import ROW, Chunk, DecodedStore, read_set
from opsin.data.image_stream import Listed, ListedImage, read_ahead
from opsin.data.images import PreparedPixels, content_of, prepare, read_header
from opsin.data.lazy_images import THREADS
from opsin.data.pixel_values import bits_needed, brighter_than, to_bytes
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.split import TEST

#: Side that larger images, and collections of several sizes, are brought to.
DEFAULT_SIZE = 64
_PROBES = 200
# Smaller images are enlarged.
_SMALLEST = 4
# Images per chunk, their bytes at most, and bytes of chunks in flight: memory use does not depend
# on the number of images.
_ROWS: Final = 32
_CHUNK: Final = 1 << 20
_WAITING: Final = 32 << 20
_ELSEWHERE: Final = "set OPSIN_CACHE to another folder"
# Seconds between saves: the most work that a killed process loses.
_SAVED_EVERY: Final = 2.0


#: A prepared image, with the SHA-256 of the original.
ReadImage = tuple[PreparedPixels, NDArray[np.uint8]]
_Answers = Iterable[tuple[ListedImage, ReadImage | ImageError]]
#: Prepares images on other machines, in their order, or says why one cannot be read.
RemoteReader = Callable[[Preparation, Iterator[ListedImage]], _Answers]


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
            decoded = read_set(folder)
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError):
            continue
        if decoded and (recipe.bits in (None, decoded.bits) or not decoded.depths):
            return decoded
    return None


def read(recipe: DataRecipe, *, watcher: Watcher = SILENT, for_training: bool = True) -> Decoded:
    """Decode a source's images, or take them from the cache, without splitting them."""
    source = sources.find_all(recipe, watcher=watcher)
    return read_located(source, recipe, watcher, for_training=for_training)


def read_located(
    source: LocatedSource,
    recipe: DataRecipe,
    watcher: Watcher,
    *,
    for_training: bool,
    remote: RemoteReader | None = None,
) -> Decoded:
    """Read a located source: see `read`."""
    key = cache_key(source.key, recipe)
    decoded = look_up(key, recipe)
    if decoded is None:
        contents = _opened(source, recipe)
        if for_training:
            contents.check()
        elif not len(contents):
            raise SourceError(f"{recipe.source} holds no images of these classes")
        decoded = _decode(contents, recipe, key, watcher, remote)
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


def _opened(source: LocatedSource, recipe: DataRecipe) -> LabelledImages:
    contents = source.open()
    return contents.keep(recipe.classes) if recipe.classes else contents


def read_by_default(
    source: LocatedSource, recipe: DataRecipe, decoded: Decoded, watcher: Watcher
) -> Decoded:
    """Return the same images, in the same order, under the default preparation."""
    default = recipe.model_copy(
        update={"size": None, "channels": None, "resize": "fit", "bits": None}
    )
    if default == recipe:
        return decoded
    as_asked = (*decoded.images.shape[1:], recipe.resize)
    own_bits = recipe.bits is None or not decoded.depths
    if own_bits and look_up(cache_key(source.key, default), default) is None:
        usual = choose_preparation(_opened(source, recipe), default)
        if (usual.height, usual.width, usual.channels, usual.resize) == as_asked:
            return decoded
    plain = read_located(source, default, watcher, for_training=False)
    if (*plain.images.shape[1:], "fit", plain.bits) == (*as_asked, decoded.bits):
        return decoded

    def keys(images: Decoded) -> Iterator[tuple[str, bytes]]:
        return zip(images.names, map(bytes, images.source_digests), strict=True)

    row_of = {key: row for row, key in enumerate(keys(plain))}
    rows = [row_of.get(key, -1) for key in keys(decoded)]
    return decoded if -1 in rows else take(plain, np.array(rows, np.int64))


def _decode(
    contents: LabelledImages,
    recipe: DataRecipe,
    key: str,
    watcher: Watcher,
    remote: RemoteReader | None,
) -> Decoded:
    """Decode a set into the cache."""
    preparation, folder = choose_preparation(contents, recipe), _folder_of(key, recipe.bits)

    def wait() -> None:
        watcher.note("another Opsin is reading the same images; waiting for it to finish")

    def filled(preparation: Preparation) -> DecodedStore:
        bits = preparation.bits or 16
        store = DecodedStore(folder, len(contents), preparation.shape, bits)
        with contextlib.closing(store):
            _fill(store, contents, preparation, watcher, remote)
        return store

    for lock in folder.parent.glob("*.lock"):  # unfinished sets go after a week
        old = lock.with_suffix("")
        with contextlib.suppress(OSError, filelock.Timeout):
            newest = max(file.stat().st_mtime for file in (lock, *old.glob("*")))
            if newest < time.time() - 7 * 86_400 and not (old / cache.ABOUT).exists():
                with filelock.FileLock(lock, timeout=0):
                    shutil.rmtree(old)
    with storage_errors(folder, _ELSEWHERE), exclusive(folder.with_suffix(".lock"), wait):
        # Another process may have done the work meanwhile.
        decoded = look_up(key, recipe)
        if decoded is None:
            if (folder / cache.ABOUT).exists():  # damaged since it was made
                shutil.rmtree(folder)
            store = filled(preparation)
            deepest = int(store.rows["depth"].max())
            bits = bits_needed((1 << deepest) - 1)
            if recipe.bits is None and deepest and store.bits != bits:
                first, store = store, filled(preparation.model_copy(update={"bits": bits}))
                for file in folder.glob(f"*-{first.bits}.*"):
                    file.unlink()
            store.complete(contents)
            decoded = look_up(key, recipe)
    if decoded is None:
        raise StorageError(
            f"The cache at {cache.cache_root()} does not keep what is written there",
            "Set OPSIN_CACHE to another folder.",
        )
    return decoded


def rows_at_once(shape: Sequence[int]) -> int:
    """Return the number of images of shape ``H, W, C`` per chunk."""
    return max(1, min(_ROWS, _CHUNK // math.prod(shape)))


def _fill(
    store: DecodedStore,
    contents: LabelledImages,
    preparation: Preparation,
    watcher: Watcher,
    remote: RemoteReader | None,
) -> None:
    """Decode the missing rows; finished ones are saved whatever happens."""
    pending = store.pending(rows_at_once(store.shape))
    left = sum(map(len, pending))
    if left < store.count:
        before = f"{store.count - left:,} of {store.count:,} images were read before"
        watcher.note(f"{before}; going on from there")
    images = contents.images
    if remote is not None and not isinstance(images, np.ndarray):
        listed = (ListedImage.at(row, contents.names, images) for rows in pending for row in rows)
        answers = iter(remote(preparation, listed))
        chunks = (_chunk_of(rows, store.shape, answers) for rows in pending)
    else:
        chunks = _decoded_here(contents, pending, preparation, store.shape)
    # Arrays of the right size take no time.
    ready = isinstance(images, np.ndarray) and images.shape[1:] == store.shape
    shown = SILENT if ready else watcher
    shown.begin("Read", left, "images")
    done, saved = 0, time.monotonic()
    try:
        with contextlib.closing(chunks):
            for chunk in chunks:
                store.put(chunk)
                done += len(chunk.images)
                shown.advance(done)
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
    shown.end()


def _decoded_here(
    contents: LabelledImages,
    pending: Sequence[range],
    preparation: Preparation,
    shape: tuple[int, int, int],
) -> Generator[Chunk]:
    """Decode images in threads; unusual files are opened in sandboxed processes."""
    images = contents.images

    def answer(item: ListedImage) -> tuple[ListedImage, ReadImage | ImageError]:
        try:
            return item, read_pixels(item, preparation)
        except ImageError as error:
            return item, error

    def decode(rows: range) -> Chunk:
        if isinstance(images, np.ndarray) and images.shape[1:] == shape:
            same, known = images[rows.start : rows.stop], np.zeros(len(rows), ROW)
            known["done"], known["size"] = True, shape[:2]
            if same.dtype != np.uint8:
                known["depth"] = [bits_needed(int(most)) for most in same.max(axis=(1, 2, 3))]
            known["source_digest"] = cache.digest_rows(same)
            pixels, _ = to_bytes(same, contents.source, bits=preparation.bits)
            return _with_facts(Chunk(rows.start, pixels, known, {}))
        listed = (ListedImage.at(row, contents.names, images) for row in rows)
        with contextlib.closing(read_ahead(listed)) as ahead:
            return _chunk_of(rows, shape, map(answer, ahead))

    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    following = iter(pending)
    most = max(2 * THREADS, _WAITING // (rows_at_once(shape) * math.prod(shape)))
    try:
        queue = deque(pool.submit(decode, rows) for rows in itertools.islice(following, most))
        while queue:
            yield queue.popleft().result()
            queue.extend(pool.submit(decode, rows) for rows in itertools.islice(following, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk_of(
    rows: range,
    shape: tuple[int, int, int],
    answers: Iterator[tuple[ListedImage, ReadImage | ImageError]],
) -> Chunk:
    images, known = np.zeros((len(rows), *shape), np.uint8), np.zeros(len(rows), ROW)
    reasons: dict[int, str] = {}
    for index, (item, answer) in enumerate(itertools.islice(answers, len(rows))):
        if isinstance(answer, ImageError):
            reasons[rows[index]] = answer.message.removeprefix(f"{item.name}: ")
            continue
        ready, known["source_digest"][index] = answer
        images[index], known["depth"][index] = ready.pixels, ready.depth
        known["size"][index], known["done"][index] = (ready.height, ready.width), True
    return _with_facts(Chunk(rows.start, images, known, reasons))


def _with_facts(chunk: Chunk) -> Chunk:
    """Fill in the rows' ranges and digests."""
    flat = chunk.images.reshape(len(chunk.images), -1)
    chunk.rows["range"] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
    chunk.rows["digest"] = cache.digest_rows(chunk.images)
    return chunk


def read_pixels(item: ListedImage, preparation: Preparation) -> ReadImage:
    """Prepare an image."""
    if item.problem:
        raise item.problem
    content, digest = content_and_digest(item.image, item.name)
    return prepare(content, preparation, item.name, match=False), digest


def content_and_digest(
    image: Listed, name: str
) -> tuple[bytes | NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a file's bytes, or an array, with its SHA-256 ``uint8[32]``."""
    if isinstance(image, np.ndarray):
        return image, cache.digest_rows(image[None])[0]
    content = content_of(image, name)
    return content, np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def choose_preparation(contents: LabelledImages, recipe: DataRecipe) -> Preparation:
    """Choose size and channels by the recipe, or by a sample of the images."""
    sizes: set[tuple[int, int]] = set()
    colour = False
    if isinstance(contents.images, np.ndarray):
        height, width, channels = contents.images.shape[1:]
        sizes.add((height, width))
        colour = channels == 3
    elif recipe.size is None or recipe.channels is None:
        # Test images must not influence it.
        rows = np.flatnonzero(contents.source_parts != TEST)
        rows = rows if rows.size else np.arange(len(contents))
        for row in rows[:: max(1, len(rows) // _PROBES)]:
            with contextlib.suppress(ImageError):
                height, width, has_colour = read_header(contents.images[row])
                sizes.add((height, width))
                colour = colour or has_colour
    size = next(iter(sizes), (DEFAULT_SIZE, DEFAULT_SIZE))
    if len(sizes) > 1 or max(size) > DEFAULT_SIZE:
        size = (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = recipe.size or (max(_SMALLEST, size[0]), max(_SMALLEST, size[1]))
    return Preparation(
        height=height,
        width=width,
        channels=recipe.channels or (3 if colour else 1),
        resize=recipe.resize,
        bits=recipe.bits or 16,
    )
