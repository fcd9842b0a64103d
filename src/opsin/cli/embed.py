"""`opsin embed`: a pretrained network's features of each image."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.cli import options, recipe_flags
from opsin.cli.output import console, plain, print_json, say_unreadable, stop_is_reported
from opsin.core.format import clock, counted
from opsin.report.terminal import for_people


@recipe_flags.takes("classes", "columns", "follow_links", "outside", after="offline")
@recipe_flags.takes("backbone", "prepare", after="source", most_used=("backbone", "prepare"))
def embed(
    source: list[str],
    *,
    at: Annotated[Any, typer.Option(parser=options.parser_of(TRAIN_OPTIONS["at"].read))] = None,
    out: str | None = None,
    offline: bool = False,
    shard: str | None = None,
    on: str = "local",
    device: options.Device = "auto",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Write what a pretrained network says of images into a file.

    Example: opsin embed photos --from mobilenet.onnx --prepare=-1..1 --out photos.npz

    Example: opsin embed holiday --from runs/2026-11-21-photos-resnet --out holiday.npz

    Options:
        source (SOURCE): Images with labels, as opsin train takes them, or without, as opsin predict
            does: a folder, a table, an archive, files.
        at (VALUE,…): Values of the network to take, one beside the other (default: that before its
            last dense layer).
        out (FILE): Write into this new .npz file, or object (s3://bucket/photos.npz)
            (default: SOURCE-NETWORK.npz); stopped or killed, the same command goes on where it was.
    """
    from opsin.commands.embed import embed as workflow  # noqa: PLC0415  loads onnx

    options.expect("backbone" in fields, "a pretrained network: an ONNX file, or a run", "--from")
    with stop_is_reported():
        done = workflow(
            source,
            at=at,
            out=out,
            offline=offline,
            shard=shard,
            on=on,
            device=device,
            watcher=for_people(quiet=quiet),
            **fields,
        )
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    before = done.images - done.computed
    resumed = f", {before:,} of them done before" if before else ""
    console().print(
        f"[bold]Features[/]  {plain(str(done.out))} · {counted(done.images, 'image')}{resumed} · "
        f"{done.units:,} numbers each · {clock(done.seconds)}"
    )
    say_unreadable(done.unreadable)
