"""Notices work without progress, and says what it waits for."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Literal, Self

from opsin.core.format import clock

#: How many times the longest usual pause a pause must last before it is reported.
_LONGER: Final = 10.0
#: Looks that are taken within the patience, and the seconds between two of them at most.
_LOOKS: Final = 20
_SLOWEST: Final = 1.0


class Watchdog:
    """A thread that watches the one that enters it, and speaks up when nothing moves.

    A pause is reported once, when it has lasted for ``patience`` seconds, for ten times the longest
    usual pause so far, and for twice the longest one that was reported before: work that is slow by
    nature is reported at most once. When progress comes back, that is reported too; the end of the
    work is not. Time in which the process itself was stopped, as by a suspended machine, is no
    pause.

    Args:
        tell: Is called from the watching thread with what there is to say.
        patience: Seconds without progress after which something may be said.

    Example:
        >>> with Watchdog(print) as watchdog:
        ...     for step in range(3):
        ...         watchdog.seen(f"training step {step}")
    """

    def __init__(self, tell: Callable[[str], None], *, patience: float = 60.0) -> None:
        self._tell = tell
        self._pauses = Pauses(patience)
        self._between = min(_SLOWEST, patience / _LOOKS)
        self._what = "the start"
        self._signs = 0
        self._over = threading.Event()
        self._watched = 0
        self._thread = threading.Thread(target=self._watch, name="opsin-watchdog", daemon=True)

    def seen(self, what: str) -> None:
        """Take a sign of progress.

        Two stores and nothing else, so that it can be given at every step of a training.

        Args:
            what: What is being done from now on: ``"validation"``.
        """
        self._what = what
        self._signs += 1

    def __enter__(self) -> Self:
        self._watched = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)  # it may be held up by whatever shows its last word

    def _watch(self) -> None:
        looked, signs = time.monotonic(), self._signs
        while not self._over.wait(self._between):
            now = time.monotonic()
            # A look that comes much too late says that this thread could not run either.
            passed = min(now - looked, 2 * self._between)
            moved = self._signs != signs
            looked, signs = now, self._signs
            lasted, news = self._pauses.look(passed, moved=moved)
            if news is None or self._over.is_set():
                continue
            text = f"going on after {clock(lasted)}"
            if news == "stalled":
                text = f"no progress for {clock(lasted)}: waiting for {self._what}{self._where()}"
            # What watches the work must never be what ends it, as on a full disk.
            with contextlib.suppress(Exception):
                self._tell(text)

    def _where(self) -> str:
        """Return the innermost function of Opsin that the watched thread is in, in words."""
        frame: FrameType | None = sys._current_frames().get(self._watched)
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith("opsin.") and module != __name__:
                return f", in {module}.{frame.f_code.co_qualname.replace('.<locals>', '')}"
            frame = frame.f_back
        return ""


class Pauses:
    """Tells pauses that are worth a word from those that are usual, without a clock of its own.

    Args:
        patience: Seconds that every pause may last.

    Example:
        >>> pauses = Pauses(60)
        >>> pauses.look(50, moved=False), pauses.look(10, moved=False)
        ((50.0, None), (60.0, 'stalled'))
        >>> pauses.look(1, moved=True)
        (61.0, 'back')
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._usual = 0.0
        self._told = 0.0
        self._lasted = 0.0
        self._stalled = False

    @property
    def limit(self) -> float:
        """Seconds after which the present pause is reported."""
        return max(self._patience, _LONGER * self._usual, 2 * self._told)

    def look(
        self, passed: float, *, moved: bool
    ) -> tuple[float, Literal["stalled", "back"] | None]:
        """Take what one look has found.

        Args:
            passed: Seconds since the look before.
            moved: Whether there was progress meanwhile.

        Returns:
            How long the pause has lasted, and what there is to tell of it: that it is one, that
            it is over, or nothing.
        """
        if not moved:
            self._lasted += passed
            if self._stalled or self._lasted < self.limit:
                return self._lasted, None
            self._stalled = True
            return self._lasted, "stalled"
        lasted, was_stalled = self._lasted + passed, self._stalled
        if was_stalled:
            self._told = max(self._told, lasted)
        else:
            self._usual = max(self._usual, self._lasted)
        self._lasted, self._stalled = 0.0, False
        return lasted, "back" if was_stalled else None
