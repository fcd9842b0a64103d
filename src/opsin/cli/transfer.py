"""What `opsin data` says of exports and of changes."""

from __future__ import annotations

from typing import Final

from rich.markup import escape
from rich.table import Table

from opsin.cli.output import console, print_json
from opsin.commands.changes import Changes, Pair
from opsin.commands.transfer import Exported
from opsin.core.format import counted, file_size
from opsin.data.run_images import RunImage
from opsin.report.terminal import printable

_SHOWN: Final = 3


def tell_export(written: Exported, *, as_json: bool) -> None:
    """Print where a collection was written, and how to read it there."""
    if as_json:
        print_json(written.to_json())
        return
    screen = console()
    size = file_size(written.bytes)
    screen.print(f"{counted(written.images, 'image')}, {size}  {written.path}", markup=False)
    screen.print(f"Train on them with: {written.command}", markup=False)


def tell_changes(found: Changes, *, as_json: bool) -> None:
    """Print what changed since a run: a row a kind, with the first few names."""
    if as_json:
        print_json(found.to_json())
        return
    screen = console()
    same = found.fingerprint_then == found.fingerprint_now
    screen.print(f"[bold]{escape(printable(found.source))}[/]  since {escape(str(found.run))}")
    screen.print(
        f"Fingerprint {found.fingerprint_then[:16]}"
        + (", as it was then" if same else f" then, {found.fingerprint_now[:16]} now")
        + "\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("Images")
    table.add_column("Count", justify="right")
    table.add_column("Such as", overflow="fold")
    table.add_row("unchanged", f"{found.unchanged:,}", "")
    kinds: dict[str, tuple[RunImage, ...] | tuple[Pair, ...]] = {
        "added": found.added,
        "removed": found.removed,
        "renamed": found.renamed,
        "relabelled": found.relabelled,
        "changed": found.changed,
    }
    for kind, images in kinds.items():
        names = [_named(image, kind) for image in images[:_SHOWN]]
        more = [f"and {len(images) - _SHOWN:,} more"] if len(images) > _SHOWN else []
        table.add_row(kind, f"{len(images):,}", escape(printable(" · ".join(names + more))))
    screen.print(table)
    if not found.moved:
        screen.print("\nTrained again with the same options, no image changes sides.")
        return
    sides = ", ".join(f"{count:,} {then} → {now}" for (then, now), count in found.sides.items())
    screen.print(
        f"\nTrained again with the same options, {len(found.moved):,} images change sides: {sides}."
    )


def _named(image: RunImage | Pair, kind: str) -> str:
    if isinstance(image, RunImage):
        return image.name
    if kind == "relabelled":
        return f"{image.now.name} ({image.then.label} → {image.now.label})"
    if kind == "renamed":
        return f"{image.then.name} → {image.now.name}"
    return image.now.name
