"""`opsin bench`: how fast is this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.core.format import speed
from opsin.core.recipe_options import split_names
from opsin.report.terminal import for_people, heading

OnlyWork = Annotated[
    str,
    typer.Option(
        "--only",
        metavar="A,B",
        help="Measure reading, training or prediction alone, or two of them.",
        show_default=False,
    ),
]
Networks = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="A,B,C",
        help="Networks to train and to ask (default: all of them).",
        show_default=False,
    ),
]
ClassifierPath = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        metavar="MODEL",
        help="A run directory, a classifier.onnx or hf:owner/name to ask instead of fresh "
        "networks; needs no PyTorch.",
        show_default=False,
    ),
]
SecondsEach = Annotated[
    float, typer.Option("--seconds", metavar="N", help="How long each measurement takes.")
]
BenchFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Folder for bench.json and the chart, bench.png and bench.svg.",
        show_default=False,
    ),
]


def bench(
    *,
    only: OnlyWork = "",
    model: Networks = "",
    classifier: ClassifierPath = None,
    seconds: SecondsEach = 1.5,
    out: BenchFolder = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure how fast this machine reads, trains and predicts.

    Everything is made up for it, nothing is fetched. Run it while nothing else is at work.

    Example: opsin bench --out bench

    Example: opsin bench --only prediction --classifier classifier.onnx
    """
    from opsin.commands import bench as workflow  # noqa: PLC0415  loads what prediction needs

    done = workflow.bench(
        only=split_names(only),
        models=split_names(model),
        classifier=classifier,
        seconds=seconds,
        out=out,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(done.to_json())
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1))  # fits 80 columns
    for name in ("Work", "What", "Size", "Device"):
        table.add_column(heading(name))
    for name in ("Images/s", "Slowest", "Fastest"):
        table.add_column(heading(name), justify="right", no_wrap=True)
    for rate in done.rates:
        what = escape(rate.name) + (f", {rate.how}" if rate.work != "reading" else "")
        figures = map(speed, (rate.median, rate.low, rate.high))
        table.add_row(rate.work, what, rate.size, rate.device, *figures)
    screen = console()
    screen.print(table)
    screen.print()
    for sentence in done.sentences():
        screen.print(sentence, markup=False)
    if out is not None:
        screen.print(f"\nChart     {out / 'bench.png'}", markup=False, soft_wrap=True)
