"""Options of the verbs that listen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from opsin.cli.options import flag
from opsin.cli.output import print_json
from opsin.core.events import Watcher
from opsin.web.tokens import TOKEN_VARIABLE, token_from_file

Host = Annotated[
    str,
    flag(
        "--host",
        "Address to listen on; any but this machine's own needs a token.",
        show_default=True,
    ),
]
TokenFile = Annotated[
    Path | None,
    flag(
        "--token-file",
        "File with the token that clients must show; made if there is none. The variable "
        "OPSIN_TOKEN does as well.",
    ),
]
AllowHost = Annotated[
    list[str] | None, flag("--allow-host NAME", "A further name by which clients may call it.")
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
