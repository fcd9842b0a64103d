"""`opsin merge`: shards become one file."""

from __future__ import annotations

from opsin.cli.output import console, plain, print_json
from opsin.commands.predict.out_file import merge as join
from opsin.core.format import clock, counted
from opsin.report.terminal import for_people


def merge(
    whole: str, *, out: str | None = None, quiet: bool = False, as_json: bool = False
) -> None:
    """Join the shards of a file: the same rows as made in one go.

    Example: opsin merge answers.csv

    Options:
        whole (FILE): The name that --out gave the shards, which lie beside it.
        out (FILE): New file (default: that name).
    """
    done = join(whole, out=out, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(done.to_json())
        return
    console().print(
        f"[bold]Merged[/]    {plain(str(done.out))} · {counted(done.shards, 'shard')} · "
        f"{counted(done.rows, 'row')} · {clock(done.seconds)}"
    )
