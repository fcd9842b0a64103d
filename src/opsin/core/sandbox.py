"""Runs a function in a process that may die, with limits on time and memory.

A stranger's file can make a decoder loop, take all memory or crash: here it costs one answer.
"""

from __future__ import annotations

import contextlib
import importlib
import io
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

from opsin.core.child_process import (
    Header,
    child_environment,
    error_from,
    error_values,
    exit_reason,
    module_command,
    pack,
    receive,
    take_output,
    whole,
)
from opsin.core.errors import OpsinError, SandboxError
from opsin.core.platform import limit_computing, limit_process, prefer_as_oom_victim

#: Seconds and bytes of memory that opening one file may take.
SECONDS: Final = 5.0
MEMORY: Final = 512 << 20
# How many times as long a call may take where the machine is busy otherwise.
_PATIENCE: Final = 3
_ADVICE: Final = "Leave the file out, or save it again."

#: What runs inside: it takes a header and a body, and returns a header and the parts of a body.
Task = Callable[[Header, memoryview], tuple[Header, Sequence[bytes]]]


class Sandbox:
    """Keeps processes that run one task each time they are asked."""

    def __init__(
        self, task: str, *, seconds: float = SECONDS, memory: int = MEMORY, processes: int = 1
    ) -> None:
        self._task, self._seconds, self._memory = task, seconds, memory
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)
        weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, header: Header, body: bytes | memoryview = b"") -> tuple[Header, bytes]:
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
        raise error_from(reply["error"])

    def close(self) -> None:
        """End the idle processes; a later call starts new ones."""
        for _ in range(_end_all(self._idle)):
            self._idle.put(None)


def _end_all(idle: queue.LifoQueue[_Child | None]) -> int:
    """End the idle processes, and return how many places there were."""
    places = 0
    with contextlib.suppress(queue.Empty):
        while True:
            if (child := idle.get_nowait()) is not None:
                child.kill()
            places += 1
    return places


class _Child:
    """One process and its pipes."""

    def __init__(self, task: str, seconds: float, memory: int) -> None:
        self.seconds = seconds
        # A fork has the pipes but not the process: two owners would mix up their answers.
        self.owner = os.getpid()
        command = module_command("opsin.core.sandbox", task, str(seconds), str(memory))
        # Each thread's own heap would reserve 64 MB of addresses.
        environment = child_environment(one_thread=True) | {"MALLOC_ARENA_MAX": "2"}
        # No fault of the file, which must not be left out for it.
        refused = OpsinError(
            "The process that opens files did not start", "Close other programs and try again."
        )
        try:
            self.process = subprocess.Popen(  # noqa: S603  the interpreter that runs this
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment,
            )  # fmt: skip
        except OSError as error:
            raise refused from error
        self.input = cast(BinaryIO, self.process.stdin)
        self.output = cast(io.BufferedIOBase, self.process.stdout)
        # It says when it is ready, so that importing is no part of the first call's time.
        if receive(self.output) is None:
            self.kill()
            raise refused

    @property
    def usable(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, header: Header, body: bytes | memoryview) -> tuple[Header, bytes]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        # It ends by itself once it has computed for too long; that a machine is busy is no fault.
        timer = threading.Timer(_PATIENCE * self.seconds, end)
        timer.daemon = True
        timer.start()
        answer = None
        try:
            with contextlib.suppress(OSError):
                for part in pack(header, [cast(bytes, body)]):
                    self.input.write(part)
                self.input.flush()
                answer = receive(self.output)
        finally:
            timer.cancel()
        if answer is not None:
            return answer[0], whole(answer[1])
        ended = exit_reason(self.process.wait())
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


def echo(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Return what was sent, for tests and examples."""
    return header, [bytes(body)]


def _serve(task: Task, seconds: float, source: BinaryIO, target: BinaryIO) -> None:
    """Run the task for each frame until the other side closes."""
    while (frame := receive(cast(io.BufferedIOBase, source))) is not None:
        parts: Sequence[bytes] = ()
        try:
            limit_computing(seconds)
            answer, parts = task(*frame)
            limit_computing(0)
            reply: Header = {"answer": answer}
        except OpsinError as error:
            reply = {"error": error_values(error)}
        except MemoryError:
            reply = {"error": ["MemoryError"]}
        for part in pack(reply, parts):
            target.write(part)
        target.flush()


def main() -> None:
    """Serve the pipes that are this process's standard input and output."""
    where, seconds, memory = sys.argv[1:]
    module, function = where.split(":")
    target = take_output()
    prefer_as_oom_victim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who ends this
    warnings.simplefilter("ignore")
    task: Task = getattr(importlib.import_module(module), function)
    limit_process(int(memory))
    target.write(b"".join(pack({"ready": True})))
    target.flush()
    _serve(task, float(seconds), sys.stdin.buffer, target)


if __name__ == "__main__":
    main()
