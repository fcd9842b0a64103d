"""`opsin runs`: what was trained so far."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.report.terminal import clock, megabytes, plus_minus
from opsin.workflow.runs import list_runs


def runs(*, runs: options.Runs = Path("runs"), as_json: options.AsJson = False) -> None:
    """List the runs there are, the newest first.

    Example: opsin runs --json
    """
    rows = [run.row() for run in list_runs(runs)]
    if as_json:
        print_json({"runs": rows})
        return
    screen = console()
    if not rows:
        screen.print(f"No runs in {runs} yet. Make one: opsin train fashion-mnist", markup=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("Run", "State", "Source", "Model"):
        table.add_column(heading, overflow="fold")
    for heading in ("Accuracy", "On", "Time", "Size", "Date"):
        table.add_column(heading, justify="right")
    for row in rows:
        known = row["accuracy"] is not None
        day = dt.datetime.fromtimestamp(row["started"] or 0, tz=dt.UTC).astimezone()
        table.add_row(
            escape(row["run"]),
            row["state"],
            escape(row["source"] or ""),
            row["model"] or "",
            plus_minus(row) if known else "",
            row["split"] or "",
            clock(row["seconds"]) if known else "",
            megabytes(row["bytes"]) if known else "",
            f"{day:%Y-%m-%d %H:%M}",
        )
    screen.print(table)
    for row in rows:
        if row["cause"]:
            screen.print(f"{row['run']}: {row['cause']}", style="red", markup=False)
