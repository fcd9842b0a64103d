"""Work that stands still is told of once, with what it waits for and where; other work never."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.commands.watchdog import Pauses, Watchdog
from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.data.images import read_image

PREPARATION = Preparation(height=8, width=8, channels=1, resize="fit")


def until(told: list[str], count: int, *, work: Callable[[], None] = lambda: None) -> None:
    """Work, or wait, until so much was told; the test's own time limit ends what never is."""
    while len(told) < count:
        work()
        time.sleep(0.01)


def test_a_stall_is_told_once_and_its_end_too() -> None:
    told: list[str] = []
    with Watchdog(told.append, patience=0.3) as watchdog:
        watchdog.seen("training step 7")
        watchdog.seen("checkpoint step 7")
        until(told, 1)
        time.sleep(0.5)
        assert len(told) == 1
        watchdog.seen("training step 8")
        until(told, 2, work=lambda: watchdog.seen("training step 9"))
    assert told[0].startswith("no progress for 0:")
    assert "waiting for checkpoint step 7" in told[0]
    assert told[1].startswith("going on after 0:")


def test_a_later_stall_is_told_again() -> None:
    told: list[str] = []
    with Watchdog(told.append, patience=0.1) as watchdog:
        for _ in range(2):
            until(told, len(told) + 1)  # stalls
            until(told, len(told) + 1, work=lambda: watchdog.seen("training"))  # goes on
    assert [text.split(" ")[0] for text in told] == ["no", "going"] * 2


@pytest.mark.slow
def test_work_that_goes_on_or_ends_is_not_told_of() -> None:
    told: list[str] = []
    with Watchdog(told.append, patience=2.0) as watchdog:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            watchdog.seen("training")
            time.sleep(0.005)
    with Watchdog(told.append, patience=30.0):
        pass
    time.sleep(0.5)
    assert told == []
    assert not [thread for thread in threading.enumerate() if thread.name == "opsin-watchdog"]


def test_the_line_names_the_function_that_is_stuck() -> None:
    told: list[str] = []

    class Stuck(io.BytesIO):
        """A file on a disk that does not answer until the watchdog has spoken."""

        def read(self, *_: object) -> bytes:
            until(told, 1)
            return b""

    with Watchdog(told.append, patience=0.1) as watchdog:
        watchdog.seen("reading images")
        with pytest.raises(ImageError):
            read_image(Stuck(), PREPARATION, "stuck.jpg")
    assert "waiting for reading images, in opsin.data.images." in told[0]


def test_outside_of_opsin_there_is_no_place_to_name() -> None:
    told: list[str] = []
    with Watchdog(told.append, patience=0.1) as watchdog:
        watchdog.seen("export")
        until(told, 1)
    assert told[0].endswith("waiting for export")


def test_it_watches_the_thread_that_entered_it() -> None:
    told: list[str] = []

    class Stuck(io.BytesIO):
        def read(self, *_: object) -> bytes:
            until(told, 1)
            return b""

    def work() -> None:
        with Watchdog(told.append, patience=0.1), pytest.raises(ImageError):
            read_image(Stuck(), PREPARATION, "stuck.jpg")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "in opsin.data.images." in told[0]


def test_what_is_told_can_fail_without_harm() -> None:
    told: list[str] = []

    def refuse(text: str) -> None:
        told.append(text)
        raise OSError("the disk is full")

    with Watchdog(refuse, patience=0.1) as watchdog:
        until(told, 1)
        until(told, 2, work=lambda: watchdog.seen("training"))
    assert len(told) >= 2


@pytest.mark.skipif(os.name == "nt", reason="stops a process as a suspended machine does")
def test_time_in_which_the_process_was_stopped_is_no_stall() -> None:
    code = (
        "import time\n"
        "from opsin.commands.watchdog import Watchdog\n"
        "with Watchdog(lambda text: print(text, flush=True), patience=1.5):\n"
        "    print('ready', flush=True)\n"
        "    for _ in range(12):\n"
        "        time.sleep(0.05)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == ""


LOOKS = st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), max_size=200)


@given(patience=st.floats(1, 20), looks=LOOKS)
def test_a_pause_is_told_once_after_its_limit_and_ends_once(
    patience: float, looks: list[tuple[float, bool]]
) -> None:
    pauses = Pauses(patience)
    stalled, waited = False, 0.0
    for passed, moved in looks:
        limit = pauses.limit
        assert limit >= patience
        _, news = pauses.look(passed, moved=moved)
        waited = 0.0 if moved else waited + passed
        if moved:
            assert news == ("back" if stalled else None)
            stalled = False
        else:
            assert news == ("stalled" if waited >= limit and not stalled else None)
            stalled = stalled or news == "stalled"


@given(pause=st.integers(1, 300), times=st.integers(1, 20))
def test_work_that_is_slow_by_nature_is_told_of_at_most_once(pause: int, times: int) -> None:
    pauses = Pauses(60)
    news = []
    for _ in range(times):
        news += [pauses.look(1, moved=False)[1] for _ in range(pause)]
        news.append(pauses.look(1, moved=True)[1])
    assert news.count("stalled") == news.count("back") == (1 if pause >= 60 else 0)


def test_ten_times_the_longest_usual_pause_is_waited_for() -> None:
    pauses = Pauses(60)
    pauses.look(20, moved=False)
    pauses.look(1, moved=True)
    assert pauses.look(199, moved=False) == (199, None)
    assert pauses.look(1, moved=False) == (200, "stalled")
