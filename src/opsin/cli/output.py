"""Answers on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import threading

from opsin.core.errors import OpsinError
from opsin.core.stored_json import Json, JsonObject
from opsin.report.terminal import COMMANDS, UNWRAPPED, PlainLines, printable

#: Set once a verb has itself said that Ctrl-C ended it, and what it kept.
STOP_SAID = threading.Event()


def console() -> PlainLines:
    """Return the console for answers; into a pipe or a file nothing is wrapped or cut."""
    # A file may be called :dog:.png, which is no image of a dog.
    return PlainLines(
        highlight=False, emoji=False, width=None if sys.stdout.isatty() else UNWRAPPED
    )


def print_json(content: JsonObject) -> None:
    """Print the one object that ``--json`` promises."""
    sys.stdout.buffer.write(encoded(content) + b"\n")
    sys.stdout.flush()


def encoded(content: Json) -> bytes:
    """Return JSON as it is printed: letters as they are, what commands a terminal as escapes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    text = COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "backslashreplace")


def print_error(error: OpsinError) -> None:
    """Print an error as its line and, under ``--json``, as the object on standard output."""
    sys.stderr.write(f"opsin: {printable(str(error))}\n")
    if "--json" in sys.argv:
        print_json_error(type(error).__name__, error.expected, error.received, error.advice)


def print_json_error(kind: str, expected: str, received: str, advice: str) -> None:
    """Print the one shape that errors have under ``--json``."""
    parts = {"kind": kind, "expected": expected, "received": received, "advice": advice}
    print_json({"error": parts})
