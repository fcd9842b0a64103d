"""Bound addresses, the server that runs on one, and time limits for its HTTP connections.

uvicorn 0.54 waits for headers without a limit, keeps as many as the client sends, and waits for
clients that do not read: a few hundred slow clients could block a server ("slowloris"), or fill its
memory. So `_Connection` watches the bytes, and `ConnectionLimits.around` the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from opsin.core.errors import RecipeError
from opsin.core.platform import reuse_address
from opsin.web import refusals
from opsin.web.addresses import ADDRESS_ADVICE

#: Open files that a server asks for: each connection is one.
OPEN_FILES: Final = 65_536
#: Most connections waiting to be accepted; systems may lower it.
BACKLOG: Final = 4096
#: Most seconds for a request's headers, or for the rest of a refused body.
HEADER_SECONDS: Final = 10.0
#: Most seconds for a client to read its reply.
PATIENCE_SECONDS: Final = 20.0
# Most bytes of headers.
_HEADER_BYTES: Final = 65_536
# Most bytes of a refused body that are discarded, so that the client gets to read the reply;
# fewer without a stated length.
_FORGOTTEN: Final = 100_000_000
_FORGOTTEN_CHUNKS: Final = 20_000_000
_CLOSE: Final = {"connection": "close"}
_HTTP_ADVICE: Final = "Use an HTTP client, set to HTTP/1.1."


@contextlib.contextmanager
def listening(host: str, port: int, *, further: int = 0) -> Iterator[socket.socket]:
    """Listen on an address, or on the next free port; connections wait until accepted."""
    name = "127.0.0.1" if host.lower() == "localhost" else host
    last = min(port + further, 65_535)
    for candidate in range(port, last + 1):
        with contextlib.ExitStack() as stack:
            try:
                family, kind, protocol, _, address = socket.getaddrinfo(
                    name, candidate, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )[0]
                held = stack.enter_context(socket.socket(family, kind, protocol))
                reuse_address(held)
                held.bind(address)
                held.listen(BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or candidate == last:
                    raise _explained(error, host, candidate) from error
                continue
            yield held
            return


def _explained(error: OSError, host: str, port: int) -> RecipeError:
    if error.errno == errno.EADDRINUSE:
        return RecipeError(f"Port {port} of {host} is in use", "Choose another, or 0 for any.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return RecipeError(f"Port {port} of {host} is not for this user", "Choose one above 1023.")
    reason = (error.strerror or str(error)).lower()
    return RecipeError(f"{host} is no address of this machine: {reason}", ADDRESS_ADVICE)


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


class ConnectionLimits:
    """Connection limits of one server; `protocol` is uvicorn's factory."""

    def __init__(self, most: int = 12_000, most_web_sockets: int = 0) -> None:
        self.most, self.most_web_sockets = most, most_web_sockets
        self.protocol = functools.partial(_Connection, self)
        logging.getLogger("uvicorn.error").addFilter(_is_no_client_that_left)
        self.open: dict[tuple[str, int] | None, _Connection] = {}  # by the client's address
        self._web_sockets = 0

    def around(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application so that connections know their requests."""

        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            connection = self.open.get(scope.get("client"))
            if connection is None:
                await app(scope, receive, send)
            elif scope["type"] == "http":
                await self._request(connection, app, scope, receive, send)
            else:
                connection.wait(None)  # uvicorn takes over
                full = self._web_sockets >= self.most_web_sockets or connection.too_many
                self._web_sockets += 1
                try:
                    await (_refuse_web_socket if full else app)(scope, receive, send)
                finally:
                    self._web_sockets -= 1
                    connection.forget()

        return limited

    async def _request(
        self, connection: _Connection, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = dict(scope["headers"])
        stated = headers.get(b"content-length", b"0")
        rest = int(stated) if stated.isdigit() else 0
        if b"transfer-encoding" in headers:
            rest = _FORGOTTEN_CHUNKS
        error: refusals.RequestError | None = None
        if connection.too_many:
            error = refusals.TooManyConnections(f"There are more than {self.most:,} connections")
        elif sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            error = refusals.LongHeaders("The headers have more than 64 KB")
        elif rest and b"upgrade" in headers.get(b"connection", b"").lower():
            # The body would be dropped: better an error than an empty image.
            error = refusals.BadRequest("A request with a body asks for Upgrade", _HTTP_ADVICE)

        async def receive_and_look() -> Message:
            nonlocal rest
            message = await receive()
            more = message.get("more_body", False)
            rest = max(0, rest - len(message.get("body", b""))) if more else 0
            return message

        connection.begin()
        answer = refusals.error_reply(error, _CLOSE) if error else app
        try:
            await answer(scope, receive_and_look, send)
        finally:
            connection.end(rest)


class _Connection(HttpToolsProtocol):
    def __init__(self, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(**named)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._requests = 0  # in progress
        self._begun = 0  # so far
        self._outside = 0  # bytes received between requests
        self._rest = 0  # of these, possibly the rest of a request answered early

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits.open[self.client] = self
        self.too_many = len(self._limits.open) > self._limits.most
        self.wait(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wait(None)
        self.resume_writing()
        self.forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        inside = self._requests > 0
        if not inside:
            self._outside += len(data)
            if self._timer is None:
                self.wait(HEADER_SECONDS)
        super().data_received(data)
        if not inside:
            # After any request that begins with it has begun.
            self.loop.call_soon(self._check, self._outside, self._begun)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP in the usual error shape; uvicorn sends plain text."""
        self._refuse(refusals.BadRequest(msg.rstrip("."), _HTTP_ADVICE))

    def wait(self, seconds: float | None) -> None:
        """Close the connection if no request begins in time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def begin(self) -> None:
        """A request's headers have arrived."""
        self._requests += 1
        self._begun += 1
        self._outside = self._rest = 0
        self.wait(None)

    def end(self, rest: int) -> None:
        """The request is answered, maybe before all of it arrived."""
        self._requests -= 1
        self._rest = min(rest, _FORGOTTEN)
        if rest:
            self.wait(HEADER_SECONDS)

    def forget(self) -> None:
        if self._limits.open.get(self.client) is self:
            del self._limits.open[self.client]

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()
        self.forget()

    def _check(self, outside: int, begun: int) -> None:
        """Close the connection if more came between requests than headers may have."""
        too_long = outside > self._rest + _HEADER_BYTES
        if self._begun != begun or self.transport.is_closing() or not too_long:
            return
        if self._rest:
            self.transport.close()
        else:
            self._refuse(refusals.LongHeaders("The headers have more than 64 KB"))

    def _refuse(self, error: refusals.RequestError) -> None:
        reply = refusals.error_reply(error, _CLOSE)
        lines = (b"%b: %b\r\n" % header for header in reply.raw_headers)
        head = STATUS_LINE[error.status] + b"".join(lines) + b"\r\n"
        self.transport.write(head + bytes(reply.body))
        self.transport.close()


async def _refuse_web_socket(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1013, "reason": "too many"})


def _is_no_client_that_left(record: logging.LogRecord) -> bool:
    # When a connection is lost, uvicorn tells only its last request; the others
    # fail on writing, with which no client may fill the log.
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, RuntimeError) and "handler is closed" in str(error))
