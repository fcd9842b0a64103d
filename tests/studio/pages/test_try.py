"""Answers to many images have an order, a table, and pictures that lie in the source alone."""

import asyncio
import functools
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import SourceError
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.studio.context import Studio
from opsin.studio.datasets.uploads import SentFile
from opsin.studio.errors import TooMany, new_api
from opsin.studio.jobs.job import Job, command
from opsin.studio.jobs.queue import Queue
from opsin.studio.pages import try_
from opsin.studio.pages.try_ import AnsweredImage, newer_images, read_answers
from opsin.studio.people import Person, acting
from tests.studio.made_jobs import fetch, put

HEADER = "image,answer,label,confidence,ood_score,rejected,notes,error\n"


def classified(queue: Queue, source: Path, *rows: str) -> Job:
    table = queue.home / f"{source.name}.csv"
    table.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return queue.add("predict", "x", command("predict", "run", source, "--out", table))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    for number, name in enumerate(("a.png", "in/b.png", "'=c.png")):
        Image.new("L", (4 + number, 3), 40 * number).save(folder / name)
    Image.new("L", (9, 9)).save(tmp_path / "secret.png")
    return folder


def test_groups_begin_with_the_least_sure_and_end_with_what_has_no_class() -> None:
    images = [
        AnsweredImage("1", "dog", "dog", 0.9),
        AnsweredImage("2", NONE_OF_THESE, "cat", 0.4),
        AnsweredImage("3", error="cut off"),
        AnsweredImage("4", "cat", "cat", 0.8),
        AnsweredImage("5", "dog", "dog", 0.6),
    ]
    ordered = sorted(images, key=lambda image: image.order)
    assert [image.name for image in ordered] == ["4", "5", "1", "2", "3"]


def test_pictures_come_from_the_source_and_from_nowhere_else(queue: Queue, folder: Path) -> None:
    api = new_api()
    try_.add_routes(api, queue)
    job = classified(
        queue,
        folder,
        "a.png,cat,cat,0.9,,false,,",
        "in/b.png,cat,cat,0.5,,false,,",
        "''=c.png,cat,cat,0.95,,false,,",
        "../secret.png,dog,dog,0.9,,false,,",
        f"{folder.parent / 'secret.png'},dog,dog,0.95,,false,,",
        "gone.png,dog,dog,0.99,,false,,",
        "d.png,,,,,,,cut off",
    )
    images = read_answers(queue, job.id)
    assert [image.name for image in images[:3]] == ["in/b.png", "a.png", "'=c.png"]
    assert images[-1] == AnsweredImage("d.png", error="cut off")
    for place, width in enumerate((5, 4, 6)):
        reply = asyncio.run(fetch(api, f"/answers/{job.id}/{place}.png"))
        assert Image.open(io.BytesIO(reply.content)).size == (width, 3)
    for other in ("3", "4", "5", "6", "7", "-1", "x"):
        reply = asyncio.run(fetch(api, f"/answers/{job.id}/{other}.png"))
        assert reply.status_code in (404, 422), other
        assert str(folder.parent) not in reply.text


def test_the_table_can_be_fetched_and_no_other_file(queue: Queue, folder: Path) -> None:
    api = new_api()
    try_.add_routes(api, queue)
    job = classified(queue, folder, "a.png,cat,cat,0.9,,false,,")
    answer = asyncio.run(fetch(api, f"/answers/{job.id}.csv"))
    assert answer.text.startswith("image,answer")
    assert "attachment" in answer.headers["content-disposition"]
    other = queue.add("compare", "x", command("compare", "--out", queue.home / "photos.csv"))
    for address in (f"{job.id}.npz", f"{other.id}.csv", "000000000000.csv"):
        assert asyncio.run(fetch(api, f"/answers/{address}")).status_code == 404
    (queue.home / "photos.csv").unlink()
    assert asyncio.run(fetch(api, f"/answers/{job.id}.csv")).status_code == 404


def test_unclassified_photographs_are_gone(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    (studio.settings.runs / "one").mkdir(parents=True)
    monkeypatch.setattr(studio.runs, "get", lambda _: RunDirectory(studio.settings.runs / "one"))
    page: Any = SimpleNamespace(
        _studio=studio, _run=SimpleNamespace(id="1"), _project=SimpleNamespace(title_of=str)
    )
    classify = functools.partial(try_._Try._classify, page)
    tried = studio.settings.home / "tried"

    def sent(name: str) -> SentFile:
        return put(studio.uploads, name, b"x", len(name), name)

    with pytest.raises(SourceError):
        classify([sent("bad.zip")])
    assert list(tried.iterdir()) == []
    with acting(Person(id="eve", name="Eve", role="viewer")):
        studio.jobs.most_waiting = 2
        job = studio.jobs.get(classify([sent("a.png")]))
        (folder,) = tried.iterdir()
        with pytest.raises(TooMany):
            classify([sent("b.png")])
    assert list(tried.iterdir()) == [folder]
    # What a killed studio leaves goes, as does what was tried by a job that is gone.
    (tried / "left").mkdir()
    for old in tried.iterdir():
        os.utime(old, (0, 0))
    studio.sweep()
    assert list(tried.iterdir()) == [folder]
    studio.jobs.remove(job.id)
    studio.sweep()
    assert list(tried.iterdir()) == []


def test_photographs_that_came_since_are_counted(tmp_path: Path) -> None:
    assert newer_images(tmp_path / "gone", 0) == (0, 0)
    for number, name in enumerate(("cat/a.png", "cat/b.jpg", "dog/c.png", ".trash/d.png", "e.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (number, number))
    (tmp_path / "cat" / "notes.txt").write_text("")
    assert newer_images(tmp_path, 0.5) == (2, 3)
    assert newer_images(tmp_path, 9) == (0, 3)
