"""Browsers let in by a cookie, for the token.

A browser shows no header of its own on a WebSocket, and not every browser its dialog's password.
So an address with the right token, ``/?token=TOKEN``, is answered with a cookie and sent on to
itself without the token, which then stands in no history and no bookmark. Another start of the
server knows none of the cookies given before.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from opsin.gate.replies import Unauthorized, error_parts, json_reply

#: The query's field that holds the token.
FIELD: Final = "token"

Fields = list[tuple[str, str]]


class SignIn:
    """Gives cookies for the token, knows them again, and asks for the token.

    Args:
        cookie: Its name. Browsers keep cookies by host, whatever the port, so that the name of
            each server on one machine must be another.
        page: Writes the page that asks for the token, given whether a wrong one was shown and
            the other fields of the address, which it must hand on.

    Example:
        ``Guard(app, …, token=token, sign_in=SignIn("studio-8600", page))``
    """

    def __init__(self, cookie: str, page: Callable[[bool, Fields], str]) -> None:
        self._cookie, self._page = cookie, page
        self._held = secrets.token_urlsafe(32)

    def knows(self, scope: Scope) -> bool:
        """Tell whether a request carries the cookie."""
        held = self._held.encode()
        for name, value in scope["headers"]:
            if name != b"cookie":
                continue
            for pair in value.split(b";"):
                key, _, shown = pair.strip().partition(b"=")
                if key == self._cookie.encode() and hmac.compare_digest(shown, held):
                    return True
        return False

    def reply(self, scope: Scope, token: bytes) -> Response | None:
        """Return the cookie to who asks for an address with the right token."""
        if not _is_read(scope):
            return None
        shown, others = _fields(scope)
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(), token):
            return None
        # Two slashes at the start would lead to another host.
        where = "/" + quote(scope["path"].lstrip("/"), errors="replace")
        return Response(
            status_code=303,
            headers={
                "location": f"{where}?{urlencode(others)}" if others else where,
                "set-cookie": f"{self._cookie}={self._held}; HttpOnly; SameSite=Strict; Path=/",
            },
        )

    def refusal(self, scope: Scope, error: Unauthorized) -> Response:
        """Ask for the token: people by a page, programs by an error."""
        # No browser's dialog, which other kinds would open: the page is what asks.
        headers = {"www-authenticate": "Bearer"}
        if _is_read(scope) and any(
            name == b"accept" and b"text/html" in value for name, value in scope["headers"]
        ):
            shown, others = _fields(scope)
            return HTMLResponse(self._page(bool(shown), others), error.status, headers)
        return json_reply({"error": error_parts(error)}, error.status, headers)


def _is_read(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _fields(scope: Scope) -> tuple[list[str], Fields]:
    """Return the tokens of an address, and its other fields."""
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in fields if name == FIELD]
    return shown, [(name, value) for name, value in fields if name != FIELD]
