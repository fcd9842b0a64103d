"""Access control: the outermost layer, and how browsers sign in.

Any site's page can send requests to this machine, so each request must tell friend from stranger:

- `Host` must be a name of this server. An attacker's own name can be pointed at 127.0.0.1 ("DNS
  rebinding": Jackson et al. 2007), after which browsers take the attacker's page for one of ours.
- `Origin` and `Sec-Fetch-Site`, which browsers send and pages cannot change, must be our own.
- With a token, each request must show it: ``Authorization: Bearer TOKEN``, ``Basic`` with the token
  as password, as a browser's own dialog sends it, or the cookie of `SignIn`.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.web import refusals
from opsin.web.addresses import EVERYWHERE, ip_of, is_loopback

#: The query parameter with the token or a code.
FIELD: Final = "token"

Fields = list[tuple[str, str]]
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
# Seconds that browsers keep a cookie whose secret is kept.
_KEPT: Final = 365 * 86_400
_OWN: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class SignIn:
    """Browsers signed in by a cookie, in exchange for the token or a one-time code.

    Browsers send no custom header on a WebSocket. So an address with the right token or code,
    ``/?token=TOKEN``, is answered with a cookie and redirected to itself without it, which then is
    in no history or bookmark. Codes are void after a restart, and so are cookies unless their
    secret is kept: then browsers keep them as well, for a year.
    """

    def __init__(
        self, cookie: str, page: Callable[[bool, Fields], str], secret: str | None = None
    ) -> None:
        self._cookie, self._page = cookie, page
        self._secret, self._max_age = secret or secrets.token_urlsafe(32), _KEPT if secret else None
        self._codes: set[str] = set()
        self.used: Callable[[str], object] = str  # called with each code used

    def new_code(self) -> str:
        """A one-time code in place of the token."""
        code = secrets.token_urlsafe(32)
        self._codes.add(code)
        return code

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries the cookie."""
        return hmac.compare_digest(self.cookie_of(scope).encode(), self._secret.encode())

    def cookie_of(self, scope: Scope) -> str:
        """The cookie of a request, which may be anything; ``""`` if there is none."""
        return HTTPConnection(scope).cookies.get(self._cookie, "")

    def reply(self, scope: Scope, token: bytes | None) -> Response | None:
        """A redirect with the cookie, for an address with the right token or a code."""
        if not _reads(scope):
            return None
        shown, others = _fields(scope)
        cookie = self.cookie_for(shown[0], token) if len(shown) == 1 else None
        if cookie is None:
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
            self._cookie,
            cookie,
            max_age=self._max_age,
            secure=secure,
            httponly=True,
            samesite="strict",
            path=scope.get("root_path") or "/",
        )
        return reply

    def cookie_for(self, shown: str, token: bytes | None) -> str | None:
        """The cookie in exchange for the token or a code; ``None`` if it is neither."""
        answer = shown.encode()
        if token is not None and hmac.compare_digest(answer, token):
            return self._secret
        for code in self._codes:
            if hmac.compare_digest(answer, code.encode()):
                self._codes.discard(code)
                self.used(code)
                return self._secret
        return None

    def refusal(self, scope: Scope, error: refusals.Unauthorized) -> Response:
        """Ask for the token: browsers by a page, programs by an error."""
        # Bearer opens no browser dialog, as others would: the page asks.
        headers = {"www-authenticate": "Bearer"}
        if _reads(scope) and "text/html" in HTTPConnection(scope).headers.get("accept", ""):
            shown, others = _fields(scope)
            return HTMLResponse(self._page(bool(shown), others), error.status, headers)
        return refusals.error_reply(error, headers)


