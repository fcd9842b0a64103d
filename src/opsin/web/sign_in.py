"""Browsers signed in by a cookie, in exchange for the token or a one-time code.

Browsers send no custom header on a WebSocket, and not all send their dialog's password.
So an address with the right token, ``/?token=TOKEN``, is answered with a cookie and redirected to
itself without the token, which then is in no history or bookmark. A code takes the
token's place once, so the address is useless later. Cookies and codes are void after a
restart of the server.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from opsin.web.refusals import Unauthorized, error_reply

#: The query parameter with the token or a code.
FIELD: Final = "token"

Fields = list[tuple[str, str]]

_OWN: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)


class SignIn:
    """Issues and verifies cookies, and asks for the token."""

    def __init__(self, cookie: str, page: Callable[[bool, Fields], str]) -> None:
        self._cookie, self._page = cookie, page
        self._secret = secrets.token_urlsafe(32)
        self._codes: set[str] = set()
        self.used: Callable[[str], object] = str  # called with each code used

    def new_code(self) -> str:
        """A one-time code in place of the token."""
        code = secrets.token_urlsafe(32)
        self._codes.add(code)
        return code

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries the cookie."""
        shown = HTTPConnection(scope).cookies.get(self._cookie, "")
        return hmac.compare_digest(shown.encode(), self._secret.encode())

    def reply(self, scope: Scope, token: bytes | None) -> Response | None:
        """A redirect with the cookie, for an address with the right token or a code."""
        if not _reads(scope):
            return None
        shown, others = _fields(scope)
        if len(shown) != 1 or not self._is_right(shown[0].encode(), token):
            return None
        # Two leading slashes would lead to another host.
        where = "/" + quote(scope["path"].lstrip("/"), errors="replace")
        if others:
            where += f"?{urlencode(others)}"
        headers = HTTPConnection(scope).headers
        reply = Response(status_code=303, headers={"location": where})
        if headers.getlist("sec-fetch-site") not in ([], ["none"], ["same-origin"]):
            # Browsers do not send a strict cookie if a page of another site, or a file, sends
            # them here. From here on, the page is our own.
            reply = HTMLResponse(
                f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(where)}">'
                f'<title>Opsin</title><a href="{escape(where)}">Continue</a>'
            )
        # A proxy in front of this server may speak HTTPS, and not say so: browsers send
        # Sec-Fetch-Site to this machine or by HTTPS alone.
        secure = "https" in (scope["scheme"], headers.get("x-forwarded-proto")) or (
            "sec-fetch-site" in headers and not _OWN.fullmatch(headers.get("host", ""))
        )
        reply.set_cookie(
            self._cookie, self._secret, secure=secure, httponly=True, samesite="strict"
        )
        return reply

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
        """Ask for the token: browsers by a page, programs by an error."""
        # Bearer opens no browser dialog, as others would: the page asks.
        headers = {"www-authenticate": "Bearer"}
        if _reads(scope) and "text/html" in HTTPConnection(scope).headers.get("accept", ""):
            shown, others = _fields(scope)
            return HTMLResponse(self._page(bool(shown), others), error.status, headers)
        return error_reply(error, headers)


def _reads(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _fields(scope: Scope) -> tuple[list[str], Fields]:
    """The tokens in an address, and its other query parameters."""
    fields = HTTPConnection(scope).query_params.multi_items()
    shown = [value for name, value in fields if name == FIELD]
    return shown, [(name, value) for name, value in fields if name != FIELD]
