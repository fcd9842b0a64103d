"""What becomes of answers without a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Makes answers, ``int64[B]``, of the values that the rest of a network takes, the layer's first.
Answer = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.int64]]


class SwitchedOff:
    """Counts, batch by batch, which pictures turn wrong or right without a unit.

    A unit is switched off by a 0 at all its places, as if its weights and its bias were 0 and
    nothing else had changed (A. Morcos et al., "On the importance of single directions for
    generalization", ICLR 2018). Nothing is fitted and nothing drawn: the counts are exact.

    Args:
        answer: The rest of the network.
        units: Numbers of the units, ``int64[U]``.
        classes: K.

    Example:
        >>> off = SwitchedOff(lambda values: values[0].argmax(axis=1), np.array([0, 1]), 2)
        >>> list(off.add([np.float32([[1, 2], [3, 1]])], np.array([1, 0])))
        [0, 1]
        >>> off.lost.tolist(), off.gained.sum()
        ([[1, 0], [0, 1]], np.int64(0))
    """

    def __init__(self, answer: Answer, units: NDArray[np.int64], classes: int) -> None:
        self._answer = answer
        self.units = units
        #: Pictures of each class, and those of them that the whole network has right, ``int64[K]``.
        self.images = np.zeros(classes, np.int64)
        self.right = np.zeros(classes, np.int64)
        #: Pictures of each class that are right only with the unit, or only without, ``[U, K]``.
        self.lost = np.zeros((len(units), classes), np.int64)
        self.gained = np.zeros((len(units), classes), np.int64)

    def add(
        self, values: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]
    ) -> Iterator[int]:
        """Take some pictures, and yield the number of each unit once it is done with them.

        Args:
            values: What goes into the rest of the network: the layer's output, ``float32[B, C]``
                or ``float32[B, C, H, W]``, and the values that lead past it.
            labels: The right classes, ``int64[B]``.
        """
        classes = len(self.images)
        right = np.asarray(self._answer(values) == labels, np.bool_)
        self.images += np.bincount(labels, minlength=classes)
        self.right += np.bincount(labels[right], minlength=classes)
        layer, *past = values
        active = (layer != 0).reshape(*layer.shape[:2], -1).max(axis=2)
        # One copy is changed and mended unit by unit: a copy each would cost more than small rests.
        changed = layer.copy()
        for place, unit in enumerate(self.units):
            # Where the unit is 0 already, nothing changes.
            rows = np.flatnonzero(active[:, unit])
            if len(rows) == len(layer):
                changed[:, unit] = 0
                now = self._answer([changed, *past])
                changed[:, unit] = layer[:, unit]
            elif len(rows):
                some = layer[rows]
                some[:, unit] = 0
                now = self._answer([some, *(value[rows] for value in past)])
            if len(rows):
                still, before, of = now == labels[rows], right[rows], labels[rows]
                self.lost[place] += np.bincount(of[before & ~still], minlength=classes)
                self.gained[place] += np.bincount(of[~before & still], minlength=classes)
            yield int(unit)
