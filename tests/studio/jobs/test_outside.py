"""Stopping a training that was started in a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio.jobs.outside import stop_training

# Holds a run as a training does, and says how often Ctrl-C was pressed.
_TRAINS = """
import signal, sys
from pathlib import Path
from opsin.core.artifacts.run_directory import RunDirectory
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
directory = RunDirectory(Path(sys.argv[1]))
directory.path.mkdir()
with directory.hold():
    directory.set_status("running")
    print("up", flush=True)
    sys.stdin.readline()
print(len(asked))
"""


def test_stopping_again_sends_no_second_ctrl_c(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = subprocess.Popen(
        [sys.executable, "-c", _TRAINS, run],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert training.stdout is not None
    assert training.stdout.readline() == "up\n"
    for _ in range(3):  # each a click, in this window or another
        stop_training(RunDirectory(run))
    said, _ = training.communicate("\n", timeout=30)
    assert said == "1\n"
