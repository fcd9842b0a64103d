"""Access control of the studio, and what its pages may do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import hmac
import os
import tempfile
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.core.errors import StorageError
from opsin.core.storage import storage_errors
from opsin.studio import StudioSettings
from opsin.studio.people import OWNER, People, Visitor, visitor
from opsin.web.access import FIELD, AccessMiddleware, Fields, SignIn
from opsin.web.addresses import token_from_file, url_of

# Proxy headers, which NiceGUI would trust from anyone.
_DROPPED: Final = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-real-ip",
)  # fmt: skip


# Pages load everything from here. NiceGUI compiles templates in the browser, hence
# 'unsafe-inline' and 'unsafe-eval'; script attributes such as onerror= are forbidden, which is how
# a name that holds HTML would run one.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "script-src-attr 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'"
)

#: A page in a run's folder is untrusted, since runs are copied between machines: it may run
#: its own scripts, but reaches nothing of the studio.
ALONE: Final = {
    "content-security-policy": "sandbox allow-scripts allow-popups allow-downloads; "
    "default-src 'none'; script-src 'unsafe-inline'; script-src-attr 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
}


def guarded(
    app: ASGIApp,
    *,
    host: str,
    sign_in: SignIn,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
) -> AccessMiddleware:
    """Wrap the studio in access checks: every request needs a token, a code or a cookie."""
    return AccessMiddleware(
        app,
        host=host,
        headers={"content-security-policy": _POLICY, "cross-origin-opener-policy": "same-origin"},
        allowed_hosts=allowed_hosts,
        token=token,
        sign_in=sign_in,
        dropped=_DROPPED,
    )


class StudioSignIn(SignIn):
    """The sign-in of the owner, which outlives restarts, and of the people invited."""

    def __init__(
        self, settings: StudioSettings, people: People, page: Callable[[bool, Fields], str]
    ) -> None:
        home = str(settings.home).encode("utf-8", "surrogateescape")
        with storage_errors(settings.home):
            settings.home.mkdir(parents=True, exist_ok=True)
        key = token_from_file(settings.home / "sign-in.key")
        # With another token, everybody signs in again.
        secret = hmac.new(key.encode(), (settings.token or "").encode(), "sha256").hexdigest()
        # Two studios differ by their files; cookies are shared among a machine's ports.
        name = f"opsin-studio-{hashlib.sha256(home).hexdigest()[:8]}"
        super().__init__(name, page, secret)
        self._people = people
        # What closes each person's windows, from any thread.
        self._windows: dict[str, set[Callable[[], object]]] = {}
        people.on_revoked = self._close_windows

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries a cookie; if so, note whose."""
        person = OWNER if super().knows(scope) else self._people.of_cookie(self.cookie_of(scope))
        if person is not None:
            visitor.set(Visitor(person, self._people))
        return person is not None

    def cookie_for(self, shown: str, token: bytes | None) -> str | None:
        """Also exchange an invitation."""
        return super().cookie_for(shown, token) or self._people.redeem(shown)

    def closing(self, app: ASGIApp) -> ASGIApp:
        """Close the windows of people whose access ends, or whose role changes."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            person = visitor.get().person
            if scope["type"] != "websocket" or not person.id:
                await app(scope, receive, send)
                return
            ended = asyncio.Event()
            close = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            windows = self._windows.setdefault(person.id, set())
            windows.add(close)
            waiting = asyncio.create_task(ended.wait())

            async def receive_or_end() -> Message:
                message = asyncio.ensure_future(receive())
                await asyncio.wait((message, waiting), return_when=asyncio.FIRST_COMPLETED)
                if ended.is_set():
                    message.cancel()
                    return {"type": "websocket.disconnect", "code": 1008}
                return await message

            try:
                await app(scope, receive_or_end, send)
            finally:
                windows.discard(close)
                waiting.cancel()

        return call

    def _close_windows(self, person_id: str) -> None:
        for close in tuple(self._windows.get(person_id, ())):
            close()


def signed_in_address(host: str, port: int, code: str) -> str:
    """Return the studio's sign-in URL for a browser on this machine."""
    return f"{url_of(host, port)}/?{urlencode({FIELD: code})}"


class SignInFile:
    """A local page, readable by its owner only, that opens the studio signed in."""

    def __init__(self, file: Path, host: str, port: int, sign_in: SignIn) -> None:
        self.file = file
        self._host, self._port, self._sign_in = host, port, sign_in
        self._code = ""
        sign_in.used = self._renew

    def _renew(self, used: str) -> None:
        if used == self._code:
            with contextlib.suppress(StorageError):  # the visitor is in anyway
                self.write()

    def write(self) -> None:
        """Write the page, with a new code."""
        self._code = self._sign_in.new_code()
        to = escape(signed_in_address(self._host, self._port, self._code))
        with storage_errors(self.file):
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".sign-in-")  # mode 0600
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(
                        '<!doctype html><meta charset="utf-8"><title>Opsin</title>'
                        f'<meta http-equiv="refresh" content="0;url={to}">'
                        f'<a href="{to}">Open the studio</a>\n'
                    )
                Path(name).replace(self.file)
            finally:
                Path(name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the page."""
        self.file.unlink(missing_ok=True)
