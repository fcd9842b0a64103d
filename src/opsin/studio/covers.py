"""Up to three small pictures of each project, made when they are first shown.

<home>/covers/<project>-<state of its images>/<number>.webp
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import FileResponse, Response

from opsin.core.errors import OpsinError
from opsin.core.files import file_stamp
from opsin.core.storage import write_bytes
from opsin.data.image_tree import kind_of_entry
from opsin.data.images import content_of, open_apart
from opsin.studio.context import Studio
from opsin.studio.datasets.decoded_dataset import open_run, open_set
from opsin.studio.datasets.upload_import import TRAY
from opsin.studio.projects import Project
from opsin.studio.threads import IMAGES, ComputedOnce

#: Pictures of a project.
MOST: Final = 3
_SIDE: Final = 240
# Folders that are looked into for a picture of each.
_FOLDERS: Final = 200


def add_routes(api: FastAPI, studio: Studio) -> None:
    """Serve ``/covers/{project_id}/{number}``; without content if a project has fewer pictures."""
    making = ComputedOnce[str, Path](0)

    @api.get("/covers/{project_id}/{number}")
    async def cover(project_id: str, number: str) -> Response:
        project = studio.projects.get(project_id)
        folder = await making.get(project.id, lambda: IMAGES.run(_make, studio, project))
        path = folder / f"{number}.webp"
        if number not in map(str, range(MOST)) or not await IMAGES.run(path.is_file):
            return Response(status_code=204)
        headers = {"cache-control": "private, max-age=60"}
        return FileResponse(path, media_type="image/webp", headers=headers)


def _make(studio: Studio, project: Project) -> Path:
    """The folder of a project's pictures, which are made if its images are others than before."""
    covers, files = studio.settings.home.absolute() / "covers", []
    dataset = project.dataset
    if dataset is not None and Path(dataset.sources[0]).is_absolute():
        source = Path(dataset.sources[0])
        files = photographs(source)
        if dataset.made_here and not files:
            files = photographs(source.parent / TRAY)
    newest = project.runs[0].id if project.runs else ""
    state = repr([(str(file), file_stamp(file).mtime_ns) for file in files] or newest)
    digest = hashlib.blake2s(os.fsencode(state), digest_size=8).hexdigest()
    folder = covers / f"{project.id}-{digest}"
    if not (folder / "0.webp").is_file():
        images = _opened(files) if files else _decoded(studio, project)
        for number in reversed(range(len(images))):  # the first one says that all are there
            write_bytes(folder / f"{number}.webp", _webp(images[number]))
        for old in covers.glob(f"{project.id}-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    return folder


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


def _opened(files: list[Path]) -> list[NDArray[np.uint8]]:
    images = []
    for file in files:
        with contextlib.suppress(OpsinError):
            images.append(open_apart(content_of(file, file.name), file.name, side=_SIDE)[0])
    return images


def _decoded(studio: Studio, project: Project) -> list[NDArray[np.uint8]]:
    """Pictures of three classes, if the images were decoded before."""
    with contextlib.suppress(OpsinError, OSError):
        if project.dataset is not None:
            decoded = open_set(project.dataset).decoded
        else:
            directory = studio.runs.get(project.runs[0].id)
            studio.places.check(directory)
            decoded = open_run(project.runs[0].id, directory).decoded
        rows = np.unique(decoded.labels, return_index=True)[1][:MOST]
        return [np.asarray(decoded.images[row]) for row in rows.tolist()]
    return []


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    image.save(file, "WEBP", lossless=max(image.size) <= 64, quality=80)
    return file.getvalue()
