"""The list of verbs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer

from opsin._version import __version__
from opsin.cli import data, evaluate, predict, report, runs, train
from opsin.cli.output import print_error
from opsin.errors import OpsinError


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


def _guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """Turn Opsin's own errors into their one line, and Ctrl-C into its exit status."""

    @functools.wraps(verb)
    def guarded(*words: Any, **options: Any) -> None:
        try:
            verb(*words, **options)
        except OpsinError as error:
            print_error(error)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            raise typer.Exit(130) from stop

    return guarded


app = typer.Typer(
    name="opsin",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(_about)

for _verb in (
    data.data,
    train.train,
    predict.predict,
    evaluate.evaluate,
    report.report,
    runs.runs,
):
    app.command(_verb.__name__)(_guarded(_verb))
