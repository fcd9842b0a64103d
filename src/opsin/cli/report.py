"""`opsin report`: a run's page, drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.report.terminal import for_people


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)
    ],
    *,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show the page in the web browser.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw the figures and the report page of a finished run anew.

    Example: opsin report runs/2026-11-21-fashion-mnist-cnn --open
    """
    from opsin.workflow.report import write_report  # noqa: PLC0415  needs matplotlib
    from opsin.workflow.runs import Run  # noqa: PLC0415

    page = write_report(run, watcher=for_people(quiet=quiet))
    if as_json:
        print_json({"page": str(page), **Run(run).report})
    else:
        console().print(str(page), markup=False)
    if open_page:
        typer.launch(page.absolute().as_uri())