def _reads(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _fields(scope: Scope) -> tuple[list[str], Fields]:
    """The tokens in an address, and its other query parameters."""
    fields = HTTPConnection(scope).query_params.multi_items()
    shown = [value for name, value in fields if name == FIELD]
    return shown, [(name, value) for name, value in fields if name != FIELD]


class AccessMiddleware:
    """Lets legitimate requests pass, and gives every reply its headers.

    Of a browser, `sign_in` asks the token or a code (default: the browser's own dialog does).
    `dropped` headers of a request are hidden; `refused` gets the reason of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        headers: Mapping[str, str],
        allowed_hosts: Sequence[str] = (),
        token: str | None = None,
        sign_in: SignIn | None = None,
        dropped: Collection[str] = (),
        refused: Callable[[refusals.RequestError], None] = lambda _: None,
    ) -> None:
        self.app, self._refused, self._sign_in = app, refused, sign_in
        self._headers = [(k.encode(), v.encode()) for k, v in {**_HEADERS, **headers}.items()]
        # Names behind a proxy, where pages may use https although this server speaks http.
        self._behind_proxy = frozenset(map(_in_url, allowed_hosts))
        self._everywhere = host in EVERYWHERE
        self._names = {*self._behind_proxy, _in_url(host)}
        if is_loopback(host) or self._everywhere:
            self._names |= {"localhost", "127.0.0.1", "[::1]"}
        self._token = None if token is None else token.encode()
        self._dropped = frozenset(name.encode() for name in dropped)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the guarded application, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(scope, headers, self._check_host(headers))
            app = self._admit(scope, headers)
        except refusals.RequestError as error:
            self._refused(error)
            if scope["type"] == "websocket":  # before it is accepted, which sends status 403
                await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
                return
            app = refusals.error_reply(error)
        if self._dropped:
            kept = [pair for pair in scope["headers"] if pair[0] not in self._dropped]
            scope = {**scope, "headers": kept}

        gone = begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            begun = begun or not gone  # an error reply would reach nobody
            if message["type"] == "http.response.start":
                sent = list(message.get("headers", ()))
                names = {name for name, _ in sent}
                message["headers"] = sent + [pair for pair in self._headers if pair[0] not in names]
            await send(message)

        async def receive_and_look() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] in {"http.disconnect", "websocket.disconnect"}
            return message

        try:
            await app(scope, receive_and_look, send_with_headers)
        except Exception:
            # Starlette and engineio raise if clients disconnect before their reply.
            if begun or not gone:
                raise

    def _check_host(self, headers: Headers) -> tuple[str, str]:
        """The one Host header, in lower case, and its name, which must be this server's."""
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise refusals.BadRequest(f"The request has {len(hosts)} Host headers, not one")
        host = hosts[0].lower()
        match = _HOST.fullmatch(host)  # its port may be a proxy's
        # A server that listens everywhere cannot know the machine's addresses. Addresses, unlike
        # names, cannot be redirected by an attacker.
        if match and (match[1] in self._names or (self._everywhere and ip_of(match[1]))):
            return host, match[1]
        raise refusals.WrongHost(
            f"The Host header says {hosts[0][:80]!r}, which is no name of this server",
            "Use the address that the server printed, or ask its administrator to add this "
            "name to the allowed hosts.",
        )

    def _check_origin(self, scope: Scope, headers: Headers, host: tuple[str, str]) -> None:
        allowed = {f"{scope.get('scheme', 'http').replace('ws', 'http')}://{host[0]}"}
        if host[1] in self._behind_proxy:
            allowed.add(f"https://{host[0]}")
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        foreign = [origin for origin in origins if origin.lower() not in allowed]
        if len(origins) < 2 and not foreign:
            foreign = [site for site in sites if site not in ("same-origin", "none")]
            # Following a link shows a page and changes nothing.
            link = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
            if not foreign or (_reads(scope) and link == ("navigate", "document")):
                return
        raise refusals.ForeignOrigin(
            f"The browser says that {(foreign or origins)[0][:80]!r} asks, not this server's page",
            "Ask from the page at / or from a program that is no browser.",
        )

    def _admit(self, scope: Scope, headers: Headers) -> ASGIApp:
        if self._token is None and self._sign_in is None:
            return self.app
        if self._sign_in is not None:
            if reply := self._sign_in.reply(scope, self._token):
                return reply
            if self._sign_in.knows(scope):
                return self.app
        shown = headers.getlist("authorization")
        token = _credentials(shown[0]) if len(shown) == 1 else b""
        if self._token is not None and hmac.compare_digest(token, self._token):
            return self.app
        error = refusals.Unauthorized(
            "The token is another one" if shown else "This server's token is missing",
            "Send the header Authorization: Bearer TOKEN, or the token as password.",
        )
        if self._sign_in is not None and scope["type"] == "http":
            self._refused(error)
            return self._sign_in.refusal(scope, error)
        raise error


def _credentials(shown: str) -> bytes:
    kind, _, value = shown.strip().partition(" ")
    content = value.strip().encode("latin-1")
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(content, validate=True).partition(b":")[2]
    return content if kind.lower() == "bearer" else b""


def _in_url(host: str) -> str:
    """An address as in a Host header: IPv6 in brackets."""
    return f"[{host.lower()}]" if ":" in host and host[:1] != "[" else host.lower()
