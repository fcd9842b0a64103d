"""Signing in: the page that asks for the token, and cookies that outlive a restart."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from starlette.types import Scope

from opsin.core.platform import is_our_connection, is_private
from opsin.studio.security import write_private
from opsin.studio.ui.layout import head
from opsin.web.access import FIELD, SignIn

# Seconds that the account of a connection is remembered.
_FRESH: Final = 5
_BYTES: Final = 32


class KeptSignIn(SignIn):
    """Browsers stay signed in when the studio is started again; another token signs them out.

    Without a token, a cookie is taken from the studio's own account alone: while the studio is
    away, another account can listen on its port, and is shown the cookies of its browsers.

    Args:
        cookie: Name of the cookie.
        file: Where the secret is kept, readable by its owner only.
        token: The studio's token.
        own_only: Whether only connections of this account are taken.
    """

    def __init__(self, cookie: str, file: Path, token: str | None, *, own_only: bool) -> None:
        key = hmac.new(_kept_secret(file), (token or "").encode(), hashlib.sha256)
        super().__init__(cookie, page, key.hexdigest())
        self._own_only = own_only

    def knows(self, scope: Scope) -> bool:
        """Whether a request carries the cookie, and comes from where it may come from."""
        if not super().knows(scope):
            return False
        client, server = scope.get("client"), scope.get("server")
        if not (self._own_only and client and server):
            return True
        return _is_own(client[1], server[1], int(time.monotonic()) // _FRESH)


def _kept_secret(file: Path) -> bytes:
    """The secret in a file, which is made anew if it is missing, damaged or others can read it."""
    with contextlib.suppress(OSError):
        content = file.read_bytes()
        if len(content) == _BYTES and is_private(file.stat()):
            return content
    content = secrets.token_bytes(_BYTES)
    write_private(file, content)
    return content


@functools.lru_cache(1000)
def _is_own(client: int, server: int, _: int) -> bool:
    return is_our_connection(client, server)


def page(wrong: bool, further: Sequence[tuple[str, str]]) -> str:
    """Write the page, as HTML that needs nothing else.

    ``wrong`` says that a wrong token was shown; ``further`` are the other fields of the address
    that was asked for, which are handed on.

    Example:
        >>> 'name="tab" value="report"' in page(wrong=False, further=[("tab", "report")])
        True
    """
    alert = (
        '<p role="alert" class="error">This token is wrong, or was used before.</p>'
        if wrong
        else ""
    )
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in further
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Opsin</title>
<link rel="icon" href="data:,">
{head()}
</head>
<body>
<main class="page stack sign-in">
<h1>Opsin studio</h1>
<p>Open the link that the terminal shows after “Link”, or the one you were sent. It works once. For
another one, start <code>opsin studio</code> again, which names a file to open, or ask the studio's
owner. If the studio was started with a token, you can enter it here.</p>
{alert}
<form method="get" class="stack">
{hidden}
<label for="token">Token</label>
<input id="token" name="{FIELD}" type="password" autocomplete="current-password" required
  autofocus>
<button>Open</button>
</form>
</main>
</body>
</html>
"""
