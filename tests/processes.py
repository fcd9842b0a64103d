"""Python in a process of its own."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any


def python(*words: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Start Python anew with these words; it must succeed, unless that is not to be checked."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, check=False, text=True, capture_output=True, timeout=300, **options
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def peak_of(work: Callable[[], object]) -> int:
    """Return the bytes that Python and NumPy held at most at one time while they did something."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
