"""A request to stop that lets the work in hand end cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Final

_REQUESTS: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def graceful_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C, or a system's SIGTERM, sets; the second interrupts."""
    stop = threading.Event()

    def on_signal(_: int, __: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in _REQUESTS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
