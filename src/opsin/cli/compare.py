"""`opsin compare`: is one run significantly better?"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import columns, console, print_json, say
from opsin.report.side_by_side import BOLD, Comparison, columns_of
from opsin.report.terminal import for_people, printable


def compare(
    runs: list[Path] | None = None,
    *,
    out: Path | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Compare runs on the test images that they share.

    Each is set against the first one, image by image. Runs that share no test images, or have other
    labels or classes, are refused.

    Example: opsin compare runs/2026-11-21-fashion-mnist-mlp runs/2026-11-21-fashion-mnist-cnn

    Example: opsin compare runs/a runs/b runs/c --out comparison

    Options:
        runs (RUN RUN...): Two to ten run directories that were judged by some of the same images.
        out (FOLDER): Folder for compare.html, compare.json and the figures, with the images on
            which the runs disagree.
    """
    options.expect(runs, "two runs", "RUN RUN...")
    from opsin.commands.compare import compare as workflow  # noqa: PLC0415  slow to load

    comparison = workflow(*(runs or ()), out=out, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(comparison.model_dump(mode="json", exclude_unset=True))
        return
    screen = console()
    for row in comparison.runs:
        say(f"{row.letter}  {printable(row.run)}")
    screen.print()
    screen.print(_table(comparison, screen.width))
    for pair in comparison.pairs:
        first, second = pair.letters
        screen.print(f"\n{pair.sentence}.", markup=False)
        screen.print(
            f"Both right {pair.both_right:,} · only {first} {pair.only_first:,} · only {second} "
            f"{pair.only_second:,} · both wrong {pair.both_wrong:,} "
            f"({pair.both_wrong_differently:,} of them with different answers)",
            markup=False,
        )
    remarks = list(comparison.remarks)
    if screen.is_terminal and any(row.best for row in comparison.runs):
        remarks.append(BOLD)
    for remark in remarks:
        screen.print(f"\n{remark}", style="dim", markup=False)
    if comparison.files:
        say(f"\nLook      {comparison.files[0]}")


def _table(comparison: Comparison, width: int) -> Table:
    shown = columns_of(comparison.runs)
    # Headings wrap rather than figures; with narrow gaps, all columns fit 80 characters.
    headings = [column.heading.replace(" ", "\n") for column in shown]
    table = columns(*headings[:2], figures=headings[2:], gap=2 if width > 96 else 1)
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(f"[bold]{escape(text)}[/]" if best else escape(text) for text, best in row))
    return table
