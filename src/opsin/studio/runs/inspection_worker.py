"""A child process that looks into one run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.child_process import child_environment, exit_reason
from opsin.core.errors import OpsinError

#: Told how far the work is: what is done, units done, units in all (0: nobody knows).
Told = Callable[[str, int, int], object]

# Bytes of one line of an answer at most: nine images, in base64.
_LINE: Final = 64 << 20
# Seconds that a busy worker gets to leave nothing half written behind.
_GRACE: Final = 2.0
#: The parts of an error.
PARTS: Final = ("expected", "received", "advice")


class InspectionWorker:
    """One child process and the run that it looks into.

    Args:
        directory: The run.
        folder: Where its pages go.
        log: The file that gets what it tells.

    Attributes:
        busy: Whether somebody waits for its answer.
    """

    def __init__(self, directory: RunDirectory, folder: Path, log: Path) -> None:
        self.busy = False
        self._directory = directory
        self._stamp = stamp_of(directory)
        self._folder = folder
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def fits(self, directory: RunDirectory) -> bool:
        """Tell whether it lives and has the file open that is there now."""
        lives = self._process is not None and self._process.returncode is None
        return lives and self._stamp == stamp_of(directory)

    def taken(self) -> InspectionWorker:
        """Keep it to whoever asks."""
        self.busy = True
        if self._timer is not None:
            self._timer.cancel()
        return self

    def later(self, seconds: float, end: Callable[[], Any]) -> None:
        """Call something that ends it, unless it is taken before."""

        def call() -> None:
            task = asyncio.ensure_future(end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    async def start(self) -> None:
        """Start the process, if that was not done yet."""
        if self._process is not None:
            return
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "opsin", "inspect", str(self._directory.path.absolute()),
                "--worker", "--quiet", "--out", str(self._folder),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                cwd=self._folder, env=child_environment(), start_new_session=True, limit=_LINE,
            )  # fmt: skip

    async def ask(self, line: bytes, tell: Told) -> dict[str, Any]:
        """Send a question and return the line that answers it.

        Raises:
            OpsinError: The process died.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise self._death(None)
        with contextlib.suppress(ConnectionError):  # its end is told below
            process.stdin.write(line)
            await process.stdin.drain()
        while answer := await process.stdout.readline():
            said: dict[str, Any] = json.loads(answer)
            if "progress" not in said:
                return said
            tell(*said["progress"])
        raise self._death(await process.wait())

    async def end(self) -> None:
        """End the process; one that is at work may first take away what is half written."""
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.busy:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _GRACE)
            if process.returncode is None:
                process.kill()
        await process.wait()

    def _death(self, status: int | None) -> OpsinError:
        """Say how the process ended; the last line that it wrote is its cause."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        if lines and lines[-1].startswith("opsin: "):
            said = lines[-1].removeprefix("opsin: ")
        elif status is not None and status < 0:
            said = f"its process was ended by {exit_reason(status)} (too little memory?)"
        else:
            said = lines[-1] if lines else "its process ended without a word"
        said = _without(self._directory, said)
        return OpsinError("a look inside the run", said.rstrip("."), "Ask again, it starts anew.")


def stamp_of(directory: RunDirectory) -> tuple[int, int]:
    """Return what changes when a run gets another classifier."""
    try:
        found = directory.classifier.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def without_path(error: OpsinError, directory: RunDirectory) -> OpsinError:
    """Return an error about a run without the folder that it lies in: no page shows a path.

    Args:
        error: What was said.
        directory: The run.
    """
    return OpsinError(*(_without(directory, getattr(error, part)) for part in PARTS))


def _without(directory: RunDirectory, text: str) -> str:
    whole = str(directory.path.absolute())
    return text.replace(f"{whole}{os.sep}", "").replace(whole, directory.path.name)
