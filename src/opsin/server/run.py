"""A server's life: started, announced, ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from opsin.errors import RecipeError
from opsin.events import SILENT, Watcher
from opsin.server.app import Application, build_app
from opsin.server.connections import Connection
from opsin.server.engine import Engine
from opsin.server.measures import Measures
from opsin.server.served import Served
from opsin.server.settings import Settings

# Connections that may wait to be accepted; systems cut it to what they allow.
_BACKLOG: Final = 4096
# Files, sockets included, that the server wants to hold open.
_FILES: Final = 65_536
# Seconds that a connection without a request is kept.
_KEEP_ALIVE: Final = 60
# Seconds beyond the deadline that stopping waits for clients that read slowly.
_LAST: Final = 5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's server, which comes back from a signal instead of ending the process with it.

    Args:
        config: uvicorn's.
        started: Called once connections are taken.
        stopping: Called once no more are taken.
    """

    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._say_started, self._say_stopping = started, stopping
        self.stopped_by: int | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to Ctrl-C and to the system's request to stop, until the server is down."""
        try:
            before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        except ValueError:  # not in the main thread: whoever runs it there stops it otherwise
            before = {}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at a second Ctrl-C without waiting for requests."""
        self.stopped_by = self.stopped_by or sig
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and wait until those that are there are done."""
        self._say_stopping()
        await super().shutdown(sockets)

    async def abandon(self) -> None:
        """Leave those who still send or read: only after a second Ctrl-C are there any."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while self.server_state.tasks:
                    await asyncio.sleep(0.01)


def serve(
    models: Mapping[str, Path], settings: Settings | None = None, *, watcher: Watcher = SILENT
) -> None:
    """Serve models until the process is asked to stop (Ctrl-C, SIGTERM).

    The address is taken first and opened once all models are loaded, so that whoever can connect
    gets answers; and requests that were accepted are answered before the function returns.

    Args:
        models: Names, and where their files or run directories are.
        settings: How to listen, whom to answer, how much to take.
        watcher: Is told what is served, and where.

    Raises:
        RecipeError: The address is in use, or not this machine's.
        RunError: A model is not there.
        ModelFileError: A file is no classifier of Opsin's.
        KeyboardInterrupt: Ctrl-C ended it, after everything was answered.

    Example:
        ``serve({"demo": Path("runs/demo")}, Settings(port=9000))``
    """
    settings = settings or Settings()
    _allow_many_files()
    _set_up_logs(settings)
    with _bound(settings) as listening, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        stopped_by = runner.run(_serve(models, settings, listening, watcher))
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(
    models: Mapping[str, Path], settings: Settings, listening: socket.socket, watcher: Watcher
) -> int | None:
    """Serve, and return the signal that ended it."""
    measures = Measures()
    engine = Engine(
        models,
        workers=settings.workers,
        queue=settings.queue,
        batch=settings.batch,
        deadline=settings.deadline,
        max_pixels=settings.max_pixels,
        observer=measures,
    )
    await engine.start()
    in_haste = False
    try:
        port = listening.getsockname()[1]
        server = Server(
            _config(build_app(engine, settings, measures), settings),
            started=lambda: _announce(engine.served, settings, port, watcher),
            stopping=lambda: watcher.fact("Stops", "requests that were accepted are answered"),
        )
        with _explained(settings):
            listening.listen(_BACKLOG)
        await server.serve([listening])
        in_haste = server.force_exit
    finally:
        await engine.stop(wait=not in_haste)
    await server.abandon()
    return server.stopped_by


def _config(app: Application, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=settings.access_log,
        # Whoever may connect could say to be anybody else.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.deadline) + _LAST,
        backlog=_BACKLOG,
    )


def _announce(
    served: Mapping[str, Served], settings: Settings, port: int, watcher: Watcher
) -> None:
    """Tell what is served, and where."""
    for name, model in served.items():
        like, score = model.metadata.preparation, model.metadata.score
        colour = "grey" if like.channels == 1 else "colour"
        text = f"{name} · {len(model.metadata.classes):,} classes · {like.width}×{like.height}"
        accuracy = "" if score is None else f" · accuracy {score.accuracy:.4f}"
        watcher.fact("Serves", f"{text} {colour}{accuracy}")
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound to
    host = "127.0.0.1" if everywhere else settings.host
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    watcher.fact("Page", f"{address}/")
    watcher.fact("API", f"{address}/docs")
    option = "" if settings.token is None else " -H 'Authorization: Bearer TOKEN'"
    which = "" if len(served) == 1 else f"?model={next(iter(served))}"
    watcher.fact(
        "Try",
        f"curl --data-binary @PICTURE -H 'Content-Type: image/png'{option} "
        f"{address}/predict{which}",
    )
    if settings.token is not None:
        watcher.fact("Token", "a browser asks for it: any name, the token as password")
    if not settings.loopback:
        watcher.note(
            f"{'every address of this machine' if everywhere else host} is listened on without "
            "encryption: who can watch the network reads pictures and token. Put a proxy with "
            "HTTPS in front of it, and name the proxy's host among the allowed ones."
        )


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """Hold the address, without taking connections yet."""
    host = "127.0.0.1" if settings.host.lower() == "localhost" else settings.host
    with contextlib.ExitStack() as stack:
        with _explained(settings):
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            if os.name == "posix":  # elsewhere it would let two servers have the same port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        yield listening


@contextlib.contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Turn what the system says about an address into one line."""
    try:
        yield
    except OSError as error:
        where = f"{settings.host}, port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise RecipeError(
                "a port that is free",
                f"{where} is in use",
                "Choose another one, or 0 for any that is free.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise RecipeError(
                "a port that this user may open", f"{where} is not", "Choose one above 1023."
            ) from error
        raise RecipeError(
            "an address of this machine",
            f"{where}: {(error.strerror or str(error)).lower()}",
            "127.0.0.1 is this machine alone, 0.0.0.0 every address it has.",
        ) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415  there is none for Windows

    return uvloop.new_event_loop


def _allow_many_files() -> None:
    """Raise the number of open files to what the system grants: each connection is one."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _set_up_logs(settings: Settings) -> None:
    """Log faults of the server, and of requests what was asked for."""
    # Each malformed request would be a line: whoever sends them should not fill the disk.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if settings.access_log:
        log = logging.getLogger("uvicorn.access")
        log.setLevel(logging.INFO)
        log.propagate = False
        if not log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            log.addHandler(handler)
