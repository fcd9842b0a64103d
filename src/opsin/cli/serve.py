"""`opsin serve`: answer over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opsin.cli import options, server_options
from opsin.cli.options import argument
from opsin.cli.output import STOP_SAID
from opsin.core.events import WatcherGroup
from opsin.report.terminal import for_people
from opsin.server import serve as run_server
from opsin.server.server_settings import ServerSettings


@server_options.takes_settings(ServerSettings, after="models")
def serve(
    models: Annotated[
        list[str],
        argument(
            "MODEL...",
            "Run directories, classifier.onnx files, or hf:owner/name[@revision] on the "
            "Hugging Face hub; NAME=MODEL gives one another name.",
        ),
    ],
    *,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    **settings: Any,
) -> None:
    """Serve classifiers over HTTP: a REST API and a page to try it.

    A changed file is taken over while requests go on. Ctrl-C ends it once accepted requests are
    answered.

    Example: opsin serve runs/2026-11-21-fashion-mnist-cnn
    """
    people = for_people(quiet=quiet)
    watcher = WatcherGroup(people, server_options.Address("Page")) if as_json else people
    try:
        run_server(models, ServerSettings(**settings), watcher=watcher)
    except KeyboardInterrupt:  # the usual way to end it, and everything accepted is answered
        STOP_SAID.set()
        raise typer.Exit(130) from None
