"""Every picture of a source, decoded once into the cache."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from opsin.data import cache, sources
from opsin.data.images import open_image, read_image
from opsin.data.sources.contents import Contents, Found
from opsin.data.split import TEST
from opsin.errors import ImageError, SourceError
from opsin.events import SILENT, Watcher
from opsin.metadata import Preparation
from opsin.recipe import DataRecipe

#: Side that larger pictures, and collections of several sizes, are brought to.
DEFAULT_SIZE = 64
_PROBES = 200
# Smaller pictures are enlarged: a network needs something to look at.
_SMALLEST = 4


def read(
    recipe: DataRecipe, *, watcher: Watcher = SILENT, for_training: bool = True
) -> cache.Decoded:
    """Decode a source's pictures, or find them in the cache, without splitting them.

    Args:
        recipe: Which pictures, how large.
        watcher: Is told how far the work is.
        for_training: Refuse, before anything is decoded, what no classifier can be made from.

    Raises:
        SourceError: The source is missing, damaged or empty, or no classifier can be made from it.
    """
    found = sources.find_all(recipe, watcher=watcher)
    return read_found(found, recipe, watcher, for_training=for_training)


def read_found(
    found: Found, recipe: DataRecipe, watcher: Watcher, *, for_training: bool
) -> cache.Decoded:
    """Do the work of `read` for a source that was found already."""
    key = cache.index_key(found.key, recipe.classes, recipe.size, recipe.channels, recipe.resize)
    decoded = cache.look_up(key)
    if decoded is None:
        contents = found.open()
        if recipe.classes:
            contents = contents.keep(recipe.classes)
        if for_training:
            contents.check()
        elif not len(contents):
            raise SourceError(
                "pictures", f"{recipe.source} holds none of these classes", "Check --classes."
            )
        _decode(contents, recipe, key, watcher)
        decoded = cache.look_up(key)
        if decoded is None:
            raise SourceError(
                f"the cache at {cache.cache_root()} to keep what is written there",
                "it did not",
                "Set OPSIN_CACHE to another folder.",
            )
    unreadable, total = len(decoded.unreadable), len(decoded.labels) + len(decoded.unreadable)
    if unreadable > recipe.max_unreadable * total:
        name, reason = decoded.unreadable[0]
        raise SourceError(
            f"at most {recipe.max_unreadable:.0%} unreadable files",
            f"{unreadable:,} of {total:,} are ({name}: {reason})",
            "Mend or remove them, or allow more with --max-unreadable.",
        )
    return decoded


def _decode(contents: Contents, recipe: DataRecipe, key: str, watcher: Watcher) -> None:
    """Decode every picture into the cache and pass over those that are damaged."""
    preparation = _choose_preparation(contents, recipe)
    with cache.scratch() as folder:
        file = folder / "images.npy"
        reasons = _fill(file, contents, preparation, watcher)
        unreadable = [(str(contents.names[row]), reasons[row]) for row in sorted(reasons)]
        good = np.array([row for row in range(len(contents)) if row not in reasons], np.int64)
        if not good.size:
            name, reason = unreadable[0]
            raise SourceError(
                "pictures that can be read",
                f"none of the {len(unreadable):,} can ({name}: {reason})",
                "Check the files.",
            )
        if unreadable:
            cache.keep_rows(file, good)
        kept = contents.rows(good)
        np.save(folder / "digests.npy", cache.digest_file(file), allow_pickle=False)
        np.save(folder / "labels.npy", kept.labels, allow_pickle=False)
        np.save(folder / "given.npy", kept.given, allow_pickle=False)
        about = {
            "classes": list(kept.classes),
            "names": list(kept.names),
            "groups": list(kept.groups),
            "mirrored": kept.mirrored,
            "resize": recipe.resize,
        }
        cache.keep(key, folder, about, unreadable)


def _fill(
    file: Path, contents: Contents, preparation: Preparation, watcher: Watcher
) -> dict[int, str]:
    """Decode every picture into ``file``; return the reason for each row that could not be."""
    shape = (preparation.height, preparation.width, preparation.channels)
    images = cache.new_images(file, (len(contents), *shape))
    reasons: dict[int, str] = {}

    def decode(row: int) -> None:
        try:
            images[row] = read_image(contents.pictures[row], preparation, contents.names[row])
        except ImageError as error:
            reasons[row] = error.received.removeprefix(f"{contents.names[row]}: ")

    if isinstance(contents.pictures, np.ndarray) and contents.pictures.shape[1:] == shape:
        images[:] = contents.pictures
    else:
        _in_threads(decode, len(contents), watcher)
    images.flush()
    return reasons


def _in_threads(work: Callable[[int], None], count: int, watcher: Watcher) -> None:
    """Call ``work(row)`` for each row; the decoders let other threads run."""
    watcher.begin("Read", count, "pictures")
    threads = min(16, os.cpu_count() or 1)
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        for done, _ in enumerate(pool.map(work, range(count)), start=1):
            if done % 64 == 0 or done == count:
                watcher.advance(done)
    finally:
        pool.shutdown(cancel_futures=True)
    watcher.end()


def _choose_preparation(contents: Contents, recipe: DataRecipe) -> Preparation:
    """Choose size and channels, by the recipe or by a look at some of the pictures."""
    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    if isinstance(contents.pictures, np.ndarray):
        height, width, channels = contents.pictures.shape[1:]
        sizes[height, width] += 1
        colour = channels == 3
    else:
        # Not at the test pictures: they decide nothing.
        rows = np.flatnonzero(contents.given != TEST)
        rows = rows if rows.size else np.arange(len(contents))
        for row in rows[:: max(1, len(rows) // _PROBES)]:
            with contextlib.suppress(ImageError):
                picture: Image.Image = open_image(contents.pictures[row])
                sizes[picture.height, picture.width] += 1
                colour = colour or picture.mode != "L"
    own = next(iter(sizes), (DEFAULT_SIZE, DEFAULT_SIZE))
    if len(sizes) > 1 or max(own) > DEFAULT_SIZE:
        own = (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = recipe.size or (max(_SMALLEST, own[0]), max(_SMALLEST, own[1]))
    return Preparation(
        height=height,
        width=width,
        channels=recipe.channels or (3 if colour else 1),
        resize=recipe.resize,
    )
