"""Answers to many images: a job's table in order, and the images that it names."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import NamedTuple

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
from opsin.studio.jobs.queue import Queue, output_of
from opsin.studio.runs.workers import GivenImage, png_for_pages
from opsin.studio.threads import IMAGES


class AnsweredImage(NamedTuple):
    """An image's name, or path below the source, and its answer; ``error`` is why there is none."""

    name: str
    answer: str = ""
    label: str = ""
    confidence: float = 0.0
    error: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts images by answer, the least sure first; those without a class are the last."""
        is_class = self.answer not in (NONE_OF_THESE, "")
        return not is_class, not self.answer, natural(self.answer), self.confidence


def read_answers(jobs: Queue, job_id: str) -> list[AnsweredImage]:
    """The images of an ended job in their order."""
    file = _file(jobs, job_id, "predict")
    return _read(file, file_stamp(file))


def read_answered(jobs: Queue, job_id: str, place: int) -> GivenImage:
    """An image of a job's table by its place: of the job's folder or archive, and none beside."""
    images, argv = read_answers(jobs, job_id), jobs.get(job_id).argv
    gone = NotThere("The image is not there any more", "Go back to the answers.")
    if not 0 <= place < len(images):
        raise gone
    source = Path(argv[argv.index("predict") + 2])
    try:
        folder = (unpacked_folder(source) if is_archive(source) else source).resolve()
        path = (folder / images[place].name).resolve()
        if is_within(str(path), str(folder)):
            return GivenImage("", path.name, content_of(path, path.name))
    except (OSError, ValueError, SourceError):
        pass
    raise gone


def _file(jobs: Queue, job_id: str, kind: str = "") -> Path:
    job = jobs.get(job_id)
    file = output_of(job)
    if file is None or not file.is_file() or (kind and job.kind != kind):
        raise NotThere("There are no answers here", "Go back to Try and start again.")
    return file


@functools.lru_cache(4)
def _read(file: Path, _: FileStamp) -> list[AnsweredImage]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        columns, *rows = map(read_row, csv.reader(stream))
    cells = (dict(zip(columns, row, strict=False)) for row in rows)
    images = (
        AnsweredImage(row["image"], row["answer"], row["label"], float(row["confidence"] or 0),
                      row["error"]) for row in cells
    )  # fmt: skip
    return sorted(images, key=lambda image: image.order)


def add_routes(api: FastAPI, jobs: Queue) -> None:
    """Serve jobs' tables, and the images of those that classified."""

    @api.get("/answers/{job}/{place}.png")
    async def image(job: str, place: int, small: bool = False) -> Response:
        return await png_for_pages(await IMAGES.run(read_answered, jobs, job, place), small=small)

    @api.get("/answers/{job}.{kind}")
    async def answers(job: str, kind: str) -> Response:
        file = await IMAGES.run(_file, jobs, job)
        if file.suffix != f".{kind}":
            raise NotThere("The job has no such file", "Go back to the answers.")
        return FileResponse(file, filename=file.name)
