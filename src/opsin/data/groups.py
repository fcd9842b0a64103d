"""Images that belong together: exact copies, near duplicates, and groups of the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import RecipeError, SourceError
from opsin.data.cache import as_keys


def groups_by_name(names: Sequence[str], pattern: str) -> list[str]:
    r"""Return what a regular expression (its first group, where it has one) finds in each name."""
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


def split_groups(
    digests: NDArray[np.uint8], groups: Sequence[str], pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each image the smallest row of those that it belongs together with."""
    edges = [pairs.reshape(-1, 2), pairs_of(as_keys(digests))]
    first: dict[str, int] = {}
    named = [(row, first.setdefault(text, row)) for row, text in enumerate(groups) if text]
    edges.append(np.array(named, np.int64).reshape(-1, 2))
    one_way = np.concatenate(edges)
    root = np.arange(len(digests))
    while True:
        one, other = root[one_way].T
        apart = one != other
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while np.any(root != root[root]):
            root = root[root]


def pairs_of(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return each row beside the first one with the same key, ``int64[N, 2]``."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(keys)), first[which.ravel()]], axis=1)
