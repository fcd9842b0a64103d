"""Access control of the studio, and what its pages may do."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from starlette.types import ASGIApp

from opsin.core.errors import StorageError
from opsin.core.storage import storage_errors
from opsin.web.access import FIELD, AccessMiddleware, SignIn

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


def signed_in_address(start: str, code: str) -> str:
    """Return the sign-in URL of a studio that begins at an address, for a browser."""
    return f"{start}/?{urlencode({FIELD: code})}"


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    with storage_errors(file):
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".sign-in-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)


class SignInFile:
    """A local page, readable by its owner only, that opens the studio signed in."""

    def __init__(self, file: Path, start: str, sign_in: SignIn) -> None:
        self.file = file
        self._start, self._sign_in = start, sign_in
        self._code = ""
        sign_in.used = self._renew

    def _renew(self, used: str) -> None:
        if used == self._code:
            with contextlib.suppress(StorageError):  # the visitor is in anyway
                self.write()

    def write(self) -> None:
        """Write the page, with a new code."""
        self._code = self._sign_in.new_code()
        to = escape(signed_in_address(self._start, self._code))
        page = (
            '<!doctype html><meta charset="utf-8"><title>Opsin</title>'
            f'<meta http-equiv="refresh" content="0;url={to}"><a href="{to}">Open the studio</a>\n'
        )
        write_private(self.file, page.encode())

    def remove(self) -> None:
        """Remove the page."""
        self.file.unlink(missing_ok=True)
