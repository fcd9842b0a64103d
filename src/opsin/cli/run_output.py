"""What is printed once a run is over."""

from __future__ import annotations

import typer

from opsin.cli.output import STOP_SAID, console, print_json
from opsin.commands.runs import Run
from opsin.core.artifacts.run_report import Report
from opsin.report.terminal import class_table


def tell_run(run: Run, *, as_json: bool) -> None:
    """Print a run's figures and where to look next."""
    report = run.directory.read(Report)
    training = report.training
    if as_json:
        print_json({"run": str(run.path), **report.to_json()})
    else:
        screen = console()
        screen.print()
        screen.print(class_table(report.judged))
        screen.print(f"\nLook      {run.directory.page}", markup=False, soft_wrap=True)
        screen.print(f"Try       opsin predict {run.path} IMAGE", markup=False, soft_wrap=True)
        if training.stopped:
            screen.print(f"Go on     opsin resume {run.path}", markup=False, soft_wrap=True)
    if training.stopped:
        STOP_SAID.set()
        raise typer.Exit(130)
    if training.diverged:
        raise typer.Exit(1)
