"""What the sections about layers are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Layer(Protocol):
    """A row of the summary table."""

    @property
    def name(self) -> str:
        """Its name in the network."""

    @property
    def kind(self) -> str:
        """What it is, such as ``ReLU``."""


class View(Protocol):
    """What a layer makes of the picture: see `opsin.inspection.layers.LayerView`."""

    @property
    def layer(self) -> Layer:
        """The layer."""

    @property
    def values(self) -> NDArray[np.float32]:
        """All that it puts out, ``float32[C, H, W]`` or ``float32[D]``."""

    @property
    def mean(self) -> float:
        """Mean of the values."""

    @property
    def deviation(self) -> float:
        """Their standard deviation."""

    @property
    def minimum(self) -> float:
        """The smallest."""

    @property
    def maximum(self) -> float:
        """The largest."""

    @property
    def sparsity(self) -> float:
        """Share of values that say nothing, 0 to 1."""

    @property
    def sparse(self) -> str:
        """Which values these are."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Values in each of the histogram's 32 bins, from the smallest value to the largest."""

    @property
    def strengths(self) -> NDArray[np.float64]:
        """Strength of each unit."""

    @property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the units, the strongest first."""

    @property
    def not_finite(self) -> int:
        """Number of values that are infinite or no number."""


class Units(Protocol):
    """Which of a layer's units tell nothing."""

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Those that always had one value, ``bool[C]``."""

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Those that were nearly always at an end of tanh, ``bool[C]``."""


class Activity(Protocol):
    """What the units of the layers do over many pictures."""

    @property
    def images(self) -> int:
        """How many pictures."""

    @property
    def layers(self) -> Mapping[str, Units]:
        """By the layer's name."""


class Field(Protocol):
    """What one place of a map sees of the picture, in pixels."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def step(self) -> tuple[int, int]:
        """From one place to the next, down and across."""

    @property
    def start(self) -> tuple[int, int]:
        """First row and column that the first place sees; below 0 in the padding."""
