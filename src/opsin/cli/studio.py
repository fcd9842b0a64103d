"""`opsin studio`: everything in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from opsin.cli import options, server_options
from opsin.cli.options import flag
from opsin.cli.output import STOP_SAID, print_json
from opsin.report.terminal import for_people
from opsin.studio import open_studio
from opsin.studio.studio_settings import StudioSettings


@server_options.takes_settings(StudioSettings, after="root")
def studio(
    *,
    runs: options.Runs = Path("runs"),
    home: Annotated[
        Path | None,
        flag(
            "--home",
            "Folder of the studio's own files: queue, sets, corrections "
            "(default: the user's data folder).",
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        flag(
            "--root FOLDER",
            "A folder below which people may browse for images (default: your home).",
        ),
    ] = None,
    no_browser: Annotated[bool, flag("--no-browser", "Do not open a browser window.")] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    **settings: Any,
) -> None:
    """Open the studio in a browser: images, training and results.

    Trainings are processes of their own: they go on when the studio ends, and it shows them again
    when it is back. Ctrl-C ends it.

    Example: opsin studio
    """
    try:
        open_studio(
            runs,
            home=home,
            roots=root or (),
            **settings,
            open_browser=not (no_browser or as_json),
            watcher=for_people(quiet=quiet),
            announce=(lambda address: print_json({"url": address})) if as_json else None,
        )
    except KeyboardInterrupt:  # the usual way to end it, and nothing is lost
        STOP_SAID.set()
        raise typer.Exit(130) from None
