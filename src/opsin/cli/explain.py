"""`opsin explain`: what a layer does, with real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsin.cli import options
from opsin.cli.explain_output import show_explained
from opsin.cli.output import console, print_json
from opsin.inspection.lessons.lesson_terms import Term
from opsin.report.terminal import for_people

ShownImage = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGE",
        help="An image; or one of the run's, by name, or by part and number: test/17 (default: "
        "the first test image).",
        show_default=False,
    ),
]
Terms = Annotated[
    Term | None,
    typer.Option(
        "--term",
        help="What to explain (default: list what this network has).",
        show_default=False,
    ),
]
OneLayer = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="At which layer (default: the first one of that kind).",
        show_default=False,
    ),
]
Drawing = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw it into this file, too: .png, .svg or .pdf.",
        show_default=False,
    ),
]


def explain(
    model: options.Model,
    image: ShownImage = None,
    *,
    term: Terms = None,
    layer: OneLayer = None,
    plot: Drawing = None,
    data: options.Data = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Explain what a layer does, with its real numbers for one image.

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn --term convolution

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn boot.jpg --term softmax
    """
    from opsin.commands.explain import explain as workflow  # noqa: PLC0415  slow to load

    found = workflow(
        model,
        term,
        image,
        layer=layer,
        data=data or (),
        plot=plot,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(found.to_json())
    else:
        show_explained(console(), found)
