"""The parts that a run had its images in, for images of today."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.data.cache import short_digest
from opsin.data.decoded_store import Decoded
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL


def recorded_parts(run: str, decoded: Decoded, watcher: Watcher) -> NDArray[np.uint8]:
    """Return the part that each image had in a run, ``uint8[N]``; ``UNASSIGNED`` for new ones."""
    directory = RunDirectory.open(run)
    if not directory.split.is_file():
        raise RunError(
            "a run that recorded the parts of its images",
            f"{run} ended before it did",
            "Name another, or leave parts_of out.",
        )
    kept = directory.load_arrays(directory.split)
    if "fold" in kept:
        raise RecipeError(
            "a run with parts, for parts_of",
            f"{run} learnt from all its images, and was judged by all of them",
            "Leave it out: images that come later move nothing there.",
        )
    then = [kept["digests"], kept["source_digests"]]
    known: dict[bytes, int] = {}
    # Of copies in several parts, one that was trained on counts.
    for part, code in (("test", TEST), ("val", VAL), ("train", TRAIN)):
        for digests in then:
            known |= {digest.tobytes(): code for digest in digests[kept[part]]}
    parts = np.full(len(decoded.labels), UNASSIGNED, np.uint8)
    for digests in (decoded.digests, decoded.source_digests):
        codes = [known.get(digest.tobytes(), 0) for digest in short_digest(digests)]
        parts = np.where(parts == UNASSIGNED, codes, parts).astype(np.uint8)
    found = int(np.count_nonzero(parts))
    if not found:
        raise RecipeError(
            "a run that was trained on some of these images, for parts_of",
            f"{run} has none of them",
            "Leave it out, or name another run.",
        )
    new = len(parts) - found
    watcher.fact(
        "Parts",
        f"as in {run} for {counted(found, 'image')}"
        + (
            f"; {counted(new, 'new image')} {'fill' if new > 1 else 'fills'} them up" if new else ""
        ),
    )
    return parts
