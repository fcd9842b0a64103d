"""Routes for photographs, decoded images, covers and files, by id, and for the documentation."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError, OpsinError
from opsin.core.glossary import SITE
from opsin.data.image_tree import is_image_name, is_visible
from opsin.data.images import content_of, open_apart
from opsin.data.pixel_values import encode_png
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.uploads import TRAY
from opsin.studio.errors import NotThere
from opsin.studio.projects import Project
from opsin.studio.threads import IMAGES

if TYPE_CHECKING:
    from opsin.studio.context import Studio

#: The documentation's path in the studio.
HELP: Final = "/help"
#: Pictures of a project.
COVERS: Final = 3
# Longest sides of thumbnails, for screens of two pixels a point, and of large images.
_SMALL: Final = 320
_LARGE: Final = 2560
# Smaller images are sent without loss.
_PIXELS: Final = 96
# Folders that are looked into for a cover of each.
_FOLDERS: Final = 200
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
_A_MINUTE: Final = {"cache-control": "private, max-age=60"}
_UNREADABLE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 160"><path d="M0 0H160V160H0Z" '
    'fill="#8883"/><path d="M60 60L100 100M100 60L60 100" stroke="#888" stroke-width="6"/></svg>'
)
# Files of a run that are shown; others are downloaded.
_KINDS: Final = {".html": "text/html", ".md": "text/plain"}


def add_routes(api: FastAPI, studio: Studio) -> None:
    """Serve images of datasets and runs, and files of runs."""

    @api.get("/thumbnails/{set_id}/{token}")
    async def thumbnail(set_id: str, token: str) -> Response:
        try:
            content = await studio.albums.original(set_id, token)
            return await IMAGES.run(_scaled, content, _SMALL, _FOREVER)
        except ImageError:
            return Response(_UNREADABLE, headers=_NOW, media_type="image/svg+xml")

    @api.get("/originals/{set_id}/{token}")
    async def original(set_id: str, token: str) -> Response:
        content = await studio.albums.original(set_id, token)
        return await IMAGES.run(_scaled, content, _LARGE, _FOREVER)

    @api.get("/images/{set_id}/{row}")
    async def of_set(set_id: str, row: str, v: str = "") -> Response:
        return await _decoded((await studio.albums.corrections_of(set_id)).opened, row, v)

    @api.get("/run-images/{run_id}/{row}")
    async def of_run(run_id: str, row: str, v: str = "") -> Response:
        return await _decoded(await studio.albums.of_run(run_id), row, v)

    @api.get("/covers/{project_id}/{number}")
    async def cover(project_id: str, number: str) -> Response:
        project = studio.projects.get(project_id)
        try:
            return await _cover(studio, project, int(number))
        except (OpsinError, OSError, IndexError, ValueError):
            return Response(status_code=204)

    @api.get("/files/{run_id}/{name}")
    async def of_run_files(run_id: str, name: str) -> Response:
        directory = await IMAGES.run(studio.runs.get, run_id)
        file = (await IMAGES.run(files_of, directory)).get(name)
        if file is None:
            raise NotThere(f"There is no file {name!r:.80}", "Open the page it belongs to.")
        headers, kind = {"cache-control": "no-cache"}, _KINDS.get(file.suffix)
        if kind is not None:
            return FileResponse(file, media_type=kind, headers=headers | _ALONE)
        # By its own name, which the snippets and the Dockerfile use.
        kind = "application/octet-stream"
        return FileResponse(file, media_type=kind, headers=headers, filename=file.name)


def add_help(api: FastAPI, site: Path = SITE) -> None:
    """Serve the documentation's site, or an error if it was not built."""
    if (site / "index.html").is_file():
        api.mount(HELP, StaticFiles(directory=site, html=True), name="help")
        return
    text = "The documentation is not part of this installation. In a clone, build it: make site."
    api.mount(HELP, PlainTextResponse(text, 404))


def files_of(directory: RunDirectory) -> Mapping[str, Path]:
    """The files of a run that pages may request, by their names there."""
    files = (directory.page, directory.card, directory.classifier)
    return {file.name: file for file in files if file.is_file() and not file.is_symlink()}


def _scaled(content: bytes, side: int, headers: Mapping[str, str]) -> Response:
    """An image in its original aspect, no side longer than ``side``; opened in the sandbox."""
    pixels, _ = open_apart(content, "The photograph", side=side)
    return _encoded(pixels, 80 if side < _LARGE else 92, headers)


def _encoded(pixels: NDArray[np.uint8], quality: int, headers: Mapping[str, str]) -> Response:
    if max(pixels.shape[:2]) <= _PIXELS:
        content = encode_png(pixels, compress_level=1)
        return Response(content, headers=headers, media_type="image/png")
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=quality)
    return Response(file.getvalue(), headers=headers, media_type="image/jpeg")


async def _decoded(opened: DecodedDataset, row: str, version: str) -> Response:
    # Nine digits suffice, and int() is slow for a million.
    if not (row.isascii() and row.isdigit() and len(row) <= 9):
        raise NotThere(f"There is no photograph {row!r:.40}", "Go back a page.")
    content = await IMAGES.run(opened.png, int(row))
    headers = _FOREVER if version == opened.version else _NOW
    return Response(content, headers=headers, media_type="image/png")


def _cover_files(project: Project) -> list[str]:
    """A few photographs of a project's first folders, in turn."""
    dataset, found = project.dataset, list[list[str]]()
    if dataset is None or not dataset.place.is_absolute():
        return []
    places = [dataset.place, dataset.place.parent / TRAY] if dataset.made_here else [dataset.place]
    walks = itertools.chain.from_iterable(map(os.walk, places))
    for folder, folders, names in itertools.islice(walks, _FOLDERS):
        folders[:] = sorted(filter(is_visible, folders))
        paths = (f"{folder}/{name}" for name in sorted(filter(is_image_name, names)))
        files = (path for path in paths if not Path(path).is_symlink())
        found.append(list(itertools.islice(files, COVERS)))
        if sum(map(bool, found)) == COVERS:
            break
    return [path for turn in itertools.zip_longest(*found) for path in turn if path][:COVERS]


async def _cover(studio: Studio, project: Project, number: int) -> Response:
    """A picture of a project: of its files, or of a class if its images were decoded before."""
    at = range(COVERS)[number]
    if files := await IMAGES.run(_cover_files, project):
        content = await IMAGES.run(content_of, Path(files[at]), "the photograph")
        return await IMAGES.run(_scaled, content, _SMALL, _A_MINUTE)
    if project.dataset is not None:
        opened = (await studio.albums.corrections_of(project.dataset.id)).opened
    else:
        opened = await studio.albums.of_run(project.runs[0].id)
    rows = np.unique(opened.decoded.labels, return_index=True)[1]
    return _encoded(np.asarray(opened.decoded.images[rows[at]]), 80, _A_MINUTE)
