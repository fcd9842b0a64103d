"""A call that Ctrl-C cannot reach, made beside the thread that it can."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, TypeVar

T = TypeVar("T")

# Seconds between two looks at the call.
_LOOK: Final = 0.2
# Seconds for which the end of the process waits for a call that was left.
_MOMENT: Final = 2.0


def call_in_thread(
    call: Callable[[], T], *, name: str, look: Callable[[], None] = lambda: None
) -> T:
    """Make a call in a thread of its own, and return its result."""
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            result.set_exception(error)

    # A daemon: the process must not wait long for a result that is not wanted.
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    done = False
    try:
        while not done:
            done = bool(wait([result], timeout=_LOOK).done)
            look()
    except BaseException:
        # Native code that still runs while Python is taken down often ends the process by SIGABRT.
        atexit.register(thread.join, _MOMENT)
        raise
    return result.result()
