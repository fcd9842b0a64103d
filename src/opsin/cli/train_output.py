"""What is printed once a run is over, of a training that is only planned, and of several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from opsin.cli.output import STOP_SAID, console, print_json
from opsin.commands.runs import Run
from opsin.core.artifacts.run_report import Report
from opsin.core.format import clock, plus_minus
from opsin.report.doubts import labels_grounds
from opsin.report.terminal import Terminal, class_table, printable

if TYPE_CHECKING:
    from opsin.commands.repeats import RepeatedRun, Repeats
    from opsin.report.training_plan import Plan


def tell_run(run: Run, *, as_json: bool) -> None:
    """Print a run's figures and where to look next.

    Raises:
        typer.Exit: It was stopped (status 130), or its loss ran away (status 1).
    """
    report = run.directory.read(Report)
    if as_json:
        print_json({"run": str(run.path), **report.to_json()})
    else:
        screen = console()
        screen.print()
        screen.print(class_table(report.judged))
        screen.print(f"\nLook      {run.directory.page}", markup=False, soft_wrap=True)
        screen.print(f"Try       opsin predict {run.path} IMAGE", markup=False, soft_wrap=True)
        if report.training.stopped:
            screen.print(f"Go on     opsin resume {run.path}", markup=False, soft_wrap=True)
    _exit_with(stopped=report.training.stopped, diverged=bool(report.training.diverged))


def _exit_with(*, stopped: bool, diverged: bool) -> None:
    if stopped:
        STOP_SAID.set()
        raise typer.Exit(130)
    if diverged:
        raise typer.Exit(1)


def tell_plan(planned: Plan, *, as_json: bool) -> None:
    """Print a plan: its layers, what was decided and why, and what it will cost."""
    from opsin.commands.train.plan import in_words  # noqa: PLC0415  loads what training needs

    if as_json:
        print_json(planned.to_json())
        return
    teller = Terminal(console())
    (name, text), *others = in_words(planned)
    teller.fact(name, text)
    if planned.layers:
        teller.layers(planned.layers)
    for name, text in others:
        teller.fact(name, text)


def tell_repeats(found: Repeats, *, as_json: bool) -> None:
    """Print a row a run, mean and deviation, and what these do and do not mean.

    Raises:
        typer.Exit: As for `tell_run`.
    """
    if as_json:
        labels = None if found.labels is None else str(found.labels)
        print_json({"file": str(found.file), "labels": labels, **found.summary.to_json()})
    else:
        _print_repeats(found)
    _exit_with(stopped=found.stopped, diverged=found.diverged)


def _print_repeats(found: Repeats) -> None:
    screen, summary = console(), found.summary
    screen.print()
    if summary.pooled is not None:
        screen.print(class_table(summary.pooled))
        screen.print()
    screen.print(_table(found))
    screen.print()
    for line in _meaning(found):
        screen.print(line, markup=False)
    screen.print(f"\nFile      {found.file}", markup=False, soft_wrap=True)
    doubts = summary.doubts
    grounds = printable(labels_grounds(doubts.suspected, doubts.labels)) if doubts else ""
    if found.labels is not None:
        grounds = (
            f"{found.labels}: those suspected to be wrong, over all images; correct them there, "
            f"and give it to --labels. {grounds}"
        )
    if found.labels is not None or (doubts and doubts.labels.too_weak):
        screen.print(f"Labels    {grounds}", markup=False, soft_wrap=True)


def _table(found: Repeats) -> Table:
    """Return a row for each run, and the last for their mean and deviation."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("Run", overflow="fold")
    kind = "Fold" if found.summary.kind == "folds" else "Seed"
    for name in (kind, "Accuracy", "Log loss", "Time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.summary.runs:
        table.add_row(
            escape(printable(row.run)) + _remark(row),
            row.fold or str(row.seed),
            plus_minus(row),
            f"{row.log_loss:.3f}",
            clock(row.seconds),
        )
    mean, deviation = found.summary.mean, found.summary.deviation
    if mean is not None:
        accuracy, loss = f"{mean.accuracy:.4f}", f"{mean.log_loss:.3f}"
        if deviation is not None:
            accuracy += f" ± {deviation.accuracy:.4f}"
            loss += f" ± {deviation.log_loss:.3f}"
        name = "Mean" if deviation is None else "Mean ± deviation"
        table.add_row(f"[bold]{name}[/]", "", f"[bold]{accuracy}[/]", loss, clock(mean.seconds))
    return table


def _remark(row: RepeatedRun) -> str:
    if row.stopped:
        return " (stopped)"
    return " (loss ran away)" if row.diverged else ""


def _meaning(found: Repeats) -> list[str]:
    """Say in words what the figures are, and what they are not."""
    summary = found.summary
    rows = summary.runs
    whole = [row for row in rows if not row.stopped]
    lines = []
    if found.stopped:
        counted = f"the mean is of {len(whole)}" if whole else "there is no mean"
        lines.append(
            f"Stopped by Ctrl-C: {len(whole)} of {summary.asked} runs are whole, {counted}."
        )
    if found.diverged:
        count = sum(1 for row in rows if row.diverged)
        lines.append(
            f"The loss ran away in {count} of {len(rows)} runs; the figures of the best epoch "
            "before it count all the same. Give a lower --rate."
        )
    if summary.split == "val":
        lines.append("On validation images, by which each best epoch was chosen: optimistic.")
    lines.append("A run's ± is its 95% interval, from the number of images it was tested on.")
    if summary.pooled is not None:
        pooled = summary.pooled
        if summary.deviation is not None:
            lines.append(
                "The mean's ± is the standard deviation between folds. It is no confidence "
                "interval: any two folds were trained on many of the same images."
            )
        lines.append(
            f"Pooled: accuracy {plus_minus(pooled)} (95% interval) on {pooled.images:,} "
            f"images, each tested once · log loss {pooled.log_loss:.3f}"
        )
    elif summary.deviation is not None:
        lines.append(
            f"The mean's ± is the standard deviation between seeds, on the same "
            f"{rows[0].images:,} images: how much chance there is in training. Other images "
            "would change the figures further."
        )
    return lines
