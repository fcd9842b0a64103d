"""`opsin docs`: the documentation in a browser."""

from __future__ import annotations

from opsin.cli.output import print_json, say
from opsin.commands.docs import open_docs


def docs(
    topic: str = "",
    *,
    no_browser: bool = False,
    as_json: bool = False,
) -> None:
    """Open the documentation in a browser; it needs no network.

    Example: opsin docs dropout

    Options:
        topic (TOPIC): Where to open it: a page, a verb, a term such as dropout, or a heading.
        no_browser: Print its address, and open nothing.
    """
    address = open_docs(topic, open_browser=not (no_browser or as_json))
    if as_json:
        print_json({"url": address})
    else:
        say(address)
