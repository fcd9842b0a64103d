"""What started processes share: environment, errors, limits, ends."""

import inspect
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opsin.core import errors
from opsin.core.child_process import (
    call_in_thread,
    child_environment,
    error_from,
    error_values,
    module_command,
)
from opsin.core.errors import MissingExtraError, MovedError, OpsinError


def test_a_working_directory_holds_no_modules(tmp_path: Path) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    command = module_command("opsin.core.sandbox", "json:loads", "5", "100000000")
    nothing, env = subprocess.DEVNULL, child_environment()
    subprocess.run(command, cwd=tmp_path, env=env, stdin=nothing, stdout=nothing, check=True)


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


def test_every_error_passes_to_another_process() -> None:
    made: dict[type[OpsinError], OpsinError] = {
        MissingExtraError: MissingExtraError("training", "train"),
        MovedError: MovedError("runs/boots", ["photos/1.jpg"]),
    }
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, OpsinError):
            error = made.get(kind) or kind("boots.txt is a file", "Give a folder.")
            passed = pickle.loads(pickle.dumps(error))
            assert (str(passed), vars(passed)) == (str(error), vars(error))
            described = error_from(error_values(error))
            assert type(passed) is type(described) is kind
            assert str(described) == str(error)
