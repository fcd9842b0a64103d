"""`opsin find`: the photographs of a heap that are most like some."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opsin.cli import recipe_flags
from opsin.cli.output import columns, console, plain, print_json, say_unreadable
from opsin.core.format import counted
from opsin.report.terminal import for_people


@recipe_flags.takes("columns", "follow_links", "outside", after="backbone")
def find(
    source: str,
    like: list[str],
    *,
    unlike: list[str] | None = None,
    count: int = 20,
    out: str | None = None,
    file: str | None = None,
    backbone: Annotated[str, typer.Option("--from")] = "efficientnet-lite2",
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Find the photographs of a heap that are most like some.

    Example: opsin find heap boot.jpg

    Example: opsin find heap img_0412.jpg img_0017.jpg --unlike img_0020.jpg --out like.png

    Example: opsin find heap metal --count 50 --json

    Options:
        source (HEAP): Photographs, with or without classes: a folder, a table, an archive.
        like (QUERY...): What to look for: names of the heap's photographs, classes of its labels,
            image files, or folders of these.
        unlike (QUERY): What to avoid; may be given several times.
        count: Photographs to find at most.
        out (FILE): Write an image of the first 25: PNG, SVG or PDF.
        file (FILE): The heap's labels (default: in your account's state folder).
        backbone (NETWORK): Network that compares photographs.
    """
    from opsin.commands.find import find as workflow  # noqa: PLC0415  loads onnx

    done = workflow(
        source,
        *like,
        unlike=unlike or (),
        count=count,
        out=out,
        file=file,
        backbone=backbone,
        watcher=for_people(quiet=quiet),
        **fields,
    )
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    screen = console()
    screen.print(f"[bold]Compared[/]  {counted(done.images, 'photograph')}")
    table = columns("Photograph", figures=["Similarity"])
    for one in done.found:
        table.add_row(plain(one.image), f"{one.similarity:.2f}")
    screen.print(table)
    if done.out is not None:
        screen.print(f"[bold]Written[/]   {plain(str(done.out))}")
    say_unreadable(done.unreadable)
