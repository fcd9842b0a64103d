"""`opsin bench`: how fast is this machine?"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.core.format import speed
from opsin.core.recipe_options import split_names
from opsin.report.terminal import for_people


def bench(
    *,
    model: str = "",
    classifier: Path | None = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure images a second in training and answering.

    On the CPU and on each GPU found, with images of noise; nothing is fetched.

    Example: opsin bench --model cnn

    Options:
        model (A,B,C): Networks to train and to ask (default: all of them).
        classifier (MODEL): A run directory, a classifier.onnx or hf:owner/name to ask instead of
            fresh networks; needs no PyTorch.
    """
    from opsin.commands import bench as workflow  # noqa: PLC0415  loads what prediction needs

    done = workflow.bench(
        models=split_names(model), classifier=classifier, watcher=for_people(quiet=quiet)
    )
    if as_json:
        print_json(done.model_dump())
        return
    table = Table("Work", "Network", "How", "Size", "Device", box=None, pad_edge=False)
    for name in ("Images/s", "Slowest", "Fastest"):
        table.add_column(name, justify="right")
    for rate in done.rates:
        figures = map(speed, (rate.images_per_second, rate.slowest, rate.fastest))
        table.add_row(rate.work, escape(rate.name), rate.how, rate.size, rate.device, *figures)
    console().print(table)
