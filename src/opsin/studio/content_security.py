"""What the studio's pages, and pages in a run's folder, may do in a browser."""

from __future__ import annotations

from typing import Final

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

#: A page in a run's folder may be a stranger's, since runs are copied between machines: it may run
#: its own scripts, but reaches nothing of the studio.
ALONE: Final = {
    "content-security-policy": "sandbox allow-scripts allow-popups allow-downloads; "
    "default-src 'none'; script-src 'unsafe-inline'; script-src-attr 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
}
