"""Routes for images and files, by id, and for the documentation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import FastAPI
from PIL import Image
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError
from opsin.core.glossary import SITE
from opsin.core.recipe import AUGMENTATIONS
from opsin.data.images import open_apart
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.contents import Contents
from opsin.studio.datasets.decoded_dataset import DecodedDataset, png_of
from opsin.studio.errors import NotThere
from opsin.studio.runs.dataset_cache import DatasetCache
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.security import ALONE
from opsin.studio.threads import IMAGES, ComputedOnce

#: The documentation's path in the studio.
HELP: Final = "/help"
# An image's URL contains its version, so its content never changes.
_FOREVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
_NOW: Final = {"cache-control": "no-store"}

#: Longest sides of thumbnails, for screens of two pixels a point, and of large images.
SMALL: Final = 320
LARGE: Final = 2560
# Smaller images are sent without loss.
_PIXELS: Final = 96
# Thumbnails in memory: 15 kB each.
_THUMBNAILS: Final = 2000
_UNREADABLE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 160"><path d="M0 0H160V160H0Z" '
    'fill="#8883"/><path d="M60 60L100 100M100 60L60 100" stroke="#888" stroke-width="6"/></svg>'
)

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


def add_routes(api: FastAPI, opened: DatasetCache, runs: RunIndex, sets: Library) -> None:
    """Serve images of sets and runs, files of runs, and previews."""
    thumbnails = ComputedOnce[str, _Picture](_THUMBNAILS)

    @api.get("/images/{set_id}/{row}")
    async def of_set(set_id: str, row: str, v: str = "") -> Response:
        return await _image(await opened.of_set(set_id), row, v)

    @api.get("/run-images/{run_id}/{row}")
    async def of_run(run_id: str, row: str, v: str = "") -> Response:
        return await _image(await opened.of_run(run_id), row, v)

    @api.get("/thumbnails/{set_id}/{token}")
    async def thumbnail(set_id: str, token: str) -> Response:
        contents = await opened.contents_of(set_id)
        try:
            image = await thumbnails.get(token, lambda: IMAGES.run(_scaled, contents, token, SMALL))
        except ImageError:
            return Response(_UNREADABLE, headers=_NOW, media_type="image/svg+xml")
        return image.reply()

    @api.get("/originals/{set_id}/{token}")
    async def original(set_id: str, token: str) -> Response:
        contents = await opened.contents_of(set_id)
        return (await IMAGES.run(_scaled, contents, token, LARGE)).reply()

    @api.get("/files/{run_id}/{name}")
    async def of_run_files(run_id: str, name: str) -> Response:
        directory = await IMAGES.run(runs.get, run_id)
        return _file(await IMAGES.run(files_of, directory), name, directory.path.name)

    @api.get("/previews/{set_id}/{policy}")
    async def of_preview(set_id: str, policy: str) -> Response:
        file = (await IMAGES.run(sets.folder, set_id)) / "previews" / policy / "augment.png"
        there = policy in AUGMENTATIONS and await IMAGES.run(file.is_file)
        return _file({policy: file} if there else {}, policy, "preview")


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
    figures = directory.figures.glob("*.png"), directory.figures.glob("*.svg")
    return {file.name: file for file in (*fixed, *figures[0], *figures[1]) if file.is_file()}


class _Picture(NamedTuple):
    """An encoded image; its address has its content's state, so it never changes."""

    content: bytes
    kind: str

    def reply(self) -> Response:
        return Response(self.content, headers=_FOREVER, media_type=self.kind)


def _scaled(contents: Contents, token: str, side: int) -> _Picture:
    """An image in its original aspect, no side longer than ``side``; opened in the sandbox."""
    pixels, _ = open_apart(contents.original(token), "the photograph", side=side)
    if max(pixels.shape[:2]) <= _PIXELS:
        return _Picture(png_of(pixels), "image/png")
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
    image.save(file, "JPEG", quality=80 if side == SMALL else 92)
    return _Picture(file.getvalue(), "image/jpeg")


async def _image(opened: DecodedDataset, row: str, version: str) -> Response:
    # Nine digits suffice, and int() is slow for a million.
    if not (row.isascii() and row.isdigit() and len(row) <= 9):
        raise NotThere(f"There is no image {row!r:.40}", "Go back a page.")
    content = await IMAGES.run(opened.png, int(row))
    headers = _FOREVER if version == opened.version else _NOW
    return Response(content, headers=headers, media_type="image/png")


def _file(files: Mapping[str, Path], name: str, run: str) -> Response:
    file = files.get(name)
    if file is None:
        raise NotThere(f"There is no file {name!r:.80}", "Open the page it belongs to.")
    headers = {"cache-control": "no-cache"}
    kind = _SHOWN.get(file.suffix)
    if kind:
        return FileResponse(file, media_type=kind, headers=headers | ALONE)
    return FileResponse(
        file, media_type="application/octet-stream", headers=headers, filename=f"{run}-{file.name}"
    )
