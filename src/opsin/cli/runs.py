"""`opsin runs`: what was trained so far."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.commands.runs import Run, list_runs
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RunSummary
from opsin.core.errors import RecipeError
from opsin.core.format import clock, file_size, with_interval
from opsin.data.run_images import load_run_images
from opsin.report.terminal import corrected_in_words, for_people, printable


def runs(
    run: Path | None = None,
    *,
    name: str | None = None,
    note: str | None = None,
    data: options.Moved = None,
    runs: options.Runs = Path("runs"),
    as_json: options.AsJson = False,
) -> None:
    """List the runs, rename one, or say where its images are now.

    Example: opsin runs --json

    Options:
        run ([RUN]): One run directory, to name it or note something.
        name: Give RUN a name of yours.
        note: Keep a note with RUN.
    """
    if run is None and (name is not None or note is not None or data):
        raise RecipeError(
            "the run that the name, note or place is for", "none is given",
            "Say which: opsin runs RUN --name NAME",
        )  # fmt: skip
    if run is not None:
        _keep(RunDirectory.open(run), name, note, data, quiet=as_json)
    chosen = list_runs(runs) if run is None else [Run(run)]
    if as_json:
        print_json({"runs": [each.row() for each in chosen]})
        return
    screen = console()
    if not chosen:
        screen.print(f"No runs in {runs} yet. Make one: opsin train fashion-mnist", markup=False)
        return
    rows = [(each, each.summary()) for each in chosen]
    screen.print(_table(rows))
    for each, row in rows:
        _tell(screen, each, row, note=run is not None)


def _table(rows: list[tuple[Run, RunSummary]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("Run", "State", "Source", "Model"):
        table.add_column(name, overflow="fold")
    for name in ("Accuracy", "On", "Time", "Size", "Date"):
        table.add_column(name, justify="right")
    for run, row in rows:
        day = dt.datetime.fromtimestamp(row.started or 0, tz=dt.UTC).astimezone()
        source = None if row.state == "damaged" else run.source
        table.add_row(
            _with_name(run, row),
            row.state,
            escape(source or ""),
            escape(row.model or ""),
            "" if row.accuracy is None else with_interval(row.accuracy, row.low, row.high),
            escape((row.split or "").replace("out_of_fold", "all, unseen")),
            "" if row.seconds is None else clock(row.seconds),
            "" if row.bytes is None else file_size(row.bytes),
            f"{day:%Y-%m-%d %H:%M}",
        )
    return table


def _keep(
    run: RunDirectory, name: str | None, note: str | None, data: list[str] | None, *, quiet: bool
) -> None:
    """Keep what was said about a run; where its images are, once they are proved to be those."""
    if name is not None or note is not None:
        run.write_notes(name=name, note=note)
    if data:
        load_run_images(run, data, watcher=for_people(quiet=quiet))


def _with_name(run: Run, row: RunSummary) -> str:
    """Return the directory, below it the name that the user gave."""
    name = escape(printable(row.name))
    return escape(str(run.path)) + (f"\n[dim]{name}[/dim]" if name else "")


def _tell(screen: Console, run: Run, row: RunSummary, *, note: bool) -> None:
    """Say what else is to be known of a run, below the table."""
    if row.corrected:
        said = corrected_in_words(row.corrected, row.split)
        screen.print(f"{run.path}: {said}", markup=False)
    if note and row.note:
        for line in row.note.splitlines():
            screen.print(printable(line), markup=False)
    if row.cause:
        screen.print(f"{run.path}: {row.cause}", style="red", markup=False)
