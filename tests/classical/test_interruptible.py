"""A long call is watched, stopped and heard of."""

import threading
from functools import partial

import pytest

from opsin.classical.fit import FitProgress, run_interruptible
from opsin.core.events import Watcher
from tests.conftest import Notes

call = partial(run_interruptible, what="Fit", total=1, unit="fits")


class Listener(Notes):
    """Keeps which thread called it, and how far the work was."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, int]] = []
        self.open = 0

    def begin(self, what: str, total: int, unit: str) -> None:
        self.open += 1

    def advance(self, done: int, **figures: float) -> None:
        self.heard.append((threading.get_ident(), done))

    def end(self) -> None:
        self.open -= 1


def test_progress_and_the_result_come_through_from_this_thread() -> None:
    def work(progress: FitProgress) -> str:
        for _ in range(2):
            progress.add()
        return "fitted"

    listener = Listener()
    found = call(work, watcher=listener, stop=threading.Event())
    assert found == "fitted"
    assert listener.heard[-1] == (threading.get_ident(), 2)
    assert {thread for thread, _ in listener.heard} == {threading.get_ident()}
    assert listener.open == 0


def test_an_error_comes_through() -> None:
    def work(progress: FitProgress) -> None:
        raise ValueError("too few images")

    listener = Listener()
    with pytest.raises(ValueError, match="too few images"):
        call(work, watcher=listener, stop=threading.Event())
    assert listener.open == 0


def test_a_stop_leaves_a_call_that_does_not_listen() -> None:
    stop, over, ended = threading.Event(), threading.Event(), threading.Event()
    went_on: list[bool] = []

    def work(progress: FitProgress) -> None:
        stop.set()
        over.wait(60)
        try:
            progress.add()
            went_on.append(True)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt, match="cannot be left half done"):
        call(work, watcher=Watcher(), stop=stop)
    assert not ended.is_set()
    over.set()  # and when it comes up for air, it ends without a word
    assert ended.wait(30)
    assert not went_on


def test_there_is_a_sign_of_life_while_nothing_is_told() -> None:
    over = threading.Event()

    class Enough(Listener):
        def advance(self, done: int, **figures: float) -> None:
            super().advance(done)
            if len(self.heard) == 3:
                over.set()

    listener = Enough()
    call(lambda progress: over.wait(60), watcher=listener, stop=threading.Event())
    assert len(listener.heard) >= 3
