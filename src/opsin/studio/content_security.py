"""Content security policies of the studio's pages, and of pages in run folders."""

from __future__ import annotations

from typing import Final

#: Pages load everything from here. NiceGUI compiles templates in the browser, hence
#: 'unsafe-inline' and 'unsafe-eval'; script attributes such as onerror= are forbidden, which is how
#: a name that holds HTML would run one.
CONTENT_SECURITY_POLICY: Final = (
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
