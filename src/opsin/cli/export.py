"""`opsin export`: the same classifier in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opsin.cli import options
from opsin.cli.output import print_json, say
from opsin.commands.test_set_usage import looks_in_words
from opsin.core.format import file_size
from opsin.hub.hub_name import PREFIX
from opsin.report.terminal import for_people, printable

if TYPE_CHECKING:
    from opsin.commands.export.bundle import HubExport
    from opsin.commands.export.smaller import Shipped


def export(
    model: Path,
    *,
    to: str = "bundle",
    out: Path | None = None,
    data: list[str] | None = None,
    force: bool = False,
    licence: str | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Write a classifier in another form, and show what changes.

    A smaller file is compared with the original on real images: its accuracy may fall by no more
    than 0.3 points. How fast it is on a machine: opsin bench --classifier FILE.

    Example: opsin export runs/2026-11-21-fashion-mnist-cnn --to int8

    Example: opsin export runs/cnn --to hf:owner/name --licence mit

    Options:
        to (FORM): int8: whole numbers, calibrated on training images. fp16: numbers of 16 bits.
            bundle: a .zip with the file, samples, and clients in Python and JavaScript.
            hf:owner/name: a folder for the Hugging Face hub, with a model card.
        out: File to write, or folder for the hub (default: beside MODEL).
        force: Write the file even if its accuracy falls by more than 0.3 points.
        licence (NAME): For the hub: the licence that you publish it under, such as apache-2.0, mit
            or cc-by-4.0 (default: none is stated).
    """
    known = to in ("int8", "fp16", "bundle") or to.startswith(PREFIX)
    options.expect(known, f"int8, fp16, bundle or hf:owner/name, not {to!r}", "--to")
    from opsin.commands.export.bundle import HubExport  # noqa: PLC0415  slow to load
    from opsin.commands.export.export import export_model  # noqa: PLC0415  slow to load

    shipped = export_model(
        model,
        to,
        out=out,
        force=force,
        data=data or (),
        licence=licence,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(shipped.model_dump(mode="json"))
    elif isinstance(shipped, HubExport):
        _print_folder(shipped)
    else:
        _print_file(shipped)


def _print_file(shipped: Shipped) -> None:
    size = f"{file_size(shipped.bytes)} (before {file_size(shipped.bytes_before)})"
    say(printable(f"File      {shipped.path} · {size}"))
    say(f"Verdict   {shipped.verdict}")
    say(
        f"Same      labels on {shipped.images - shipped.labels_changed:,} of {shipped.images:,} "
        f"images, largest difference of a probability {shipped.largest_difference:.1g}"
    )
    if shipped.looks is not None:
        say(f"These test images were {looks_in_words(shipped.looks)}.")
    if shipped.layers_gone:
        say(printable(f"Layers that it no longer has apart: {', '.join(shipped.layers_gone)}"))


def _print_folder(written: HubExport) -> None:
    say(printable(f"Folder    {written.path}"))
    for name, size in written.files.items():
        say(printable(f"          {name} · {file_size(size)}"))
    if written.licence == "unknown":
        say("Licence   none is stated, and without one others may not use it: --licence NAME")
    say(printable(f"Hub       {PREFIX}{written.repository}"))
    say(printable(f"Verdict   {written.verdict}"))
