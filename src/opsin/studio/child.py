"""A process of the studio's own that answers questions."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from opsin.core import child_process
from opsin.core.errors import OpsinError
from opsin.core.platform import end_group

#: Progress callback: current work, units done, units in all (0: unknown).
OnProgress = Callable[[str, int, int], object]


class Child:
    """A process that starts with a question, and ends after ``idle`` seconds without one.

    Its errors do not name the folder ``place``, which no page shows.
    """

    def __init__(
        self, module: str, *words: str, place: Path, idle: float, one_thread: bool = False
    ) -> None:
        self._command, self._place = child_process.module_command(module, *words), place
        self._environment = child_process.child_environment(one_thread=one_thread)
        self.process: asyncio.subprocess.Process | None = None
        self._killed = False  # the system says so a moment later
        self._idle, self._timer = idle, asyncio.get_running_loop().call_later(idle, self.kill)

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.returncode is None and not self._killed

    async def ask(
        self, question: child_process.Header, content: bytes, tell: OnProgress
    ) -> tuple[child_process.Header, bytes]:
        """Its answer, or the error that it names; it is ended if none comes."""
        self._timer.cancel()
        try:
            answer, body = await self._answer(question, content, tell)
        except BaseException:
            self.kill()  # its next answer would be to this question
            raise
        self._timer = asyncio.get_running_loop().call_later(self._idle, self.kill)
        if "error" in answer:
            error = child_process.error_from(answer["error"])
            inside = error.replace(f"{self._place}{os.sep}", "")
            raise inside.replace(str(self._place), self._place.name)
        return answer, body

    async def _answer(
        self, question: child_process.Header, content: bytes, tell: OnProgress
    ) -> tuple[child_process.Header, bytes]:
        if self.process is None or not self.alive:
            self._killed = False
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        source, target = self.process.stdout, self.process.stdin
        assert source is not None
        assert target is not None
        with contextlib.suppress(ConnectionError):  # then receiving fails below
            target.writelines(child_process.pack(question, [content]))
            await target.drain()
        while (frame := await child_process.receive_async(source)) is not None:
            if "progress" not in frame[0]:
                return frame
            tell(*frame[0]["progress"])
        reason = child_process.exit_reason(await self.process.wait())
        raise OpsinError(f"The work was ended by {reason} (too little memory?)", "Ask again.")

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.returncode is None:
            self._killed = True
            end_group(self.process.pid)

    async def end(self) -> None:
        """End it, and wait for that."""
        self.kill()
        if self.process is not None:
            await self.process.wait()
