"""`opsin merge`: shards become one file."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from opsin.cli import options
from opsin.cli.output import console, print_json
from opsin.commands.labelled_shard import MadeShard
from opsin.commands.merge import merge as join
from opsin.core.format import clock, counted
from opsin.report.terminal import for_people, printable

ShardsToMerge = Annotated[
    list[str],
    typer.Argument(
        metavar="SHARD...",
        help="All shards, or the one name that --out gave them; also on a store (s3://…).",
        show_default=False,
    ),
]
MergedFile = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FILE", help="New file (default: that name).", show_default=False
    ),
]
PartToMerge = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Only the I-th of N equal parts of the shards, into one larger shard: several "
        "machines merge a part each, and another merge joins these.",
        show_default=False,
    ),
]


def merge(
    shards: ShardsToMerge,
    *,
    out: MergedFile = None,
    part: PartToMerge = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Join the shards of a file: the same bytes as made in one go.

    Shards of an evaluation become its figures, those of an audit its findings.

    Example: opsin merge answers.csv

    Example: opsin merge answers-*-of-00003.csv --out answers.csv

    Example: opsin merge answers.csv --part 1/100
    """
    done = join(shards, out=out, part=part, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(done.to_json())
        return
    console().print(
        f"[bold]Merged[/]    {escape(printable(str(done.out)))} · "
        f"{counted(done.shards, 'shard')} · {counted(done.rows, 'row')} · {clock(done.seconds)}"
    )


def tell_shard(made: MadeShard, *, as_json: bool) -> None:
    """Print where a shard of an evaluation or an audit was written."""
    if as_json:
        print_json(made.to_json())
        return
    console().print(
        f"[bold]Shard[/]     {escape(printable(str(made.out)))} · {made.shard} · "
        f"{counted(made.images, 'image')} · {clock(made.seconds)}"
    )
