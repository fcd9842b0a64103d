"""Answers on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from opsin.core.errors import OpsinError
from opsin.core.stored_json import Json, JsonObject, json_text
from opsin.report.terminal import COMMANDS, UNWRAPPED, PlainLines, printable

#: Set once a verb has reported Ctrl-C and what it kept.
STOP_SAID = threading.Event()
#: Set once the ``--json`` document is begun: there is at most one.
DOCUMENT_BEGUN = threading.Event()


@contextlib.contextmanager
def stop_is_reported() -> Iterator[None]:
    """Let Ctrl-C end a verb without a further word: its usual end, or what it kept was said."""
    try:
        yield
    except KeyboardInterrupt:
        STOP_SAID.set()
        raise typer.Exit(130) from None


def console() -> PlainLines:
    """Return the console for answers; it wraps nothing in a pipe or file."""
    # A file called :dog:.png must not show an emoji.
    return PlainLines(
        highlight=False, emoji=False, width=None if sys.stdout.isatty() else UNWRAPPED
    )


def say(text: str = "", **style: Any) -> None:
    """Print text verbatim: no markup, no wrapping."""
    console().print(text, markup=False, soft_wrap=True, **style)


def plain(text: str) -> str:
    """Return text escaped for markup, with control characters made visible."""
    return escape(printable(text))


def columns(*words: str, figures: Sequence[str] = (), gap: int = 4) -> Table:
    """Return an empty table: columns of words, which fold, then of figures, which do not."""
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for heading in words:
        made.add_column(heading, overflow="fold")
    for heading in figures:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def say_unreadable(files: Sequence[tuple[str, str]]) -> None:
    """Print the first unreadable files with reasons."""
    for name, reason in files[:5]:
        say(f"unreadable: {printable(name)}: {reason}")
    if len(files) > 5:
        say(f"… and {len(files) - 5:,} more unreadable files (--json names all)")


def print_json(content: JsonObject) -> None:
    """Print the ``--json`` document."""
    write_document(encoded(content) + b"\n")


def write_document(part: bytes) -> None:
    """Write a part of that document; Ctrl-C waits until it is whole."""
    with _ctrl_c_waits():
        DOCUMENT_BEGUN.set()
        left = memoryview(part)
        while left:  # a signal may cut an unbuffered write short
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.flush()


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # it gets no Ctrl-C
        yield
        return
    asked: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *when: asked.append(when))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked and callable(before):
            before(*asked[0])


def encoded(content: Json) -> bytes:
    """Return JSON as printed: not escaped to ASCII, but without terminal controls."""
    text = COMMANDS.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text(content))
    return text.encode("utf-8", "backslashreplace")


def print_error(error: OpsinError) -> None:
    """Print an error as a line and, under ``--json``, as the object on standard output."""
    sys.stderr.write(f"opsin: {printable(str(error))}\n")
    if "--json" in sys.argv:
        print_json_error(type(error).__name__, error.message, error.advice)


def print_json_error(kind: str, message: str, advice: str) -> None:
    """Print an error in its ``--json`` form."""
    if not DOCUMENT_BEGUN.is_set():
        print_json({"error": {"kind": kind, "message": message, "advice": advice}})
