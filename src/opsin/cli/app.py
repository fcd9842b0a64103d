"""The list of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from opsin._version import __version__
from opsin.cli import data, evaluate, predict, report, runs, train


def _version(value: bool) -> None:
    if value:
        typer.echo(f"opsin {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Turn pictures sorted by label into a classifier you can look inside, trust and ship.

    Start with: opsin train fashion-mnist
    """


app = typer.Typer(
    name="opsin",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(_about)
app.command("data")(data.data)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("runs")(runs.runs)
