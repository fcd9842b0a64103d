"""`opsin data`: what a source holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.data.dataset import load
from opsin.report.terminal import for_people


@options.takes_data()
def data(
    source: options.Sources,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the pictures that are drawn.")
    ] = Path("data-figures"),
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Draw pictures.")] = True,
    data_options: dict[str, Any],
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a source holds: counts, shape, range of values, and pictures of it.

    Example: opsin data fashion-mnist --out look
    """
    dataset = load(
        *source,
        watcher=for_people(quiet=quiet),
        **data_options,
    )
    drawn: list[Path] = []
    if draw:
        from opsin.workflow.look import draw_data  # noqa: PLC0415  needs matplotlib

        drawn = draw_data(dataset, out)
    about = dataset.describe()
    if as_json:
        print_json({**about, "figures": [str(path) for path in drawn]})
        return
    screen = console()
    low, high = about["range"]
    screen.print(f"[bold]{escape(dataset.recipe.source)}[/]  {dataset.summary()}")
    shape = "×".join(map(str, about["shape"]))
    what = f"uint8[{shape}] (height, width, channels), values {low} to {high}"
    screen.print(f"Each picture is {what}.", markup=False)
    screen.print(f"Fingerprint {about['fingerprint'][:16]}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("Class")
    for heading in ("Train", "Val", "Test", "All"):
        table.add_column(heading, justify="right")
    for name, parts in about["counts"].items():
        numbers = [*parts.values(), sum(parts.values())]
        table.add_row(escape(name), *(f"{number:,}" for number in numbers))
    screen.print(table)
    for entry in dataset.unreadable[:5]:
        screen.print(f"unreadable: {entry[0]}: {entry[1]}", markup=False)
    if len(dataset.unreadable) > 5:
        screen.print(
            f"… and {len(dataset.unreadable) - 5:,} more unreadable files (--json names all)"
        )
    if dataset.leaks:
        screen.print(
            f"\n{dataset.leaks:,} test pictures have an exact copy among those for training."
        )
    if drawn:
        screen.print(f"\nPictures  {', '.join(map(str, drawn))}", markup=False)
