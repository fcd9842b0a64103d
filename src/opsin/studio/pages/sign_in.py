"""The page that asks for the token."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from opsin.web.access import FIELD

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --muted: #5b6470;
  --line: #c9ced6; --wrong: #b2182b; --accent: #2166ac; --on: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --muted: #a3abb6;
  --line: #444b55; --wrong: #ef8a62; --accent: #6baed6; --on: #15181c } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { box-sizing: border-box; width: min(26rem, 100%); padding: 1.5rem }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; font-weight: 600 }
p { margin: 0 0 1rem; color: var(--muted) }
p[role=alert] { color: var(--wrong) }
label { display: block; margin-bottom: .25rem }
input, button { box-sizing: border-box; width: 100%; padding: .6rem .75rem; font: inherit;
  border-radius: 6px; border: 1px solid var(--line); background: transparent; color: inherit }
button { margin-top: .75rem; border-color: var(--accent); background: var(--accent);
  color: var(--on); cursor: pointer }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
"""


def page(wrong: bool, further: Sequence[tuple[str, str]]) -> str:
    """Write the page.

    Args:
        wrong: Whether a token was shown that is not the studio's.
        further: The other fields of the address that was asked for; they are handed on.

    Returns:
        HTML that needs nothing else.

    Example:
        >>> 'name="tab" value="report"' in page(wrong=False, further=[("tab", "report")])
        True
    """
    alert = '<p role="alert">This token is wrong, or was used before.</p>' if wrong else ""
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
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Opsin studio</h1>
<p>Open the address that the terminal shows after “Sign in”. Each address works once. For another,
type <code>opsin studio</code> again: it names a file to open. If the studio was started with a
token, you can enter it here.</p>
{alert}
<form method="get">
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
