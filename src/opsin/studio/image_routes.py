"""Routes for images and files, by id, and for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.glossary import SITE
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.errors import NotThere
from opsin.studio.runs.dataset_cache import DatasetCache
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES

#: The documentation's path in the studio.
HELP: Final = "/help"
# A page in a run's folder is untrusted, since runs are copied between machines: it may run its own
# scripts, but reaches nothing of the studio.
_ALONE: Final = {
    "content-security-policy": "sandbox allow-scripts allow-popups allow-downloads; "
    "default-src 'none'; script-src 'unsafe-inline'; script-src-attr 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
}
# An image's URL contains its version, so its content never changes.
_FOREVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
_NOW: Final = {"cache-control": "no-store"}

# Media types of a run's files; others are downloaded, not shown.
_SHOWN: Final = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".jsonl": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}


def add_routes(api: FastAPI, opened: DatasetCache, runs: RunIndex) -> None:
    """Serve images of sets and runs, and files of runs."""

    @api.get("/images/{set_id}/{row}")
    async def of_set(set_id: str, row: str, v: str = "") -> Response:
        return await _image(await opened.of_set(set_id), row, v)

    @api.get("/run-images/{run_id}/{row}")
    async def of_run(run_id: str, row: str, v: str = "") -> Response:
        return await _image(await opened.of_run(run_id), row, v)

    @api.get("/files/{run_id}/{name}")
    async def of_run_files(run_id: str, name: str) -> Response:
        directory = await IMAGES.run(runs.get, run_id)
        return _file(await IMAGES.run(files_of, directory), name)


def add_help(api: FastAPI, site: Path = SITE) -> None:
    """Serve the documentation's site, or an error if it was not built."""
    if (site / "index.html").is_file():
        api.mount(HELP, StaticFiles(directory=site, html=True), name="help")
        return
    text = "The documentation is not part of this installation. In a clone, build it: make site."
    api.mount(HELP, PlainTextResponse(text, 404))


def files_of(directory: RunDirectory) -> Mapping[str, Path]:
    """The files of a run that pages may request, by their names there."""
    fixed = (
        directory.page, directory.card, directory.classifier, directory.report, directory.recipe,
        directory.dataset, directory.history, directory.predictions, directory.images,
        directory.corrections, directory.log,
    )  # fmt: skip
    figures = [*directory.figures.glob("*.png"), *directory.figures.glob("*.svg")]
    return {file.name: file for file in (*fixed, *figures) if file.is_file()}


async def _image(opened: DecodedDataset, row: str, version: str) -> Response:
    # Nine digits suffice, and int() is slow for a million.
    if not (row.isascii() and row.isdigit() and len(row) <= 9):
        raise NotThere(f"There is no image {row!r:.40}", "Go back a page.")
    content = await IMAGES.run(opened.png, int(row))
    headers = _FOREVER if version == opened.version else _NOW
    return Response(content, headers=headers, media_type="image/png")


def _file(files: Mapping[str, Path], name: str) -> Response:
    file = files.get(name)
    if file is None:
        raise NotThere(f"There is no file {name!r:.80}", "Open the page it belongs to.")
    headers = {"cache-control": "no-cache"}
    kind = _SHOWN.get(file.suffix)
    if kind:
        return FileResponse(file, media_type=kind, headers=headers | _ALONE)
    # By its own name, which the snippets and the Dockerfile use.
    return FileResponse(
        file, media_type="application/octet-stream", headers=headers, filename=file.name
    )
