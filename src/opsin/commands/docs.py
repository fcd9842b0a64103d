"""The verb `docs`: the documentation in a browser, without a network."""

from __future__ import annotations

import webbrowser

from opsin.core.arguments import checked
from opsin.core.errors import OpsinError
from opsin.core.glossary import SITE


@checked
def open_docs(*, open_browser: bool = True) -> str:
    """Open the local documentation in the browser.

    Args:
        open_browser: Also open it, not only return its address.

    Returns:
        Its address, ``file://…``.

    Raises:
        OpsinError: The documentation is not part of this installation.
    """
    page = SITE / "index.html"
    if not page.is_file():
        raise OpsinError("This installation has no documentation", "Build it: make site.")
    if open_browser:
        webbrowser.open(page.as_uri())
    return page.as_uri()
