"""Builds the studio's application and runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import webbrowser
from collections.abc import Callable
from functools import partial

# Read when NiceGUI is imported: we use none of its storage.
os.environ.setdefault("NICEGUI_STORAGE_PATH", os.devnull)

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from nicegui import app as nicegui_app, ui

from opsin.core.errors import StorageError
from opsin.core.events import Watcher
from opsin.core.glossary import glossary
from opsin.core.platform import allow_open_files
from opsin.studio import image_routes
from opsin.studio.context import Studio
from opsin.studio.datasets import uploads
from opsin.studio.door import Door
from opsin.studio.errors import DiskFull, new_api
from opsin.studio.pages import try_
from opsin.studio.pages.page import add_error_pages, all_pages
from opsin.studio.runs import workers
from opsin.studio.settings import StudioSettings
from opsin.studio.ui import layout
from opsin.web.listening import OPEN_FILES, ConnectionLimits, Server, listening


def build(studio: Studio) -> FastAPI:
    """Return the application with all pages and routes, not yet guarded."""
    api = new_api()
    image_routes.add_routes(api, studio)
    image_routes.add_help(api)
    uploads.add_routes(api, studio.uploads)
    try_.add_routes(api, studio.jobs)
    workers.add_routes(api, studio.inside, studio.tried)
    layout.head()  # read once, before there are windows
    glossary()
    ui.button.default_props("no-caps")
    ui.menu_item.default_props("role=menuitem")
    for field in (ui.input, ui.number, ui.select, ui.textarea):
        field.default_props("outlined dense")
    pages = all_pages()
    studio.menu = [(page.more, page.path, page.needs) for page in pages if page.more]
    for page in pages:
        page.register(studio)
    add_error_pages(studio)
    nicegui_app.on_startup(studio.start)
    nicegui_app.on_shutdown(studio.stop)

    # Closing a window while its page is built is not an error.
    logging.getLogger("nicegui").addFilter(
        lambda record: not str(record.msg).startswith("Client has been deleted")
    )
    # No loading bar at the top for requests of scripts.
    nicegui_app.config.quasar_config["loadingBar"]["skipHijack"] = True
    ui.run_with(
        api,
        title="Opsin",
        language="en-US",
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
        binding_refresh_interval=None,
        cache_control_directives="private, max-age=86400",
        # A third of the usual level's time, for a tenth more bytes.
        gzip_middleware_factory=partial(GZipMiddleware, compresslevel=1),
    )
    return api


def serve(
    settings: StudioSettings,
    open_browser: bool,
    watcher: Watcher,
    announce: Callable[[str], None] | None,
) -> None:
    """Run a studio until Ctrl-C or SIGTERM; its trainings continue."""
    allow_open_files(OPEN_FILES)
    with listening(settings.host, settings.port, further=20) as socket:
        studio = Studio(settings)
        studio.hold()
        door = Door(settings, studio.people, socket.getsockname()[1])
        try:
            door.write_entrance()
        except StorageError:
            if not (announce or sys.stderr.isatty()):
                raise  # nobody would be told how to sign in
            watcher.note(f"{DiskFull()} Until then, what is there can be looked at.")

        def started() -> None:
            watcher.fact("Studio", f"{door.start}/")
            if announce:
                announce(door.new_address())
            if not sys.stderr.isatty():
                if settings.entrance.exists():
                    watcher.fact("Sign in", f"open {settings.entrance}")
            elif not announce:  # on a terminal only, never in a log
                link = door.new_address()
                sys.stderr.write(f"Link      {link}  (signs in another browser here, once)\n")
            watcher.fact("Runs", str(settings.runs))
            if open_browser and settings.entrance.exists():
                webbrowser.open(settings.entrance.as_uri())

        def stopping() -> None:
            watcher.fact("Stops", "trainings go on; opsin studio shows them again")

        # Each open window has a WebSocket.
        limits = ConnectionLimits(most=2_000, most_web_sockets=250)
        config = uvicorn.Config(
            limits.around(door.guard(build(studio))),
            http=limits.protocol,  # type: ignore[arg-type]  # a class, in uvicorn's words
            log_level="error",  # at "warning", each malformed request would be a line
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            ws_max_size=1_000_000,
        )
        server = Server(config, started=started, stopping=stopping)
        try:
            asyncio.run(server.serve([socket]))
        finally:
            settings.entrance.unlink(missing_ok=True)
    if server.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
