"""Trainings that the studio did not start: stopped, or continued as one of its jobs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from opsin.core.artifacts.records import RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.platform import command_line, interrupt
from opsin.data.run_images import recipe_of_run
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue
from opsin.studio.people import require

# Processes that were asked to stop, by run and number: a second Ctrl-C would break them off.
_ASKED: Final[set[tuple[Path, int]]] = set()
_ASKING: Final = threading.Lock()


def stop_training(directory: RunDirectory) -> None:
    """Stop a training as Ctrl-C does, once, or raise a `RunError`."""
    require("owner")
    # Its lock, not a number in a file, says that the process lives.
    state, _ = directory.state()
    pid = directory.read(RunStatus).pid
    try:
        words = command_line(pid)  # None where the system does not say it
        if state != "running" or not (words is None or "opsin" in words or "python" in words):
            raise ProcessLookupError
        with _ASKING:
            if (directory.path, pid) not in _ASKED:
                interrupt(pid)
                _ASKED.add((directory.path, pid))
    except ProcessLookupError:
        raise RunError("The training has ended", "Load this page again.") from None
    except PermissionError:
        raise RunError(
            "The training belongs to another account", "Stop it where it runs."
        ) from None


def can_continue(directory: RunDirectory) -> bool:
    """Whether a training can go on from where it broke off."""
    return any(directory.checkpoints.glob("*.json"))


def continue_training(jobs: Queue, directory: RunDirectory, title: str, project: str) -> None:
    """Put the rest of a training into the queue, unless another window was quicker."""
    recipe_of_run(directory)  # or it is asked where the images are
    job = jobs.of_run(directory.path.name)
    if job is None:
        words, run = command("resume", directory.path), directory.path.name
        jobs.add("train", title, words, run=run, project=project, goes_on=True)
    elif job.over:
        jobs.resume(job.id)
