"""Up to three small pictures of each project, made when they are first shown.

<home>/covers/<project>-<state of its images>/<number>.webp
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import FileResponse, Response

from opsin.core.errors import OpsinError
from opsin.core.storage import write_bytes
from opsin.data.image_tree import kind_of_entry
from opsin.data.images import content_of, open_apart
from opsin.studio.datasets.upload_import import TRAY
from opsin.studio.runs.dataset_cache import open_run, open_set
from opsin.studio.threads import IMAGES, ComputedOnce

if TYPE_CHECKING:
    from opsin.studio.projects import Project
    from opsin.studio.state import Studio

#: Pictures of a project.
MOST: Final = 3
_SIDE: Final = 240
# Folders that are looked into for a picture of each.
_FOLDERS: Final = 200


class Covers:
    """The pictures of all projects."""

    def __init__(self, studio: Studio) -> None:
        self._folder = studio.settings.home.absolute() / "covers"
        self._projects, self._runs, self._places = studio.projects, studio.runs, studio.places
        self._made = ComputedOnce[str, Path](1)

    async def picture(self, project_id: str, number: str) -> Path | None:
        """The file of a project's picture; ``None`` if it has not that many."""
        project = self._projects.get(project_id)
        folder = await self._made.get(project.id, lambda: IMAGES.run(self._make, project))
        self._made.forget(project.id)
        path = folder / f"{number}.webp"
        known = number in map(str, range(MOST)) and await IMAGES.run(path.is_file)
        return path if known else None

    def _make(self, project: Project) -> Path:
        files: list[Path] = []
        dataset = project.dataset
        if dataset is not None and Path(dataset.sources[0]).is_absolute():
            files = photographs(Path(dataset.sources[0]))
            if dataset.made_here and not files:
                files = photographs(Path(dataset.sources[0]).parent / TRAY)
        newest = project.runs[0].id if project.runs else ""
        state = repr([(str(file), file.stat().st_mtime_ns) for file in files] or newest)
        digest = hashlib.blake2s(os.fsencode(state), digest_size=8).hexdigest()
        folder = self._folder / f"{project.id}-{digest}"
        if not (folder / "0.webp").is_file():
            images = self._opened(files) if files else self._decoded(project)
            for number, image in enumerate(images):
                write_bytes(folder / f"{number}.webp", _webp(image))
            for old in self._folder.glob(f"{project.id}-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        return folder

    def _opened(self, files: list[Path]) -> Iterator[NDArray[np.uint8]]:
        for file in files:
            with contextlib.suppress(OpsinError):
                yield open_apart(content_of(file, file.name), file.name, side=_SIDE)[0]

    def _decoded(self, project: Project) -> list[NDArray[np.uint8]]:
        """Pictures of three classes, if the images were decoded before."""
        with contextlib.suppress(OpsinError, OSError):
            if project.dataset is not None:
                decoded = open_set(project.dataset).decoded
            else:
                directory = self._runs.get(project.runs[0].id)
                self._places.check(directory)
                decoded = open_run(project.runs[0].id, directory).decoded
            rows = np.unique(decoded.labels, return_index=True)[1][:MOST]
            return [np.asarray(decoded.images[row]) for row in rows.tolist()]
        return []


def photographs(folder: Path) -> list[Path]:
    """A few images below a folder: one of each of the first folders, then more of the first."""
    found: list[list[Path]] = []
    waiting = [os.fspath(folder)]
    for _ in range(_FOLDERS):
        if not waiting or len(found) == MOST:
            break
        images, folders = [], []
        with contextlib.suppress(OSError), os.scandir(waiting.pop(0)) as entries:
            for entry in entries:
                kind = None if entry.is_symlink() else kind_of_entry(entry)
                if kind == "image":
                    images.append(entry.path)
                elif kind == "folder":
                    folders.append(entry.path)
        found += [[Path(path) for path in sorted(images)[:MOST]]] if images else []
        waiting = [*sorted(folders), *waiting]
    by_turns = [paths[turn] for turn in range(MOST) for paths in found if turn < len(paths)]
    return by_turns[:MOST]


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    image.save(file, "WEBP", lossless=max(image.size) <= 64, quality=80)
    return file.getvalue()


def add_routes(api: FastAPI, studio: Studio) -> None:
    """Serve ``/covers/{project_id}/{number}``."""
    covers = Covers(studio)

    @api.get("/covers/{project_id}/{number}")
    async def cover(project_id: str, number: str) -> Response:
        path = await covers.picture(project_id, number)
        headers = {"cache-control": "private, max-age=60"}
        if path is None:
            return Response(status_code=204)
        return FileResponse(path, media_type="image/webp", headers=headers)
