"""Doubts about the order of the classes and the preparation, by images with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# How much better another order, or another preparation, must be before it is worth a line.
_FAR: Final = 0.15
_SHOWN: Final = 6
# Share of right answers below which a network is too weak to tell the order of its classes.
_LEAST: Final = 0.5


def doubt_about_order(
    answers: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]
) -> str | None:
    """Say which order of the classes would suit the answers far better; ``None``: none would."""
    count = len(classes)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (answers, labels), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    best, now = table[rows, columns].sum() / len(labels), float((answers == labels).mean())
    if best < max(now + _FAR, _LEAST):
        return None
    names = [classes[int(column)] for column in columns]
    shown = ", ".join(names[:_SHOWN]) + (" …" if count > _SHOWN else "")
    given = ",".join(names)
    return (
        f"the order of the classes is probably another: {now:.0%} of {len(labels):,} images are "
        f"right, and {best:.0%} would be with {shown} (--classes {given})"
    )


def doubt_about_pixels(given: str, right: Mapping[str, float]) -> str | None:
    """Say which preparation would suit the answers far better; ``None``: none would."""
    best = max(right, key=lambda name: right[name])
    if right[best] < right[given] + _FAR:
        return None
    return (
        f"the pixels are probably others: {right[given]:.0%} of the images are right, and "
        f"{right[best]:.0%} with --prepare={best}"
    )
