"""What `opsin data --cache` shows and empties."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import typer

from opsin.cli.output import columns, console, plain, print_json, say
from opsin.core.format import ago, counted, file_size
from opsin.data.cache_contents import PARTS, CacheContents, empty_cache, list_cache
from opsin.report.terminal import printable

# Entries of each part that are shown, the largest first.
_SHOWN: Final = 8


def show_cache(empty: Sequence[str], *, sure: bool, as_json: bool) -> None:
    """Show what the cache holds, and empty the parts that are named."""
    parts = PARTS if "all" in empty else tuple(empty)
    contents, removed = list_cache(), None
    if parts:
        if not sure and set(parts) <= set(PARTS):
            _confirm(contents, parts, may_ask=not as_json)
        removed = empty_cache(*parts)
        contents = list_cache()
    if as_json:
        gone = None if removed is None else removed.to_json()
        print_json(contents.to_json() | {"removed": gone})
        return
    if removed is not None:
        count = counted(len(removed.entries), "entry", "entries")
        say(f"Removed {count}, {file_size(removed.bytes)}\n")
    console().print(f"[bold]Cache[/]  {plain(str(contents.folder))}")
    rows = columns("Part", "What", "Size", "Last used")
    rows.columns[2].justify = "right"
    for part in PARTS:
        entries = contents.of(part)
        if not entries:
            continue
        total = file_size(sum(entry.bytes for entry in entries))
        used = ago(max(entry.used for entry in entries))
        rows.add_row(f"[bold]{part}[/]", "", f"[bold]{total}[/]", used)
        for entry in entries[:_SHOWN]:
            rows.add_row("", plain(entry.what), file_size(entry.bytes), ago(entry.used))
        if rest := entries[_SHOWN:]:
            size = file_size(sum(entry.bytes for entry in rest))
            rows.add_row("", f"… and {len(rest):,} more", size, "")
    console().print(rows)
    say(
        f"{file_size(contents.bytes)} in all; made again when needed. To empty: opsin data "
        f"--cache --empty {'|'.join((*PARTS, 'all'))}"
    )


def _confirm(contents: CacheContents, parts: Sequence[str], *, may_ask: bool) -> None:
    """Go on only where the user agrees."""
    size = sum(entry.bytes for entry in contents.entries if entry.part in parts)
    what = f"{', '.join(parts)} from {contents.folder} ({file_size(size)})"
    if not may_ask or not sys.stdin.isatty():
        raise typer.BadParameter(
            f"expected --yes beside it, since nobody can be asked here; it removes {what}.",
            param_hint="--empty",
        )
    typer.confirm(printable(f"Remove {what}?"), abort=True, err=True)
