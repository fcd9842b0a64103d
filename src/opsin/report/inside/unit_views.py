"""What the sections about units are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Layer


class Picture(Protocol):
    """A picture with its name."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """As decoded, ``uint8[H, W, C]``."""


class Exciting(Picture, Protocol):
    """A picture that excites a unit."""

    @property
    def label(self) -> str:
        """Its class."""

    @property
    def value(self) -> float:
        """The unit's largest value on it."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What the unit sees of it: top, left, bottom, right."""


class UnitLike(Protocol):
    """A unit of a layer."""

    @property
    def number(self) -> int:
        """From 0."""

    @property
    def best(self) -> Sequence[Exciting]:
        """The pictures that excite it most."""

    @property
    def mix(self) -> Mapping[str, int]:
        """Classes of the hundred that excite it most, the most frequent first."""

    @property
    def mean(self) -> Mapping[str, float | None]:
        """Mean activity for each class."""

    @property
    def selectivity(self) -> Mapping[str, float]:
        """How far each class lifts it, in deviations."""

    @property
    def favourite(self) -> str:
        """The class that lifts it most."""

    @property
    def steady(self) -> bool:
        """Whether it is the same on all pictures."""


class GalleryLike(Protocol):
    """The units of a layer."""

    @property
    def layer(self) -> Layer:
        """The layer."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names."""

    @property
    def images(self) -> int:
        """How many training pictures were looked at."""

    @property
    def sees(self) -> tuple[int, int] | None:
        """Height and width that a unit sees; ``None``: the whole picture."""

    def __iter__(self) -> Iterator[UnitLike]: ...


class EffectLike(Protocol):
    """What becomes of the answers without a unit."""

    @property
    def unit(self) -> int:
        """Its number."""

    @property
    def lost(self) -> int:
        """Pictures that are right only with it."""

    @property
    def gained(self) -> int:
        """Pictures that are right only without it."""

    @property
    def change(self) -> float:
        """Accuracy without it less that with it."""

    @property
    def low(self) -> float:
        """Lower end of the change's 95% interval."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def p(self) -> float:
        """Of the adjusted test."""

    @property
    def shown(self) -> bool:
        """Whether it is more than chance."""

    @property
    def lost_by_class(self) -> Mapping[str, int]:
        """Of the lost ones, how many are of each class."""

    @property
    def gained_by_class(self) -> Mapping[str, int]:
        """Of the gained ones, how many are of each class."""

    @property
    def losses(self) -> Mapping[str, int]:
        """Right answers that each class loses, the most first."""

    @property
    def matters_to(self) -> Sequence[str]:
        """Classes that lose some by more than chance."""


class AblationLike(Protocol):
    """What each unit of a layer is worth."""

    @property
    def layer(self) -> str:
        """Name of the layer."""

    @property
    def images(self) -> Mapping[str, int]:
        """Validation pictures of each class."""

    @property
    def accuracy(self) -> float:
        """Of the whole network."""

    @property
    def right(self) -> Mapping[str, int]:
        """Those of them that the whole network has right."""

    @property
    def effects(self) -> Sequence[EffectLike]:
        """The largest loss first."""


class ExampleLike(Picture, Protocol):
    """A picture that stands for its class."""

    @property
    def probability(self) -> float:
        """Of its class."""


class PortraitLike(Protocol):
    """A class."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def images(self) -> int:
        """How many training pictures it has."""

    @property
    def mean(self) -> NDArray[np.uint8] | None:
        """Their mean."""

    @property
    def surest(self) -> Sequence[ExampleLike]:
        """Those with the highest probability."""

    @property
    def nearest(self) -> Sequence[ExampleLike]:
        """Those nearest to the class's mean in the embedding."""

    @property
    def farthest(self) -> Sequence[ExampleLike]:
        """Those farthest from it."""
