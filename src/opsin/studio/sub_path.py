"""A studio below a path of another site, which a proxy with HTTPS passes on."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def below(app: ASGIApp, sub_path: str) -> ASGIApp:
    """Serve an application below a path, and keep its redirects there and in their scheme.

    The proxy passes whole paths on. Headers that name another path are not believed: any visitor
    can send them.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        if sub_path and not scope["path"].startswith(f"{sub_path}/"):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            is_start = scope["path"] in ("/", sub_path)
            reply = (
                RedirectResponse(f"{sub_path}/", 303)
                if is_start
                else PlainTextResponse(f"The studio is at {sub_path}/", 404)
            )
            await reply(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")

        async def send_there(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _location(value, host) if name.lower() == b"location" else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        await app({**scope, "root_path": sub_path}, receive, send_there)

    def _location(value: bytes, host: str) -> bytes:
        """An address of this server without scheme and host, below the path."""
        where = value.decode("latin-1").removeprefix(f"http://{host}")
        if where.startswith("/") and not f"{where}/".startswith(f"{sub_path}/"):
            where = sub_path + where
        return where.encode("latin-1")

    return call
