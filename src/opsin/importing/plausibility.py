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
    """Say which order of the classes would suit the answers far better; ``None``: none would.

    The best one is found by assignment on the confusion matrix (H. W. Kuhn, "The Hungarian method
    for the assignment problem", 1955).

    Args:
        answers: Number of the class that each image got, ``int64[N]``.
        labels: Number of the right class, ``int64[N]``.
        classes: Their names in the present order.

    Example:
        >>> labels = np.repeat([0, 1, 2], 10)
        >>> print(doubt_about_order((labels + 1) % 3, labels, ("a", "b", "c")))
        the order of the classes is probably another: 0% of 30 images are right, and 100% would be \
with c, a, b (--classes c,a,b)
        >>> doubt_about_order(labels, labels, ("a", "b", "c")) is None
        True
    """
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
    """Say which preparation would suit the answers far better; ``None``: none would.

    Args:
        given: The one that is used.
        right: Share of right answers with each, that one among them.

    Example:
        >>> doubt_about_pixels("0..255", {"0..255": 0.1, "0..1": 0.9, "-1..1": 0.4})
        'the pixels are probably others: 10% of the images are right, and 90% with --prepare=0..1'
    """
    best = max(right, key=lambda name: right[name])
    if right[best] < right[given] + _FAR:
        return None
    return (
        f"the pixels are probably others: {right[given]:.0%} of the images are right, and "
        f"{right[best]:.0%} with --prepare={best}"
    )
