"""Hooks that the engine calls while it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opsin.server.predict_requests import PredictResult


@dataclass(frozen=True)
class Load:
    """How busy the engine is.

    Args:
        waiting: Images that wait.
        computing: Images that workers have.
        workers: Worker processes that are alive and ready.
        queue: Images that may wait at most.
    """

    waiting: int
    computing: int
    workers: int
    queue: int


class Observer:
    """Empty hooks, called on the event loop while the engine works; override those you want.

    They are called for every image or batch, so be quick and never raise.

    Example:
        >>> class Counting(Observer):
        ...     batches = 0
        ...
        ...     def batch(self, model: str, images: int, seconds: float) -> None:
        ...         self.batches += 1
        >>> counting = Counting()
        >>> counting.batch("demo", 16, 0.01)
        >>> counting.batches
        1
    """

    def waiting(self, images: int) -> None:
        """The number of images that wait changed; those being computed are left out."""

    def batch(self, model: str, images: int, seconds: float) -> None:
        """A worker decoded and computed a batch."""

    def refused(self, reason: str) -> None:
        """A request was turned away.

        Args:
            reason: ``overloaded``, ``too large``, ``expired``, ``stopping`` or ``worker died``.
        """

    def answered(
        self, model: str, answer: PredictResult, label: str, seconds_waited: float
    ) -> None:
        """An image has its answer; ``label`` is the most probable class."""

    def unreadable(self, model: str) -> None:
        """An image cannot be read; an error takes the place of its answer."""

    def worker_died(self) -> None:
        """A worker ended that should not have; another takes its place."""

    def reloaded(self, model: str, ok: bool) -> None:
        """A model's file changed: the new one is in use, or is broken and the old one stays."""


#: Does nothing.
SILENT_OBSERVER: Final = Observer()
