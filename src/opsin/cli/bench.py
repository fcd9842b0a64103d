"""`opsin bench`: how fast is this machine?"""

from __future__ import annotations

from pathlib import Path

from opsin.cli.output import columns, console, plain, print_json
from opsin.core.format import speed
from opsin.core.recipe_options import split_names
from opsin.report.terminal import for_people


def bench(
    *, model: str = "", classifier: Path | None = None, quiet: bool = False, as_json: bool = False
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
    figures = ("Images/s", "Slowest", "Fastest")
    table = columns("Work", "Network", "How", "Size", "Device", figures=figures, gap=2)
    for rate in done.rates:
        speeds = map(speed, (rate.images_per_second, rate.slowest, rate.fastest))
        table.add_row(rate.work, plain(rate.name), rate.how, rate.size, rate.device, *speeds)
    console().print(table)
