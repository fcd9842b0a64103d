"""A child process that outlives the studio; a lock shows that it is running."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from opsin.core.artifacts.run_directory import RUN_NAME
from opsin.core.child_process import child_environment
from opsin.core.errors import RunError
from opsin.core.platform import (
    CHILDREN_INHERIT,
    end_group,
    inheritable_lock,
    interrupt,
    is_locked,
    process_exists,
)
from opsin.studio.jobs.job import LOG, OUTPUT

_LOCK: Final = "alive.lock"


class JobProcesses:
    """The processes of jobs: each holds the lock of its job's folder as long as it lives."""

    def __init__(self) -> None:
        self._own: dict[Path, subprocess.Popen[bytes]] = {}

    def start(self, folder: Path, argv: Sequence[str], *, cwd: Path, run: str = "") -> int:
        """Start a process of its own session that outlives this one, and return its number."""
        if not CHILDREN_INHERIT:
            raise RunError(
                "Linux or macOS, where a job is a lock that its process holds",
                "this is Windows",
                "Train from the command line: opsin train …",
            )
        if not argv:
            raise RunError(
                "a job with a command line", "its file was damaged", "Remove it, and ask again."
            )
        environment = child_environment() | ({RUN_NAME: run} if run else {})
        try:
            # After this block the child alone holds the lock.
            with (
                inheritable_lock(folder / _LOCK) as lock,
                (folder / OUTPUT).open("wb") as out,
                (folder / LOG).open("ab") as log,
            ):
                child = subprocess.Popen(  # noqa: S603  a list that we built
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=cwd,
                    start_new_session=True, pass_fds=(lock,), env=environment,
                )  # fmt: skip
        except BlockingIOError:
            raise RunError(
                "a job without a process", "its process is running", "Wait until it ends."
            ) from None
        self._own[folder] = child
        return child.pid

    def alive(self, folder: Path, pid: int | None) -> bool:
        """Tell whether the job's process is there."""
        if not is_locked(folder / _LOCK):
            return False
        own = self._own.get(folder)
        gone = own.poll() is not None if own else pid is not None and not process_exists(pid)
        if gone and pid is not None:
            end_group(pid)
        return not gone

    def status(self, folder: Path) -> int | None:
        """Return the exit status of a process that is gone, where this process started it."""
        child = self._own.pop(folder, None)
        if child is None:
            return None
        try:
            # The lock is free a moment before the status can be had.
            return child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._own[folder] = child
            return None

    def interrupt(self, folder: Path, pid: int | None) -> None:
        """Ask the process to stop, as Ctrl-C does; nothing where it is gone."""
        if pid is not None and self.alive(folder, pid):
            with contextlib.suppress(ProcessLookupError):
                interrupt(pid)

    def end(self, folder: Path, pid: int | None) -> None:
        """End the process, and what it started, at once."""
        if pid is not None and self.alive(folder, pid):
            end_group(pid)
