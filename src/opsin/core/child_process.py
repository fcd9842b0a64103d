"""Child processes and calls in threads: how they start, communicate and end.

A frame is the header's length (4 bytes, little-endian), the body's length (8 bytes), the header
(short JSON), the body. Unlike with pickle, nothing that arrives is executed.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import opsin.core.errors
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher

if TYPE_CHECKING:
    import asyncio

# Prefixes not passed on: the web framework's, the tests', and the servers' token.
_PRIVATE: Final = ("NICEGUI_", "PYTEST_", "OPSIN_TOKEN")


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of Opsin's with this interpreter."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(*, one_thread: bool = False) -> dict[str, str]:
    """This process's environment without private variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
    if one_thread:
        kept |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # The working folder may hold uploads, and must not be searched for modules.
    return kept | {"PYTHONSAFEPATH": "1"}


def exit_reason(status: int) -> str:
    """Name the signal that ended a process, or its exit status."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"


def error_values(error: OpsinError) -> list[str]:
    """An error as plain values, which `error_from` turns into the error again."""
    return [type(error).__name__, error.message, error.advice]


def error_from(parts: Sequence[str]) -> OpsinError:
    """The error that a child described; an unknown class becomes `OpsinError`."""
    kind, message, advice = parts
    known = getattr(opsin.core.errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, OpsinError)):
        known = OpsinError
    error = known.__new__(known, message, advice)
    OpsinError.__init__(error, message, advice)  # the subclass's may take other arguments
    return error


def take_output(*, or_end: bool = False) -> BinaryIO:
    """This process's standard output, or its end once nothing reads it; prints go to stderr."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if or_end and hasattr(select, "poll"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        (waiting := select.poll()).register(output, 0)  # of no event but that
        threading.Thread(target=lambda: waiting.poll() and os._exit(0), daemon=True).start()
    return output


_LENGTHS: Final = struct.Struct("<IQ")

Header = dict[str, Any]


def pack(header: Header, parts: Sequence[bytes] = ()) -> list[bytes]:
    """A frame in pieces, to be sent one after another."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return [_LENGTHS.pack(len(head), sum(map(len, parts))) + head, *parts]


def send(stream: BinaryIO, header: Header, parts: Sequence[bytes] = ()) -> None:
    """Write a frame to a buffered pipe."""
    stream.writelines(pack(header, parts))
    stream.flush()


# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2


class Answering(Watcher):
    """What a child process is for: it answers one frame after another, and says how far it is."""

    target: BinaryIO
    _what, _total, _sent = "", 0, 0.0

    def answer(self, asked: Header, content: bytes) -> tuple[object, Sequence[bytes]]:
        """What is said to a question, and the images that go with it."""
        raise NotImplementedError

    def rest(self, asked: Header) -> None:
        """What may be done once a question is answered."""

    def answer_frames(self, source: BinaryIO) -> None:
        """Answer questions until there are no more, one frame each."""
        while (frame := receive(source)) is not None:
            images: Sequence[bytes] = ()
            try:
                said, images = self.answer(*frame)
                reply = {"said": said, "images": list(map(len, images))}
            except OpsinError as error:
                reply = {"error": error_values(error)}
            except (OSError, MemoryError) as error:
                reason = "too little memory"
                if isinstance(error, OSError):  # without its path
                    reason = error.strerror or str(error)
                failed = OpsinError(f"This did not work: {reason}", "Try again.")
                reply = {"error": error_values(failed)}
            send(self.target, reply, images)
            self.rest(frame[0])

    def doing(self, what: str) -> None:
        """Tell what is done."""
        if what != self._what:
            self.begin(what, 0, "")

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        """Tell what begins."""
        self._what, self._total, self._sent = what, total, 0.0
        self.advance(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        """Tell how far it is, a few times a second."""
        if time.monotonic() - self._sent >= _EVERY:
            self._sent = time.monotonic()
            send(self.target, {"progress": [self._what, done, self._total]})


class Unpacker:
    """Reassembles frames from pieces of any size."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[Header, bytes]]:
        """The frames that are now complete: header and body."""
        held = self._held
        held += piece
        while len(held) >= _LENGTHS.size:
            head, body = _LENGTHS.unpack_from(held)
            start = _LENGTHS.size + head
            if len(held) < start + body:
                return
            header = json.loads(held[_LENGTHS.size : start])
            content = bytes(memoryview(held)[start : start + body])
            del held[: start + body]
            yield header, content


def receive(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """Wait for a frame from a buffered pipe or socket; ``None`` if the other side has closed."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head, body = _LENGTHS.unpack(lengths)
    header, content = stream.read(head), stream.read(body)
    if len(header) < head or len(content) < body:
        return None
    return json.loads(header), content


async def receive_async(stream: asyncio.StreamReader) -> tuple[Header, bytes] | None:
    """Wait for a frame as `receive` does, in an event loop."""
    try:
        head, body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        return json.loads(await stream.readexactly(head)), await stream.readexactly(body)
    except EOFError:  # asyncio.IncompleteReadError
        return None


T = TypeVar("T")

# Seconds between two checks of a call, and those that exit waits for an abandoned one.
_LOOK, _MOMENT = 0.2, 2.0


def call_in_thread(
    call: Callable[[], T], *, name: str, look: Callable[[], None] = lambda: None
) -> T:
    """Make a call in a thread of its own, and return its result."""
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            result.set_exception(error)

    # A daemon, so that the process can exit without an unwanted result.
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    done = False
    try:
        while not done:
            done = bool(wait([result], timeout=_LOOK).done)
            look()
    except BaseException:
        # Native code still running at interpreter shutdown often aborts the process (SIGABRT).
        atexit.register(thread.join, _MOMENT)
        raise
    return result.result()
