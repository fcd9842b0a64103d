"""`opsin.open_docs`, the verb `docs`: the documentation in a browser, without a network."""

from __future__ import annotations

import webbrowser

from opsin.core.arguments import checked
from opsin.core.glossary import SITE, find_page


@checked
def open_docs(topic: str = "", *, open_browser: bool = True) -> str:
    """Open the documentation in this machine's browser; it lies on the disk.

    Args:
        topic: Where to open it: a page's name, a verb, a term or a heading; nothing for the first
            page. Capitals and spaces do not matter.
        open_browser: Whether to open it, or to say only where it is.

    Returns:
        Its address, ``file://…``.

    Raises:
        OpsinError: Nothing is called so, or the documentation is not part of this installation.

    Example:
        ``opsin.open_docs("dropout")``
    """
    page, _, anchor = find_page(topic).partition("#")
    address = (SITE / page).as_uri() + (f"#{anchor}" if anchor else "")
    if open_browser:
        webbrowser.open(address)
    return address
