"""The command line: parse, one call, print."""

from __future__ import annotations

import gc
import io
import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # File names may contain characters outside the terminal's encoding.
                stream.reconfigure(errors="backslashreplace")
        gc.disable()  # while the verb loads, nothing becomes garbage
        # Searching for pydantic plugins takes 10 ms.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        from opsin.cli.verbs import run  # noqa: PLC0415  so that Ctrl-C is caught meanwhile

        status = run()
    except KeyboardInterrupt:
        status = 130
    gc.freeze()  # the interpreter's last search for garbage would take up to a second
    sys.exit(status)


def _open_closed_streams() -> None:
    """Open the null device for standard streams that the caller closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
            os.set_inheritable(null, True)
            if number:
                setattr(sys, name, os.fdopen(null, "w", encoding="utf-8", closefd=False))
