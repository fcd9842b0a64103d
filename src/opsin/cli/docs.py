"""`opsin docs`: the documentation in a browser."""

from __future__ import annotations

from typing import Annotated

from opsin.cli import options
from opsin.cli.options import argument, flag
from opsin.cli.output import console, print_json
from opsin.commands.docs import open_docs


def docs(
    topic: Annotated[
        str,
        argument(
            "TOPIC", "Where to open it: a page, a verb, a term such as dropout, or a heading."
        ),
    ] = "",
    *,
    no_browser: Annotated[
        bool, flag("--no-browser", "Print its address, and open nothing.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Open the documentation in a browser; it needs no network.

    Example: opsin docs dropout
    """
    address = open_docs(topic, open_browser=not (no_browser or as_json))
    if as_json:
        print_json({"url": address})
    else:
        console().print(address, markup=False, highlight=False, soft_wrap=True)
