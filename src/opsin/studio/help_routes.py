"""The documentation, served under ``/help`` from the files that `opsin docs` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from opsin.core.glossary import SITE

#: Where the documentation is in the studio.
HELP: Final = "/help"


def add_routes(api: FastAPI, site: Path = SITE) -> None:
    """Serve the documentation; where it was not built, say so."""
    if (site / "index.html").is_file():
        api.mount(HELP, StaticFiles(directory=site, html=True), name="help")
        return

    text = "The documentation is not part of this installation. In a clone, build it: make site."
    api.mount(HELP, PlainTextResponse(text, 404))
