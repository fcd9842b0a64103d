"""Browsers let in by a cookie, for the token or for a code that works once.

A browser shows no header of its own on a WebSocket, and not every browser its dialog's password.
So an address with the right token, ``/?token=TOKEN``, is answered with a cookie and sent on to
itself without the token, which then stands in no history and no bookmark. A code stands in the
token's place once: it is useless to anyone who reads the address later. Another start of the server
knows none of the cookies and codes given before.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from opsin.web.refusals import Unauthorized, error_reply

#: The query's field that holds the token, or a code.
FIELD: Final = "token"

Fields = list[tuple[str, str]]

_LOOPBACK: Final = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)


class SignIn:
    """Gives cookies for the token or a code, knows them again, and asks for the token."""

    def __init__(self, cookie: str, page: Callable[[bool, Fields], str]) -> None:
        self._cookie, self._page = cookie, page
        self._held = secrets.token_urlsafe(32)
        self._codes: set[str] = set()
        self.used: Callable[[str], object] = str  # called with each code that is used

    def new_code(self) -> str:
        """Return a code that can be shown once in place of the token."""
        code = secrets.token_urlsafe(32)
        self._codes.add(code)
        return code

    def knows(self, scope: Scope) -> bool:
        """Tell whether a request carries the cookie."""
        held = f"{self._cookie}={self._held}".encode()
        pairs = (pair for value in values_of(scope, b"cookie") for pair in value.split(b";"))
        return any(hmac.compare_digest(pair.strip(), held) for pair in pairs)

    def reply(self, scope: Scope, token: bytes | None) -> Response | None:
        """Return the cookie to who asks for an address with the right token, or with a code."""
        if not _is_read(scope):
            return None
        shown, others = _fields(scope)
        if len(shown) != 1 or not self._is_right(shown[0].encode(), token):
            return None
        # Two slashes at the start would lead to another host.
        where = "/" + quote(scope["path"].lstrip("/"), errors="replace")
        if others:
            where += f"?{urlencode(others)}"
        secure = "; Secure" * _came_by_https(scope)
        cookie = f"{self._cookie}={self._held}; HttpOnly; SameSite=Strict; Path=/{secure}"
        if values_of(scope, b"sec-fetch-site") in ([], [b"none"], [b"same-origin"]):
            return Response(status_code=303, headers={"location": where, "set-cookie": cookie})
        # Browsers do not show a strict cookie where a page of another site, or a file, sends them
        # on. From here on, the page is our own.
        return HTMLResponse(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(where)}">'
            f'<title>Opsin</title><a href="{escape(where)}">Continue</a>',
            headers={"set-cookie": cookie},
        )

    def _is_right(self, shown: bytes, token: bytes | None) -> bool:
        if token is not None and hmac.compare_digest(shown, token):
            return True
        for code in self._codes:
            if hmac.compare_digest(shown, code.encode()):
                self._codes.discard(code)
                self.used(code)
                return True
        return False

    def refusal(self, scope: Scope, error: Unauthorized) -> Response:
        """Ask for the token: people by a page, programs by an error."""
        # No browser's dialog, which other kinds would open: the page is what asks.
        headers = {"www-authenticate": "Bearer"}
        if _is_read(scope) and any(b"text/html" in each for each in values_of(scope, b"accept")):
            shown, others = _fields(scope)
            return HTMLResponse(self._page(bool(shown), others), error.status, headers)
        return error_reply(error, headers)


def _came_by_https(scope: Scope) -> bool:
    """Tell whether the browser speaks HTTPS, maybe with a proxy in front of this server."""
    if scope["scheme"] == "https" or values_of(scope, b"x-forwarded-proto") == [b"https"]:
        return True
    own = any(_LOOPBACK.fullmatch(host) for host in values_of(scope, b"host"))
    return not own and bool(values_of(scope, b"sec-fetch-site"))


def values_of(scope: Scope, name: bytes) -> list[bytes]:
    """The values of a header, which may be there several times."""
    return [value for given, value in scope["headers"] if given == name]


def _is_read(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _fields(scope: Scope) -> tuple[list[str], Fields]:
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in fields if name == FIELD]
    return shown, [(name, value) for name, value in fields if name != FIELD]
