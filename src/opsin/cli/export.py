"""`opsin export`: the same classifier in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.commands.test_set_usage import looks_in_words
from opsin.core.format import file_size
from opsin.report.terminal import for_people, printable


def export(
    model: options.Model,
    *,
    to: Annotated[
        Literal["int8", "fp16", "bundle"],
        typer.Option(
            "--to",
            help="int8: whole numbers, calibrated on training images. fp16: numbers of 16 bits. "
            "bundle: a .zip with the file, samples, and clients in Python and JavaScript.",
        ),
    ] = "bundle",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write (default: beside MODEL).", show_default=False),
    ] = None,
    data: options.Data = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write the file even where it answers worse by more than 0.3 points."
        ),
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a classifier in another format, and show what changes.

    The new file is held against the old one on real images: its accuracy may fall by no more
    than 0.3 points, its size and speed on this machine are measured.

    Example: opsin export runs/2026-11-21-fashion-mnist-cnn --to int8
    """
    from opsin.commands.export.export import export_model  # noqa: PLC0415  needs the ONNX library

    shipped = export_model(
        model, to, out=out, force=force, data=data or (), watcher=for_people(quiet=quiet)
    )
    if as_json:
        print_json(shipped.to_json())
        return
    screen = console()
    size = f"{file_size(shipped.bytes)} (before {file_size(shipped.bytes_before)})"
    screen.print(printable(f"File      {shipped.path} · {size}"), markup=False)
    screen.print(f"Verdict   {shipped.verdict}", markup=False)
    screen.print(
        f"Same      labels on {shipped.images - shipped.labels_changed:,} of {shipped.images:,} "
        f"images, largest difference of a probability {shipped.largest_difference:.1g}",
        markup=False,
    )
    if shipped.looks is not None:
        screen.print(f"These test images were {looks_in_words(shipped.looks)}.", markup=False)
    if shipped.layers_gone:
        gone = printable(", ".join(shipped.layers_gone))
        screen.print(f"Layers that it no longer has apart: {gone}", markup=False)
