"""The door of a studio: what every request passes, and how its owner and guests sign in."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.core.errors import OpsinError, StorageError
from opsin.core.platform import is_our_connection
from opsin.core.storage import storage_errors
from opsin.studio.people import People, visitor
from opsin.studio.settings import StudioSettings
from opsin.studio.ui.layout import head
from opsin.web.access import FIELD, AccessMiddleware, SignIn
from opsin.web.addresses import token_from_file, url_of

# Proxy headers, which NiceGUI would trust from anyone.
_DROPPED: Final = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-real-ip",
)  # fmt: skip
# Pages load everything from here. NiceGUI compiles templates in the browser, hence
# 'unsafe-inline' and 'unsafe-eval'; script attributes such as onerror= are forbidden, which is how
# a name that holds HTML would run one.
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
}


class Door(SignIn):
    """Lets in the owner, whose browsers stay signed in after a restart, and the people invited.

    Another token signs owners out. If nobody else is to come in, cookies are taken from this
    account's connections alone: while the studio is away, another account can listen on its port,
    and is shown the cookies of its browsers.
    """

    def __init__(self, settings: StudioSettings, people: People, port: int = 0) -> None:
        key = hmac.new(_secret(settings.home), (settings.token or "").encode(), hashlib.sha256)
        name = f"opsin-studio-{port}"  # two studios differ by port
        super().__init__(name, sign_in_page, key.hexdigest())
        self.start = url_of(settings.host, port) + settings.sub_path
        self.used = self._renew
        self._settings, self._people, self._code = settings, people, ""
        self._alone = not (settings.token or settings.allowed_hosts or settings.share)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Wrap the studio: every request needs a cookie, a code, the token or an invitation."""
        given = self._settings
        door = AccessMiddleware(
            self._while_allowed(app),
            host=given.host,
            headers=_HEADERS,
            token=given.token,
            allowed_hosts=given.allowed_hosts,
            sign_in=self,
            dropped=_DROPPED,
        )
        return _below(door, given.sub_path)

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries a cookie; if so, note whose."""
        client, server = scope.get("client"), scope.get("server")
        person = self._people.of_cookie(self.cookie_of(scope))
        if super().knows(scope):
            now = int(time.monotonic()) // 5  # the account of a connection is remembered so long
            own = not (self._alone and client and server) or _is_own(client[1], server[1], now)
            person = self._people.owner if own else None
        # Of nobody, too: a request may inherit the context of the one before on its connection.
        visitor.set(person or self._people.owner)
        return person is not None

    def cookie_for(self, shown: str, token: bytes | None) -> str | None:
        """Also exchange an invitation."""
        return super().cookie_for(shown, token) or self._people.redeem(shown)

    def new_address(self) -> str:
        """An address that signs in once."""
        return f"{self.start}/?{FIELD}={self.new_code()}"

    def write_entrance(self) -> None:
        """Write the local page, for its owner alone, that opens the studio signed in."""
        to = self.new_address()
        self._code = to.rpartition("=")[2]
        page = (
            '<!doctype html><meta charset="utf-8"><title>Opsin</title>'
            f'<meta http-equiv="refresh" content="0;url={to}"><a href="{to}">Open the studio</a>\n'
        )
        file = self._settings.entrance
        unfinished = file.with_suffix(".unfinished")
        with storage_errors(file):
            unfinished.unlink(missing_ok=True)
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(page)
            unfinished.replace(file)

    def _renew(self, used: str) -> None:
        if used == self._code:
            with contextlib.suppress(StorageError):  # the visitor is in anyway
                self.write_entrance()

    def _while_allowed(self, app: ASGIApp) -> ASGIApp:
        """Nothing goes through the windows of people whose access has ended."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            closed, person = False, visitor.get()
            if scope["type"] != "websocket" or not person.id:
                await app(scope, receive, send)
                return

            async def receive_if_allowed() -> Message:
                message = await receive()
                return message if person.allowed else {"type": "websocket.disconnect"}

            async def send_or_close(message: Message) -> None:
                nonlocal closed
                if person.allowed:
                    await send(message)
                elif not closed:
                    closed = True
                    await send({"type": "websocket.close", "code": 1008})

            await app(scope, receive_if_allowed, send_or_close)

        return call


def _secret(home: Path) -> bytes:
    """The secret of cookies, made anew if it is missing, damaged or others can read it."""
    file = home / "sign-in.key"
    with contextlib.suppress(OpsinError):
        return token_from_file(file).encode()
    with storage_errors(file):
        file.unlink(missing_ok=True)
    return token_from_file(file).encode()


@functools.lru_cache(1000)
def _is_own(client: int, server: int, _: int) -> bool:
    return is_our_connection(client, server)


def _below(app: ASGIApp, sub_path: str) -> ASGIApp:
    """Serve an application below a path, and keep its redirects there and in their scheme.

    The proxy passes whole paths on. Headers that name another path are not believed: any visitor
    can send them.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""

        def there(location: bytes) -> bytes:
            where = location.decode("latin-1").removeprefix(f"http://{host}")
            if where.startswith("/") and not f"{where}/".startswith(f"{sub_path}/"):
                where = sub_path + where
            return where.encode("latin-1")

        async def send_there(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, there(value) if name.lower() == b"location" else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        if scope["type"] != "http" or scope["path"].startswith(f"{sub_path}/"):
            await app({**scope, "root_path": sub_path}, receive, send_there)
        elif scope["path"] in ("/", sub_path):
            await RedirectResponse(f"{sub_path}/", 303)(scope, receive, send)
        else:
            await PlainTextResponse(f"The studio is at {sub_path}/", 404)(scope, receive, send)

    return call


def sign_in_page(wrong: bool, further: Sequence[tuple[str, str]]) -> str:
    """Ask for the token, by HTML that needs nothing else.

    ``wrong`` says that a wrong token was shown; ``further`` are the other fields of the address
    that was asked for, which are handed on.
    """
    alert = "This token is wrong, or was used before." if wrong else ""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in further
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · Opsin</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">{head()}</head>
<body><main class="page stack sign-in">
<h1>Opsin studio</h1>
<p>Open the link that the terminal shows after “Link”, or the one you were sent. It works once. For
another one, start <code>opsin studio</code> again, which names a file to open, or ask the studio's
owner. If the studio was started with a token, you can enter it here.</p>
{alert and f'<p role="alert" class="error">{alert}</p>'}
<form method="get" class="stack">{hidden}
<label for="token">Token</label>
<input id="token" name="{FIELD}" type="password" autocomplete="current-password" required autofocus>
<button>Open</button></form></main></body></html>
"""
