"""`opsin serve`: answer over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsin.cli import options
from opsin.cli.output import print_json, stop_is_reported
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher, WatcherGroup
from opsin.report.terminal import for_people
from opsin.server import ServerSettings, serve as run_server


def serve(
    models: list[str],
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    token_file: Path | None = None,
    allowed_hosts: list[str] | None = None,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    device: options.Device = "auto",
    queue: Annotated[int, typer.Option(min=1)] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    deadline: float = 30.0,
    max_megabytes: float = 20.0,
    max_megapixels: float = 50.0,
    page: str | None = None,
    access_log: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Serve classifiers over HTTP: a REST API and a page to try it.

    A changed file is taken over while requests go on. Ctrl-C ends it once accepted requests are
    answered.

    Example: opsin serve runs/2026-11-21-fashion-mnist-cnn

    Options:
        models (MODEL...): Run directories, classifier.onnx files, or hf:owner/name[@revision] on
            the Hugging Face hub; NAME=MODEL gives one another name.
        port: Port; 0 takes one that is free.
        workers: Processes that compute (default: one a core).
        queue: Images that may wait; beyond them, requests are refused.
        batch: Images that are computed together at most.
        deadline (SECONDS): Time for a request to be read and answered.
        max_megabytes (MB): Most of one request's body.
        max_megapixels (MP): Most million pixels of an image.
        page (FILE): HTML file of your own to show at / in place of Opsin's page.
        access_log: Write a line for each request.
    """
    settings = ServerSettings(
        host=host,
        port=port,
        token=options.token_of(token_file),
        allowed_hosts=tuple(allowed_hosts or ()),
        workers=workers,
        device=device,
        queue=queue,
        batch=batch,
        deadline=deadline,
        max_bytes=_millions("--max-megabytes", max_megabytes),
        max_pixels=_millions("--max-megapixels", max_megapixels),
        page=page,
        access_log=access_log,
    )
    watcher = for_people(quiet=quiet)
    with stop_is_reported():
        run_server(
            models, settings, watcher=WatcherGroup(watcher, _Address()) if as_json else watcher
        )


class _Address(Watcher):
    """Prints the address for scripts once the server is ready."""

    def fact(self, name: str, text: str) -> None:
        if name == "Page":
            print_json({"url": text})


def _millions(flag: str, value: float) -> int:
    if not 1e-6 <= value <= 1e6:  # of what is not a number, neither holds
        raise RecipeError(f"{flag} must be above 0, not {value:g}")
    return round(value * 1_000_000)
