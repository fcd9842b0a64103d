"""The events of long work, and who gets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

        A training gives three figures of the whole beside those of the work in hand: ``share``
        (of all epochs, 0 to 1), ``left`` (seconds) and ``speed`` (units a second).
        """

    def end(self) -> None:
        """The current work is over."""

    def run_started(self, run: Path) -> None:
        """A run directory has its recipe and its split; ``opsin.Run(run).recipe`` reads it.

        Also when a training resumes in the directory that it has.
        """

    def epoch(self, epoch: Epoch) -> None:
        """An epoch and its validation are over."""

    def confusion(self, epoch: int, counts: list[list[int]]) -> None:
        """An epoch's confusion matrix, right before `epoch`: right class by answer, ``[K][K]``.

        Counted on the validation images, for at most 50 classes.
        """

    def rewind(self, epochs: int) -> None:
        """The training continues from an earlier state: only the first ``epochs`` epochs count.

        Called when a training resumes, and when it steps back because its loss exploded.
        """

    def run_ended(self, run: Path) -> None:
        """All files of a run are written, or it has stopped or failed.

        ``opsin.Run(run)`` has its figures, and ``run.directory.state()`` says how it ended.
        """

    def doing(self, what: str) -> None:
        """What is being done from now on, such as "validation"; called often, so be quick."""


#: Watches in silence.
SILENT = Watcher()


class WatcherGroup(Watcher):
    """Passes every event on to several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = list(watchers)

    def each(self, event: Callable[[Watcher], None]) -> None:
        """Pass one event on."""
        for watcher in self.watchers:
            event(watcher)


def _passing_on(name: str) -> Callable[..., None]:
    def hook(group: WatcherGroup, *values: Any, **figures: Any) -> None:
        group.each(lambda watcher: getattr(watcher, name)(*values, **figures))

    return hook


for _name in [name for name in vars(Watcher) if not name.startswith("_")]:
    setattr(WatcherGroup, _name, _passing_on(_name))


class Observers(WatcherGroup):
    """Watchers that a user adds: one that raises costs a warning and gets no further events."""

    def __init__(self, display: Watcher, observers: Sequence[Watcher]) -> None:
        super().__init__(*observers)
        self.display = display

    def each(self, event: Callable[[Watcher], None]) -> None:
        """Pass one event on, and drop the observers that fail."""
        for observer in list(self.watchers):
            try:
                event(observer)
            except Exception as error:  # noqa: BLE001  it is the user's code
                self.watchers.remove(observer)
                self.display.note(
                    f"the observer {type(observer).__name__} failed ({error!r}): the work goes on "
                    "without it"
                )
