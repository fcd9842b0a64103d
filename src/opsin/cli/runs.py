"""`opsin runs`: the runs so far."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from opsin.cli import options
from opsin.cli.output import columns, console, plain, print_json, say
from opsin.commands.runs import Run, list_runs
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RunSummary
from opsin.core.errors import RecipeError
from opsin.core.format import clock, day, file_size, with_interval
from opsin.data.run_images import load_run_images
from opsin.report.terminal import corrected_in_words, for_people, printable


def runs(
    run: Path | None = None,
    *,
    name: str | None = None,
    note: str | None = None,
    data: list[str] | None = None,
    runs: options.Runs = Path("runs"),
    as_json: bool = False,
) -> None:
    """List the runs, rename one, or say where its images are now.

    Example: opsin runs --json

    Options:
        data (SOURCE): Where the run's images are now, if they were moved; they must be the same.
        run ([RUN]): One run directory, to name it or note something.
        name: Give RUN a name of yours.
        note: Keep a note with RUN.
    """
    if run is None and (name is not None or note is not None or data):
        raise RecipeError("No run is given", "Say which: opsin runs RUN --name NAME")
    if run is not None:
        directory = RunDirectory.open(run)
        if name is not None or note is not None:
            directory.write_notes(name=name, note=note)
        if data:  # stored once verified to be the run's images
            load_run_images(directory, data, watcher=for_people(quiet=as_json))
    chosen = list_runs(runs) if run is None else [Run(run)]
    if as_json:
        print_json({"runs": [entry.row() for entry in chosen]})
        return
    if not chosen:
        say(f"No runs in {runs} yet. Make one: opsin train fashion-mnist")
        return
    rows = [(entry, entry.summary()) for entry in chosen]
    console().print(_table(rows))
    for entry, row in rows:
        if row.corrected:
            words = corrected_in_words(row.corrected, row.split)
            console().print(f"{entry.path}: {words}", markup=False)
        if run is not None and row.note:
            for line in row.note.splitlines():
                console().print(printable(line), markup=False)
        if row.cause:
            console().print(f"{entry.path}: {row.cause}", style="red", markup=False)


def _table(rows: list[tuple[Run, RunSummary]]) -> Table:
    figures = ("Accuracy", "On", "Time", "Size", "Date")
    table = columns("Run", "State", "Source", "Model", figures=figures)
    for run, row in rows:
        name = f"\n[dim]{plain(row.name)}[/dim]" if row.name else ""
        source = None if row.state == "damaged" else run.source
        table.add_row(
            plain(str(run.path)) + name,
            row.state,
            plain(source or ""),
            plain(row.model or ""),
            "" if row.accuracy is None else with_interval(row.accuracy, row.low, row.high),
            plain((row.split or "").replace("out_of_fold", "all, unseen")),
            "" if row.seconds is None else clock(row.seconds),
            "" if row.bytes is None else file_size(row.bytes),
            day(row.started or 0),
        )
    return table
