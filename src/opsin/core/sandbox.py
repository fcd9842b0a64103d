"""Runs functions in disposable processes with limits on time and memory.

A hostile file can make a decoder loop, exhaust memory or crash: this costs one answer.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final, cast

from opsin.core import child_process
from opsin.core.child_process import Header
from opsin.core.errors import OpsinError, SandboxError
from opsin.core.platform import limit_computing, limit_process, prefer_as_oom_victim

# Factor by which a call may take longer on a busy machine.
_PATIENCE: Final = 3
_ADVICE: Final = "Leave the file out, or save it again."

#: The function inside: from header and body to header and parts of a body.
Task = Callable[[Header, bytes], tuple[Header, Sequence[bytes]]]


class Sandbox:
    """Processes that run one task on request, each in so many seconds and bytes of memory."""

    def __init__(self, task: str, *, seconds: float, memory: int, processes: int = 1) -> None:
        self._task, self._seconds, self._memory = task, seconds, memory
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)
        weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        """Run the task and return the header and the body of its answer."""
        child = self._idle.get()
        try:
            if child is None or not child.usable:
                child = _Child(self._task, self._seconds, self._memory)
            reply, content = child.ask(header, body)
        except BaseException:
            if child is not None:
                child.kill()
            self._idle.put(None)
            raise
        self._idle.put(child)
        if "error" not in reply:
            return reply["answer"], content
        if reply["error"] == ["MemoryError"]:
            raise SandboxError(f"it takes more than {self._memory >> 20:,} MB of memory", _ADVICE)
        raise child_process.error_from(reply["error"])

    def close(self) -> None:
        """End the idle processes; a later call starts new ones."""
        _end_all(self._idle)


def _end_all(idle: queue.LifoQueue[_Child | None]) -> None:
    with idle.mutex:
        children, idle.queue[:] = list(idle.queue), [None] * len(idle.queue)
    for child in filter(None, children):
        child.kill()


class _Child:
    def __init__(self, task: str, seconds: float, memory: int) -> None:
        self.seconds = seconds
        # A fork shares the pipes: two owners would mix up their answers.
        self.owner = os.getpid()
        command = child_process.module_command(
            "opsin.core.sandbox", task, str(seconds), str(memory)
        )
        # Each thread's own heap would reserve 64 MB of addresses.
        environment = child_process.child_environment(one_thread=True) | {"MALLOC_ARENA_MAX": "2"}
        # Not the file's fault: it must not be skipped for this.
        refused = OpsinError("The process that opens files did not start", "Close other programs.")
        try:
            self.process = subprocess.Popen(  # noqa: S603  the interpreter that runs this
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise refused from error
        self.input = cast(BinaryIO, self.process.stdin)
        self.output = cast(BinaryIO, self.process.stdout)
        # It reports when it is ready, so that imports do not count for the first call.
        if child_process.receive(self.output) is None:
            self.kill()
            raise refused

    @property
    def usable(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        # The child limits its own computing time; this one allows for a busy machine.
        timer = threading.Timer(_PATIENCE * self.seconds, end)
        timer.daemon = True
        timer.start()
        answer = None
        try:
            with contextlib.suppress(OSError):
                child_process.send(self.input, header, [body])
                answer = child_process.receive(self.output)
        finally:
            timer.cancel()
        if answer is not None:
            return answer
        ended = child_process.exit_reason(self.process.wait())
        if late.is_set() or ended == "SIGPROF":
            raise SandboxError("it takes too long to compute", _ADVICE)
        raise SandboxError(f"the process that opened it ended ({ended})", _ADVICE)

    def kill(self) -> None:
        if self.owner != os.getpid():
            return
        self.process.kill()
        for pipe in (self.input, self.output):
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait()


def main() -> None:
    """Serve the pipes that are this process's standard streams until the other side closes."""
    where, seconds, memory = sys.argv[1:]
    module, function = where.split(":")
    target = child_process.take_output()
    prefer_as_oom_victim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who ends this
    warnings.simplefilter("ignore")
    task: Task = getattr(importlib.import_module(module), function)
    limit_process(int(memory))
    child_process.send(target, {"ready": True})
    while (frame := child_process.receive(sys.stdin.buffer)) is not None:
        parts: Sequence[bytes] = ()
        try:
            limit_computing(float(seconds))
            answer, parts = task(*frame)
            limit_computing(0)
            reply: Header = {"answer": answer}
        except OpsinError as error:
            reply = {"error": child_process.error_values(error)}
        except MemoryError:
            reply = {"error": ["MemoryError"]}
        child_process.send(target, reply, parts)


if __name__ == "__main__":
    main()
