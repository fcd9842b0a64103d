"""Bound addresses, and the server that runs on one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn

from opsin.core.errors import RecipeError
from opsin.core.platform import reuse_address
from opsin.web.addresses import ADDRESS_ADVICE

#: Open files that a server asks for: each connection is one.
OPEN_FILES: Final = 65_536
#: Most connections waiting to be accepted; systems may lower it.
BACKLOG: Final = 4096


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Bind an address for the block, without accepting connections yet."""
    name = "127.0.0.1" if host.lower() == "localhost" else host
    with contextlib.ExitStack() as stack:
        with _explained(host, port):
            family, kind, protocol, _, address = socket.getaddrinfo(
                name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            held = stack.enter_context(socket.socket(family, kind, protocol))
            reuse_address(held)
            held.bind(address)
        yield held


def listen(held: socket.socket, host: str, port: int) -> None:
    """Listen on a bound address; connections wait until accepted."""
    with _explained(host, port):
        held.listen(BACKLOG)


@contextlib.contextmanager
def listening(host: str, port: int, *, further: int = 0) -> Iterator[socket.socket]:
    """Listen on an address, or on the next free port."""
    with contextlib.ExitStack() as stack:
        for candidate in range(port, min(port + further, 65_535) + 1):
            try:
                held = stack.enter_context(bound(host, candidate))
                listen(held, host, candidate)
                break
            except RecipeError as error:
                in_use = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
                if not in_use or candidate == min(port + further, 65_535):
                    raise
        yield held


@contextlib.contextmanager
def _explained(host: str, port: int) -> Iterator[None]:
    """Turn an `OSError` about an address into a `RecipeError`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message, advice = f"Port {port} of {host} is in use", "Choose another, or 0 for any."
        elif error.errno in (errno.EACCES, errno.EPERM):
            message = f"This user may not open port {port} of {host}"
            advice = "Choose one above 1023."
        else:
            reason = (error.strerror or str(error)).lower()
            message = f"{host}, port {port}, is no address of this machine: {reason}"
            advice = ADDRESS_ADVICE
        raise RecipeError(message, advice) from error


class Server(uvicorn.Server):
    """uvicorn's server, which returns after a signal instead of raising it again."""

    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._say_started, self._say_stopping = started, stopping
        self.stopped_by: int | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM until the server is down."""
        stop_signals = (signal.SIGINT, signal.SIGTERM)
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in stop_signals}
        except ValueError:  # not in the main thread: stopped otherwise
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; on a second Ctrl-C without waiting for requests."""
        self.stopped_by = self.stopped_by or sig
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and wait for the open ones."""
        self._say_stopping()
        await super().shutdown(sockets)

    async def abandon(self) -> None:
        """Drop open connections, after a second Ctrl-C."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while self.server_state.tasks:
                    await asyncio.sleep(0.01)
