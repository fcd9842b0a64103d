"""What long work tells whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence

from opsin.core.artifacts.epoch import Epoch
from opsin.core.metadata import Layer


class Watcher:
    """Empty hooks, called while long work goes on; override those you want.

    Example:
        >>> class Loud(Watcher):
        ...     def note(self, text: str) -> None:
        ...         print(text.upper())
        >>> Loud().note("two images skipped")
        TWO IMAGES SKIPPED
    """

    def fact(self, name: str, text: str) -> None:
        """Something that is now known: ``fact("Device", "CPU, 2 threads")``."""

    def layers(self, layers: Sequence[Layer]) -> None:
        """The network, as the summary before training shows it."""

    def note(self, text: str) -> None:
        """A warning: what happened, then what to do."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Work of ``total`` units starts."""

    def advance(self, done: int, **figures: float) -> None:
        """``done`` units of the current work are finished, in all.

        A training tells three figures of the whole beside those of the work in hand: ``share``
        (of all epochs, 0 to 1), ``left`` (seconds) and ``speed`` (units a second).
        """

    def end(self) -> None:
        """The current work is over."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch and its validation are over."""

    def confusion(self, epoch: int, counts: list[list[int]]) -> None:
        """What an epoch takes for what, told right before it: right class by answer, ``[K][K]``.

        Counted on the validation images. Many classes (over 50) are not told of.
        """

    def rewind(self, epochs: int) -> None:
        """The training goes on from earlier: of the epochs told, only so many count."""

    def doing(self, what: str) -> None:
        """What is being done from now on, such as "validation"; told often, so be quick."""


#: Watches in silence.
SILENT = Watcher()
