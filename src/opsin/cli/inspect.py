"""`opsin inspect`: a look inside a classifier."""

from __future__ import annotations

from pathlib import Path

import typer

from opsin.cli import options
from opsin.cli.inspect_output import show
from opsin.cli.output import console, print_json
from opsin.report.terminal import for_people


def inspect(
    model: options.Model,
    image: str | None = None,
    *,
    layer: list[str] | None = None,
    explain: bool = False,
    label: str | None = None,
    ablate: bool = False,
    probes: bool = False,
    portraits: bool = False,
    save: Path | None = None,
    data: options.Data = None,
    as_is: bool = False,
    out: Path | None = None,
    open_page: options.OpenPage = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Look inside a classifier: its layers, its units, its decisions.

    Example: opsin inspect runs/2026-11-21-fashion-mnist-cnn

    Example: opsin inspect runs/2026-11-21-fashion-mnist-cnn boot.png --explain

    Example: opsin inspect runs/cnn --layer block2.relu2 --class Bag

    Options:
        image (IMAGE): An image; or one of the run's, by name, or by part and number: test/17.
        layer (NAME): A layer in full; may be given several times. Without an image: what excites
            each of its units, over all training images.
        explain: With an image: heat maps with their checks, the smallest patch that decides, and
            the nearest training images.
        label (--class CLASS): With --explain: the class that the heat maps speak for. With --layer:
            the units that fire for it.
        ablate: With --layer: switch off each unit in turn, and count on the validation images what
            that costs.
        probes: How well a linear probe tells the classes apart behind each layer.
        portraits: For each class its surest, mean, most and least typical training images.
        save (FILE): Write the layers' raw numbers into this .npz file, of the image or of all known
            ones, and no page.
        as_is: Never invert an image's background.
        out (FOLDER): Folder for the page (default: inspection in the run directory, or here).
    """
    from opsin.commands.inspect import inspect as workflow  # noqa: PLC0415  slow to load

    found = workflow(
        model,
        image,
        layers=layer or (),
        data=data or (),
        label=label,
        explain=explain,
        ablate=ablate,
        probes=probes,
        portraits=portraits,
        as_is=as_is,
        save=save,
        out=out,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(found.to_json())
    else:
        show(console(), found, label)
    if open_page and found.page is not None:
        typer.launch(found.page.absolute().as_uri())
