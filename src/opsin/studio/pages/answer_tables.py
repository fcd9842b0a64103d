"""Answers to many images: a job's table in order, and the images that it names."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from opsin.core.csv_cells import read_row
from opsin.core.errors import SourceError
from opsin.core.files import FileStamp, file_stamp
from opsin.data.image_tree import is_within, natural
from opsin.data.images import content_of
from opsin.data.sources.archive import is_archive, unpacked_folder
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue, output_of
from opsin.studio.runs.prediction_session import UploadedImage, png_for_pages
from opsin.studio.threads import IMAGES

# Media types of jobs' files.
_KINDS: Final = {".csv": "text/csv", ".npz": "application/octet-stream"}


@dataclass(frozen=True)
class AnsweredImage:
    """An image with its answer; ``error`` is why there is none.

    Args:
        name: Its name, or path below the source.
        answer: The class, or "none of these".
        label: The most probable class.
        confidence: Its probability.
        error: Why it could not be read.
        src: Its address.
    """

    name: str
    answer: str = ""
    label: str = ""
    confidence: float = 0.0
    error: str = ""
    src: str = ""


def grouped(images: Iterable[AnsweredImage]) -> dict[str, list[AnsweredImage]]:
    """Images by their answer, the least sure first; those without an answer under ``""``."""
    groups: dict[str, list[AnsweredImage]] = {}
    for image in sorted(images, key=lambda image: image.confidence):
        groups.setdefault(image.answer, []).append(image)
    last = (NONE_OF_THESE, "")
    names = sorted(groups, key=lambda name: (name in last, not name, natural(name)))
    return {name: groups[name] for name in names}


async def read_answers(jobs: Queue, job_id: str) -> list[AnsweredImage]:
    """The images of an ended job, by answer and confidence."""

    def read() -> list[AnsweredImage]:
        file = _file(jobs, job_id, "predict")
        return _read(file, job_id, file_stamp(file))

    return await IMAGES.run(read)


async def read_answered(jobs: Queue, job_id: str, place: int) -> UploadedImage:
    """An image of a job's table by its place, read from where it lies."""
    images = await read_answers(jobs, job_id)
    if not 0 <= place < len(images):
        raise NotThere("There is no such image", "Go back to the answers.")
    return await IMAGES.run(_content, jobs.get(job_id), images[place].name)


def _file(jobs: Queue, job_id: str, kind: str = "") -> Path:
    job = jobs.get(job_id)
    file = output_of(job)
    if file is None or not file.is_file() or (kind and job.kind != kind):
        raise NotThere("There are no answers here", "Go back to Try and start again.")
    return file


@functools.lru_cache(4)
def _read(file: Path, job_id: str, _: FileStamp) -> list[AnsweredImage]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream)
        columns = next(rows, [])
        cells = (dict(zip(columns, read_row(row), strict=False)) for row in rows)
        images = [
            AnsweredImage(
                row["image"], row["answer"], row["label"], float(row["confidence"] or 0),
                row["error"],
            )
            for row in cells
        ]  # fmt: skip
    ordered = [image for group in grouped(images).values() for image in group]
    return [
        replace(image, src=f"/answers/{job_id}/{place}.png") for place, image in enumerate(ordered)
    ]


def _content(job: Job, name: str) -> UploadedImage:
    """Read an image of a job's folder or archive, and nothing beside it."""
    source = Path(job.argv[job.argv.index("predict") + 2])
    gone = NotThere("The image is not there any more", "Classify the images again.")
    try:
        folder = (unpacked_folder(source) if is_archive(source) else source).resolve()
        path = (folder / name).resolve()
        if not is_within(str(path), str(folder)):
            raise gone
        return UploadedImage(path.name, content_of(path, path.name))
    except (OSError, ValueError, SourceError):
        raise gone from None


def add_routes(api: FastAPI, jobs: Queue) -> None:
    """Serve jobs' tables, and the images of those that classified."""

    @api.get("/answers/{job}/{place}.png")
    async def image(job: str, place: int, small: bool = False) -> Response:
        content = await png_for_pages(await read_answered(jobs, job, place), small=small)
        headers = {"cache-control": "private, max-age=86400"}
        return Response(content, media_type="image/png", headers=headers)

    @api.get("/answers/{job}.{kind}")
    async def answers(job: str, kind: str) -> Response:
        file = await IMAGES.run(_file, jobs, job)
        if file.suffix != f".{kind}":
            raise NotThere("The job has no such file", "Go back to the answers.")
        return FileResponse(file, media_type=_KINDS.get(file.suffix), filename=file.name)
