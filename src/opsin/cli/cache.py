"""What `opsin data --cache` shows and empties."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import typer
from rich.markup import escape
from rich.table import Table

from opsin.cli.output import console, print_json
from opsin.core.format import ago, counted, file_size
from opsin.data.cache_contents import PARTS, CacheContents, CacheEntry, empty_cache, list_cache
from opsin.report.terminal import printable

# Entries of each part that are shown, the largest first.
_SHOWN: Final = 8
#: What stands for every part.
ALL: Final = "all"


def tell_cache(empty: Sequence[str], *, sure: bool, as_json: bool) -> None:
    """Show what the cache holds, and empty it where that is asked for."""
    parts = PARTS if ALL in empty else tuple(empty)
    found, removed = list_cache(), None
    if parts:
        unknown = set(parts) - set(PARTS)
        if not unknown and not sure:
            _ask(found, parts, may_ask=not as_json)
        removed = empty_cache(*parts)
        found = list_cache()
    if as_json:
        gone = None if removed is None else removed.to_json()
        print_json(found.to_json() | {"removed": gone})
        return
    screen = console()
    if removed is not None:
        count = counted(len(removed.entries), "entry", "entries")
        screen.print(f"Removed {count}, {file_size(removed.bytes)}\n")
    screen.print(f"[bold]Cache[/]  {escape(printable(str(found.folder)))}")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("Part", "What", "Size", "Last used"):
        table.add_column(heading, justify="right" if heading == "Size" else "left")
    for part in PARTS:
        entries = found.of(part)
        if entries:
            _add_part(table, part, entries)
    screen.print(table)
    screen.print(
        f"{file_size(found.bytes)} in all; made again when needed. To empty: opsin data --cache "
        f"--empty {'|'.join((*PARTS, ALL))}",
        markup=False,
    )


def _ask(found: CacheContents, parts: Sequence[str], *, may_ask: bool) -> None:
    """Go on only where the user says so."""
    size = sum(entry.bytes for entry in found.entries if entry.part in parts)
    what = f"{', '.join(parts)} from {found.folder} ({file_size(size)})"
    if not may_ask or not sys.stdin.isatty():
        raise typer.BadParameter(
            f"expected --yes beside it, since nobody can be asked here; it removes {what}.",
            param_hint="--empty",
        )
    typer.confirm(printable(f"Remove {what}?"), abort=True, err=True)


def _add_part(table: Table, part: str, entries: Sequence[CacheEntry]) -> None:
    total, used = sum(each.bytes for each in entries), max(each.used for each in entries)
    table.add_row(f"[bold]{part}[/]", "", f"[bold]{file_size(total)}[/]", ago(used))
    for entry in entries[:_SHOWN]:
        what = escape(printable(entry.what))
        table.add_row("", what, file_size(entry.bytes), ago(entry.used))
    rest = entries[_SHOWN:]
    if rest:
        size = file_size(sum(each.bytes for each in rest))
        table.add_row("", f"… and {len(rest):,} more", size, "")
