"""Images that belong on one side of a split."""

from __future__ import annotations

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import RecipeError, SourceError, StorageError
from opsin.core.events import Watcher
from opsin.core.storage import atomic_file
from opsin.data import cache
from opsin.data.lazy_images import Images
from opsin.data.near_duplicates.find import NearDuplicates, find_near_duplicates

#: Changes whenever the same images would give other pairs.
_VERSION = "3"


def groups_by_name(names: Sequence[str], pattern: str) -> list[str]:
    r"""Return what each name shares with others: the part that a regular expression finds.

    Args:
        names: Names of images.
        pattern: A regular expression; its first group counts where it has one, else all of it.

    Returns:
        A text for each name; ``""`` where the expression finds nothing.

    Raises:
        RecipeError: This is no regular expression.
        SourceError: It finds nothing in any of the names.

    Example:
        >>> groups_by_name(["cat/anna-1.jpg", "cat/anna-2.jpg", "dog/x.jpg"], r"/(\w+)-\d")
        ['anna', 'anna', '']
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RecipeError(
            "a regular expression for group_by", f"got {pattern!r} ({error})", "Mend it."
        ) from error
    matches = (compiled.search(name) for name in names)
    groups = [(m.group(1 if compiled.groups else 0) or "") if m else "" for m in matches]
    if not any(groups):
        raise SourceError(
            f"names that {pattern!r} finds something in",
            f"it finds nothing in any of {len(names):,}, such as {', '.join(names[:3])}",
            "Give an expression that finds what images share, such as '/([a-z]+)_'.",
        )
    return groups


def near_duplicates(
    images: Images, digests: NDArray[np.uint8], *, mirrored: bool, watcher: Watcher
) -> NearDuplicates:
    """Find near duplicates, or the result of an earlier search of the same images in the cache.

    The order of the images changes nothing; of exact copies one stands for all.

    Args:
        images: ``uint8[N, H, W, C]``
        digests: SHA-256 of each image's pixels, ``uint8[N, 32]``.
        mirrored: Whether mirror images count.
        watcher: Receives the progress of the work.
    """
    # In the order of their content, one of each.
    flat = cache.as_keys(digests)
    _, rows = np.unique(flat, return_index=True)
    key = hashlib.sha256(repr((_VERSION, images.shape[1:], mirrored)).encode())
    key.update(flat[rows].tobytes())
    file = cache.cache_root() / "near" / f"{key.hexdigest()[:32]}.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            pairs = np.sort(rows[kept["pairs"]], axis=1)
            return NearDuplicates(pairs, kept["likeness"], kept["mirrored"])
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
        found = find_near_duplicates(images, rows, mirrored=mirrored, watcher=watcher)
    place = np.empty(len(digests), np.int64)
    place[rows] = np.arange(len(rows))
    # Only a saving: where the cache refuses it, the next search takes as long as this one.
    with (
        contextlib.suppress(StorageError),
        atomic_file(file) as temporary,
        temporary.open("wb") as target,
    ):
        np.savez(
            target,
            allow_pickle=False,
            pairs=place[found.pairs],
            likeness=found.likeness,
            mirrored=found.mirrored,
        )
    return found


def split_groups(
    digests: NDArray[np.uint8], groups: Sequence[str], pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number images so that those that belong together bear the same number.

    Args:
        digests: SHA-256 of each image's pixels, ``uint8[N, 32]``; equal ones belong together.
        groups: A text for each image; equal ones belong together, ``""`` to none; or empty.
        pairs: Rows of near duplicates, ``int64[M, 2]``.

    Returns:
        ``int64[N]``, the smallest row of each image's unit.

    Example:
        >>> digests = np.arange(4, dtype=np.uint8)[:, None].repeat(32, axis=1)
        >>> split_groups(digests, ["", "anna", "", "anna"], np.array([[0, 2]])).tolist()
        [0, 1, 0, 1]
    """
    count = len(digests)
    edges = [pairs.reshape(-1, 2)]
    flat = cache.as_keys(digests)
    edges.append(pairs_of(flat))
    if len(groups):
        named = np.array([row for row, group in enumerate(groups) if group], np.int64)
        texts = [groups[row].encode("utf-8", "surrogateescape") for row in named]
        first_of: dict[bytes, int] = {}
        firsts = [
            first_of.setdefault(text, int(row)) for text, row in zip(texts, named, strict=True)
        ]
        edges.append(np.stack([named, np.array(firsts, np.int64)], axis=1))
    return _components(count, np.concatenate(edges))


def pairs_of(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return each row beside the first one with the same key, ``int64[N, 2]``."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(keys)), first[which.ravel()]], axis=1)


def _components(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest row that each row is connected to."""
    root = np.arange(count)
    while True:
        one, other = root[edges].T
        apart = one != other
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while np.any(root != root[root]):
            root = root[root]
