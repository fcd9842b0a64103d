"""`opsin undo`: take back what `predict --sort-into` did."""

from __future__ import annotations

from pathlib import Path

import typer

from opsin.cli.output import print_json, say
from opsin.commands.predict.undo import undo as take_back
from opsin.report.terminal import for_people, printable


def undo(folder: Path, *, quiet: bool = False, as_json: bool = False) -> None:
    """Undo what `opsin predict --sort-into FOLDER` did.

    Images that were moved go back to where they came from; copies are removed, if they have not
    changed since. What cannot be taken back stays, and is listed.

    Example: opsin undo sorted

    Options:
        folder (FOLDER): The folder that was given to --sort-into.
    """
    done = take_back(folder, watcher=for_people(quiet=quiet))
    if as_json:
        print_json(done.to_json())
    else:
        moved, removed = f"Moved back {done.moved_back:,}", f"removed {done.removed:,} copies"
        say(f"{moved} · {removed} · left {done.left_count:,}")
        for image, reason in done.left:
            say(printable(f"    {image}: {reason}"))
    if done.left:
        raise typer.Exit(1)
