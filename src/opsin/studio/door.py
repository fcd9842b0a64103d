"""Who may ask the studio; what pages may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from starlette.types import ASGIApp

from opsin.gate.address import url_of
from opsin.gate.guard import HEADERS, Guard
from opsin.gate.sign_in import FIELD, SignIn
from opsin.studio.pages import sign_in

#: Pages get everything from here. NiceGUI's templates are compiled in the browser, hence
#: 'unsafe-inline' and 'unsafe-eval'; no attribute such as onerror= may hold a script, which is how
#: a name that holds HTML would run one.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "script-src-attr 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'"
)

# What a proxy adds, and NiceGUI would believe of anybody.
_DROPPED: Final = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-real-ip",
)  # fmt: skip


def guarded(
    app: ASGIApp, *, host: str, port: int, token: str | None, allowed_hosts: Sequence[str] = ()
) -> Guard:
    """Put the guard around the studio.

    Args:
        app: The studio's application.
        host: Address that is listened on.
        port: Port that is listened on, where two studios of one machine have different cookies.
        token: What visitors must show; browsers get a cookie for it.
        allowed_hosts: Further names by which the studio may be called.

    Example:
        ``guarded(api, host="127.0.0.1", port=8600, token=None)``
    """
    return Guard(
        app,
        host=host,
        headers={
            **HEADERS,
            "content-security-policy": CONTENT_SECURITY_POLICY,
            "cross-origin-opener-policy": "same-origin",
        },
        allowed_hosts=allowed_hosts,
        token=token,
        sign_in=SignIn(f"opsin-studio-{port}", sign_in.page),
        dropped=_DROPPED,
    )


def address(host: str, port: int, token: str | None) -> str:
    """Return the address at which a browser on this machine finds the studio, signed in.

    Example:
        >>> address("0.0.0.0", 8600, "a+b")
        'http://127.0.0.1:8600/?token=a%2Bb'
    """
    query = "" if token is None else f"?{urlencode({FIELD: token})}"
    return f"{url_of(host, port)}/{query}"
