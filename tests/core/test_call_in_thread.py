"""A call is made beside the thread that waits for it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from opsin.core.child_process import call_in_thread


def test_a_look_that_raises_leaves_the_call_alone() -> None:
    over, ended = threading.Event(), threading.Event()

    def work() -> None:
        over.wait(60)
        ended.set()

    def look() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_in_thread(work, name="long", look=look)
    assert not ended.is_set()
    over.set()
    assert ended.wait(30)


def test_the_process_waits_a_moment_for_a_call_that_was_left() -> None:
    leave = (
        "import time\n"
        "from opsin.core.child_process import call_in_thread\n"
        "def work():\n"
        "    time.sleep(0.5)\n"
        "    print('over', flush=True)\n"
        "def look():\n"
        "    raise KeyboardInterrupt\n"
        "call_in_thread(work, name='left', look=look)\n"
    )
    done = subprocess.run([sys.executable, "-c", leave], capture_output=True, check=False)
    assert done.stdout == b"over\n"
    assert b"KeyboardInterrupt" in done.stderr
