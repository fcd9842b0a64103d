"""The command line: parse, one call, print."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit status.

    0: done; 1: could not; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    try:
        from opsin.cli.app import app  # noqa: PLC0415  so that Ctrl-C is caught meanwhile
    except KeyboardInterrupt:
        sys.exit(130)
    app()
