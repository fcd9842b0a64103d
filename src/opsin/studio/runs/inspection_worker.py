"""A child process that looks into one run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.child_process import (
    Header,
    child_environment,
    error_from,
    exit_reason,
    module_command,
    pack,
    receive_async,
)
from opsin.core.errors import OpsinError
from opsin.core.files import FileStamp
from opsin.core.platform import end_group

#: Called as the work goes on: what is done, units done, units in all (0: unknown).
OnProgress = Callable[[str, int, int], object]

# Seconds that a busy worker gets to leave nothing half written behind.
_GRACE: Final = 2.0


class InspectionWorker:
    """One child process and the run that it looks into."""

    def __init__(self, directory: RunDirectory, stamp: FileStamp, folder: Path, log: Path) -> None:
        self.busy = False
        self._directory = directory
        self._stamp = stamp
        self._folder = folder
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def fits(self, stamp: FileStamp) -> bool:
        """Return whether it is running and has this classifier open."""
        running = self._process is not None and self._process.returncode is None
        return running and self._stamp == stamp

    def taken(self) -> InspectionWorker:
        """Reserve it for one question."""
        self.busy = True
        if self._timer is not None:
            self._timer.cancel()
        return self

    def later(self, seconds: float, end: Callable[[], Any]) -> None:
        """Call something that ends it, unless it is taken first."""

        def call() -> None:
            task = asyncio.ensure_future(end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    async def start(self) -> None:
        """Start the process, if that was not done yet."""
        if self._process is not None:
            return
        run = str(self._directory.path.absolute())
        with await asyncio.to_thread(self._log.open, "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *module_command("opsin.commands.inspect_worker", run, str(self._folder)),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                cwd=self._folder, env=child_environment(), start_new_session=True,
            )  # fmt: skip

    async def ask(self, question: Header, content: bytes, on_progress: OnProgress) -> Header:
        """Send a question and return the header that answers it."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise await asyncio.to_thread(self._death, None)
        with contextlib.suppress(ConnectionError):  # then nothing can be received below
            process.stdin.writelines(pack(question, [content]))
            await process.stdin.drain()
        while (frame := await receive_async(process.stdout)) is not None:
            answer, _ = frame
            if "error" in answer:
                raise without_path(error_from(answer["error"]), self._directory)
            if "progress" not in answer:
                return answer
            on_progress(*answer["progress"])
        raise await asyncio.to_thread(self._death, await process.wait())

    async def end(self) -> None:
        """End the process; a busy one may first remove what is half written."""
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        if self.busy:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.send_signal(signal.SIGINT)
                await asyncio.wait_for(process.wait(), _GRACE)
        if process.returncode is None:
            end_group(process.pid)
        await process.wait()

    def _death(self, status: int | None) -> OpsinError:
        """Say how the process ended: by which signal, or with the last line that it printed."""
        if status is not None and status < 0:
            reason = f"its process was ended by {exit_reason(status)} (too little memory?)"
        else:
            try:
                lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError:
                lines = []
            printed = [line for line in lines if line.strip()]
            reason = printed[-1] if printed else "its process ended without a message"
        error = OpsinError("a look inside the run", reason.rstrip("."), "Ask again.")
        return without_path(error, self._directory)


def without_path(error: OpsinError, directory: RunDirectory) -> OpsinError:
    """Return an error about a run without the folder that it lies in: no page shows a path."""
    path, name = str(directory.path.absolute()), directory.path.name
    parts = (error.expected, error.received, error.advice)
    return OpsinError(*(part.replace(f"{path}{os.sep}", "").replace(path, name) for part in parts))
