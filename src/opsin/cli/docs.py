"""`opsin docs`: the documentation in a browser."""

from __future__ import annotations

from opsin.cli.output import print_json, say
from opsin.commands.docs import open_docs


def docs(*, no_browser: bool = False, as_json: bool = False) -> None:
    """Open the documentation in a browser; it needs no network.

    Example: opsin docs

    Options:
        no_browser: Print its address, and open nothing.
    """
    address = open_docs(open_browser=not (no_browser or as_json))
    if as_json:
        print_json({"url": address})
    else:
        say(address)
