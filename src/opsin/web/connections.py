"""HTTP connections that come to an end, for every server of Opsin's.

uvicorn 0.54 waits for a request's headers as long as the client likes, keeps as many of them as it
sends, and closes a connection so that a client that still sends cannot read why. Each of these lets
a few hundred slow clients hold a server ("slowloris"), or its memory.

A request that becomes a WebSocket leaves these connections once its headers are there. How many
WebSockets there may be is checked here; how large their messages, and whether the other side still
answers, by uvicorn's settings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Any, ClassVar, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from opsin.web.refusals import (
    BadRequest,
    LongHeaders,
    RequestError,
    TooManyConnections,
    error_parts,
    json_bytes,
    refusal,
)

#: Seconds within which a request's headers must be there.
HEADER_SECONDS: Final = 10.0
#: Bytes that they may have.
HEADER_BYTES: Final = 65_536
#: Seconds that a client may take for reading a reply, or for the rest of a body that is refused.
PATIENCE_SECONDS: Final = 20.0
# Bytes of a refused body that are read and forgotten, so that the client comes to read the reply.
_FORGOTTEN: Final = 100_000_000


class Connection(HttpToolsProtocol):
    """One client's connection.

    Attributes:
        most: Connections at a time; beyond them, requests are refused with status 503.
        most_web_sockets: Of these, WebSockets; beyond them, further ones are refused.
    """

    most: ClassVar[int] = 12_000
    most_web_sockets: ClassVar[int] = 0

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._in_body = False
        self._received = 0
        self._wrong = ""
        self._requests: deque[RequestResponseCycle] = deque()

    def connection_made(  # type: ignore[override]  # as uvicorn does
        self, transport: asyncio.Transport
    ) -> None:
        """Start to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.app = self._too_many
        self._wait(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._wait(None)
        self._expect_reading(expected=False)
        super().connection_lost(exc)
        for request in self._requests:  # uvicorn tells the last one alone
            request.disconnected = True
            request.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_web_socket():
            return
        if self._in_headers and self._received > HEADER_BYTES:
            self._refuse(LongHeaders("headers of at most 64 KB", "they have more", "Send fewer."))
        elif self._is_refused() and self._received > _FORGOTTEN:
            self.transport.close()
        elif self._timer is None and self._is_idle():
            self._wait(HEADER_SECONDS)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers, self._received = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._wait(None)
        self._in_headers, self._in_body = False, True
        if self.parser.should_upgrade() and self._has_body():
            # httptools would leave out the body: better an error than an empty image.
            self._wrong = "it has a body and asks for another protocol (Upgrade)"
            raise ValueError(self._wrong)
        super().on_headers_complete()
        if not self._is_web_socket():
            self._requests.append(self.cycle)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._in_body = False
        self._received = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered, maybe before all of it was there."""
        self._requests.popleft()
        super().on_response_complete()
        if self._is_refused() and not self.transport.is_closing():
            self._received = 0
            self._wait(PATIENCE_SECONDS)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._expect_reading(expected=True)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._expect_reading(expected=False)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to a WebSocket, where one more may be."""
        self._expect_reading(expected=False)
        there = sum(not isinstance(each, Connection) for each in self.connections)
        if there >= self.most_web_sockets or self.app == self._too_many:
            self._refuse(self._full(f"at most {self.most_web_sockets:,} WebSockets"))
        else:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        wrong = self._wrong or f"it is none ({msg})"
        self._refuse(
            BadRequest("a request in HTTP/1.1", wrong, "Use an HTTP client, set to HTTP/1.1.")
        )

    def _is_web_socket(self) -> bool:
        """Tell whether the request asks for a WebSocket, and this server has any."""
        return self.parser.should_upgrade() and self._should_upgrade()

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
            for name, value in self.headers
        )

    def _is_idle(self) -> bool:
        """Tell whether part of the headers is there, or nothing but line breaks."""
        answered = self.cycle is None or self.cycle.response_complete
        return not self._in_body and answered and self.timeout_keep_alive_task is None

    def _is_refused(self) -> bool:
        """Tell whether a body still arrives whose request has been answered."""
        return self._in_body and self.cycle.response_complete

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _expect_reading(self, *, expected: bool) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._write_timer = (
            self.loop.call_later(PATIENCE_SECONDS, self.transport.abort) if expected else None
        )

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Answer without a request, and close."""
        content = json_bytes({"error": error_parts(error)})
        further = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n{further}"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + content)
        self.transport.close()

    async def _too_many(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = refusal(self._full(f"at most {self.most:,} connections"))
        reply.headers["connection"] = "close"
        await reply(scope, receive, send)

    def _full(self, expected: str) -> RequestError:
        return TooManyConnections(expected, "there are more", "Try again.")
