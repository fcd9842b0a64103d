"""Options of the verbs that listen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from opsin.cli.output import print_json
from opsin.core.events import Watcher
from opsin.web.tokens import TOKEN_VARIABLE, token_from_file

Host = Annotated[
    str,
    typer.Option("--host", help="Address to listen on; any but this machine's own needs a token."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with the token that clients must show; made if there is none. The variable "
        "OPSIN_TOKEN does as well.",
        show_default=False,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="A further name by which clients may call it.",
        show_default=False,
    ),
]


def token_of(file: Path | None) -> str | None:
    """The token of a file, or of the environment, or none."""
    return token_from_file(file) if file else os.environ.get(TOKEN_VARIABLE) or None


class PrintAddress(Watcher):
    """Prints the address for scripts, once the server answers."""

    def fact(self, name: str, text: str) -> None:
        """Print the address when it comes by."""
        if name == "Page":
            print_json({"url": text})
