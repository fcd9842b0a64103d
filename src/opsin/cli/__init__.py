"""The command line: parse, one call, print."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line and end the process with its exit status.

    0: done; 1: could not; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold what the terminal's encoding cannot show.
            stream.reconfigure(errors="backslashreplace")
    try:
        from opsin.cli.verbs import run  # noqa: PLC0415  so that Ctrl-C is caught meanwhile
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())
