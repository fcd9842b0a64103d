"""Ctrl-C that lets the work in hand end cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ctrl_c_stops() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second interrupts as ever.

    Outside the main thread, where Python delivers no signals, the event is simply never set.
    """
    stop = threading.Event()

    def on_signal(_: int, __: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
