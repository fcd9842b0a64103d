"""`opsin studio`: everything in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsin.cli import options
from opsin.cli.output import print_json, stop_is_reported
from opsin.report.terminal import for_people
from opsin.studio import open_studio
from opsin.studio.settings import PORT


def studio(
    *,
    runs: options.Runs = Path("runs"),
    home: Path | None = None,
    root: list[Path] | None = None,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = PORT,
    token_file: Path | None = None,
    allowed_hosts: list[str] | None = None,
    at_once: Annotated[int, typer.Option(min=1)] = 1,
    share: bool = False,
    sub_path: str = "",
    most_gigabytes: Annotated[float, typer.Option(min=0)] = 0.0,
    most_waiting: Annotated[int, typer.Option(min=1)] = 20,
    no_browser: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Open the studio in a browser: images, training and results.

    Trainings are processes of their own: they go on when the studio ends, and it shows them again
    when it is back. Ctrl-C ends it.

    Example: opsin studio

    Options:
        home: Folder of the studio's own files: photographs, corrections, jobs (default: the user's
            data folder).
        root (FOLDER): A folder below which people may browse for images (default: your home).
        port: Port, or the next that is free; 0 takes any.
        at_once: Trainings that run at the same time.
        share: Let you invite others, each by a link for a name and a role (More, People).
        sub_path (PATH): Path of a proxy's site below which the studio is served, such as /opsin.
        most_gigabytes: Size of the studio's own files beyond which uploads are refused; 0 is no
            limit.
        most_waiting: Trainings that may wait at the same time.
        no_browser: Do not open a browser window.
    """
    with stop_is_reported():
        open_studio(
            runs,
            home=home,
            roots=root or (),
            host=host,
            port=port,
            token=options.token_of(token_file),
            allowed_hosts=allowed_hosts or (),
            at_once=at_once,
            share=share,
            sub_path=sub_path,
            most_gigabytes=most_gigabytes,
            most_waiting=most_waiting,
            open_browser=not (no_browser or as_json),
            watcher=for_people(quiet=quiet),
            announce=(lambda address: print_json({"url": address})) if as_json else None,
        )
