"""`opsin serve`: answer over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from opsin.cli import options, server_options
from opsin.cli.output import STOP_TOLD
from opsin.core.errors import RecipeError
from opsin.report.terminal import Both, for_people
from opsin.server import serve as run_server
from opsin.server.server_settings import ServerSettings


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run directories or classifier.onnx files; NAME=MODEL gives one another name.",
            show_default=False,
        ),
    ],
    *,
    host: server_options.Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes one that is free.")] = 8000,
    token_file: server_options.TokenFile = None,
    allow_host: server_options.AllowHost = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that compute (default: one a core).",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(
            "--queue", min=1, help="Pictures that may wait; beyond them, requests are refused."
        ),
    ] = 256,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Pictures that are computed together at most.")
    ] = 16,
    deadline: Annotated[
        float,
        typer.Option(
            "--deadline", metavar="SECONDS", help="Time for a request to be read and answered."
        ),
    ] = 30.0,
    max_megabytes: Annotated[
        float, typer.Option("--max-megabytes", metavar="MB", help="Most of one request's body.")
    ] = 20.0,
    max_megapixels: Annotated[
        float,
        typer.Option("--max-megapixels", metavar="MP", help="Most million pixels of a picture."),
    ] = 50.0,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Classes in an answer where nobody says.")
    ] = 5,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a line for each request.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Serve classifiers over HTTP: a REST API and a page to try it.

    A changed file is taken over while requests go on. Ctrl-C ends it once accepted requests are
    answered.

    Example: opsin serve runs/2026-11-21-fashion-mnist-cnn
    """
    token = server_options.token_given(token_file)
    settings = ServerSettings(
        host=host,
        port=port,
        token=token,
        allowed_hosts=tuple(allow_host or ()),
        max_bytes=_millions("--max-megabytes", max_megabytes),
        max_pixels=_millions("--max-megapixels", max_megapixels),
        deadline=deadline,
        queue=queue,
        batch=batch,
        workers=workers,
        top=top,
        access_log=access_log,
    )
    people = for_people(quiet=quiet)
    watcher = Both(people, server_options.Address("Page")) if as_json else people
    try:
        run_server(models, settings, watcher=watcher)
    except KeyboardInterrupt:  # the usual way to end it, and everything accepted is answered
        STOP_TOLD.set()
        raise typer.Exit(130) from None


def _millions(option: str, value: float) -> int:
    if not 1e-6 <= value <= 1e6:  # of what is not a number, neither holds
        raise RecipeError(f"{option} above 0", f"got {value:g}", f"Say {option} 10.")
    return round(value * 1e6)
