"""Trainings that were started elsewhere, such as on a terminal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from opsin.core.artifacts.records import RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.platform import command_line, interrupt

# Processes that were asked to stop, by run and number: a second Ctrl-C would break them off.
_ASKED: Final[set[tuple[Path, int]]] = set()
_ASKING: Final = threading.Lock()


def stop_outside(directory: RunDirectory) -> None:
    """Stop a training that was started elsewhere, as Ctrl-C does; once, whoever asks again."""
    # Its lock, not a number in a file, shows that the process lives.
    state, _ = directory.state()
    pid = directory.read(RunStatus).pid
    if state != "running" or not _works_on(pid, directory.path):
        raise RunError("The training's process is gone", "Load this page again.")
    try:
        with _ASKING:
            if (directory.path, pid) not in _ASKED:
                interrupt(pid)
                _ASKED.add((directory.path, pid))
    except (ProcessLookupError, PermissionError) as error:
        message = "The training cannot be stopped from here"
        raise RunError(message, "Stop it where it was started.") from error


def _works_on(pid: int, run_path: Path) -> bool:
    """Whether a process is one of Opsin's, where the system says so."""
    try:
        words = command_line(pid)
    except ProcessLookupError:
        return False
    # Where the words are hidden, the run's lock has shown that a process works on it.
    return run_path.is_dir() if words is None else "opsin" in words or "python" in words
