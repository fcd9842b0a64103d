"""A server's life cycle."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, grey_or_colour
from opsin.core.platform import allow_open_files
from opsin.server.app import Application
from opsin.server.engine import Engine
from opsin.server.models import ServedModel, check_models, fetch_models, parse_models
from opsin.server.settings import ServerSettings
from opsin.web.addresses import EVERYWHERE, url_of
from opsin.web.connections import ConnectionLimits
from opsin.web.listening import BACKLOG, OPEN_FILES, Server, bound, listen

if TYPE_CHECKING:
    from opsin.server import Models

# Seconds that an idle connection is kept.
_KEEP_ALIVE: Final = 60
# Seconds beyond the deadline that stopping waits for slow readers.
_LAST: Final = 5


def named_models(models: Models, watcher: Watcher) -> dict[str, Path]:
    """Models by name, those on the hub fetched."""
    if isinstance(models, str | os.PathLike):
        models = [models]
    if isinstance(models, Mapping):
        return fetch_models(check_models(models), watcher)
    return fetch_models(parse_models([os.fspath(model) for model in models]), watcher)


def serve(
    models: Mapping[str, Path], settings: ServerSettings | None = None, *, watcher: Watcher = SILENT
) -> None:
    """Serve models by name until the process is asked to stop (Ctrl-C, SIGTERM).

    The address is bound first, and accepts connections once all models are loaded, so that every
    client that can connect gets answers. Accepted requests are answered before this returns.
    """
    settings = settings or ServerSettings()
    allow_open_files(OPEN_FILES)
    _set_up_logs(settings)
    try:
        from uvloop import new_event_loop as loop_factory  # noqa: PLC0415  none for Windows
    except ImportError:
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None  # type: ignore[no-redef]
    with (
        bound(settings.host, settings.port) as held,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        stopped_by = runner.run(_serve(models, settings, held, watcher))
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


def application(models: Mapping[str, Path], settings: ServerSettings) -> Application:
    """The application with the engine of its settings."""
    return Application(Engine(models, settings), settings)


async def _serve(
    models: Mapping[str, Path], settings: ServerSettings, held: socket.socket, watcher: Watcher
) -> int | None:
    """Serve, and return the signal that stopped it."""
    app = application(models, settings)
    engine = app.engine
    await engine.start()
    in_haste = False
    try:
        port = held.getsockname()[1]
        limits = ConnectionLimits()
        config = uvicorn.Config(
            limits.around(app),
            interface="asgi3",
            http=limits.protocol,  # type: ignore[arg-type]  # a class, in uvicorn's words
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=settings.access_log,
            # Any client could claim to be another one.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(settings.deadline) + _LAST,
            backlog=BACKLOG,
        )
        server = Server(
            config,
            started=lambda: _announce(engine.served, settings, port, watcher),
            stopping=lambda: watcher.fact("Stops", "requests that were accepted are answered"),
        )
        listen(held, settings.host, settings.port)
        await server.serve([held])
        in_haste = server.force_exit
    finally:
        await engine.stop(wait=not in_haste)
    await server.abandon()
    return server.stopped_by


def _announce(
    served: Mapping[str, ServedModel], settings: ServerSettings, port: int, watcher: Watcher
) -> None:
    for name, model in served.items():
        preparation, score = model.metadata.preparation, model.metadata.score
        classes = counted(len(model.metadata.classes), "class", "classes")
        size = f"{preparation.width}×{preparation.height} {grey_or_colour(preparation.channels)}"
        accuracy = "" if score is None else f" · accuracy {score.accuracy:.4f}"
        device = "" if model.file.device == "cpu" else f" · on {model.file.device}"
        watcher.fact("Serves", f"{name} · {classes} · {size}{accuracy}{device}")
    address = url_of(settings.host, port)
    watcher.fact("Page", f"{address}/")
    watcher.fact("API", f"{address}/docs")
    option = "" if settings.token is None else " -H 'Authorization: Bearer TOKEN'"
    which = "" if len(served) == 1 else f"?model={next(iter(served))}"
    watcher.fact(
        "Try",
        f"curl --data-binary @IMAGE -H 'Content-Type: image/png'{option} {address}/predict{which}",
    )
    if settings.token is not None:
        watcher.fact("Token", "a browser asks for it: any name, the token as password")
    if not settings.loopback:
        where = "every address of this machine" if settings.host in EVERYWHERE else settings.host
        watcher.note(
            f"{where} is listened on without "
            "encryption: who can watch the network reads images and token. Put a proxy with "
            "HTTPS in front of it, and name the proxy's host among the allowed ones."
        )


def _set_up_logs(settings: ServerSettings) -> None:
    """Log the server's errors and, by the settings, requests."""
    # Malformed requests are not logged: no client may fill the disk.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    log = logging.getLogger("uvicorn.access")
    if settings.access_log and not log.handlers:
        log.setLevel(logging.INFO)
        log.propagate = False
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
