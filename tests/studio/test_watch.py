"""The watcher tells all windows what changed, and outlives what fails."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from nicegui import Event

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio import image_routes
from opsin.studio.context import Studio
from opsin.studio.datasets import uploads as uploading
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.errors import new_api

pytestmark = pytest.mark.anyio


@pytest.fixture
def told(studio: Studio) -> list[str]:
    news: list[str] = []
    Event.subscribe(studio.changed, news.append)
    return news


def test_only_what_changed_is_told(tmp_path: Path, studio: Studio, told: list[str]) -> None:
    asyncio.run(studio.look())
    assert told == []
    run = RunDirectory.create(tmp_path / "runs", "one")
    run.recipe.write_text(json.dumps({"data": {"sources": ["digits"]}, "model": {"name": "mlp"}}))
    run.set_status("done")
    job = studio.jobs.add("plan", "x", [sys.executable, "-S", "-c", "print('{}')"])
    asyncio.run(studio.look())
    assert told == ["jobs", "runs"]
    while not studio.jobs.get(job.id).over:
        studio.jobs.tick()
    told.clear()
    asyncio.run(studio.look())
    assert told == []


async def test_what_fails_is_said_once_and_tried_again(
    studio: Studio,
    told: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def fails() -> bool:
        looks.append(1)
        if len(looks) < 4:
            raise OSError("the disk is away")
        return True

    monkeypatch.setattr(studio.runs, "scan", fails)
    task = asyncio.create_task(studio.watch(every=0))
    while not told:
        await asyncio.sleep(0)
    task.cancel()
    assert told[0] == "runs"
    assert [record.message for record in caplog.records].count(
        "the studio could not look at its files: the disk is away"
    ) == 1


async def test_uploads_that_hang_keep_neither_the_watcher_nor_images_waiting(
    tmp_path: Path, shapes: Path, studio: Studio
) -> None:
    uploads, api = Uploads(tmp_path), new_api()
    uploading.add_routes(api, uploads)
    image_routes.add_routes(api, studio)
    opsin.load(shapes)  # so that its images were read before
    set_id = studio.sets.add_source(str(shapes)).id
    keys = [f"{number:016x}" for number in range(40)]
    (tmp_path / "uploads").mkdir()
    for key in keys:
        os.mkfifo(tmp_path / "uploads" / key)  # to write to it hangs until somebody reads
    here = (await studio.albums.corrections_of(set_id)).opened
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
        sent = [
            asyncio.create_task(client.put(f"/uploads/{key}?offset=0", content=b"image"))
            for key in keys
        ]
        try:
            async with asyncio.timeout(20):
                await studio.look()
                assert (await client.get(here.address(0))).status_code == 200
                assert (await asyncio.to_thread(np.arange, 3)).size == 3
        finally:
            while not all(task.done() for task in sent):
                for key in keys:
                    with contextlib.suppress(FileNotFoundError):
                        os.close(os.open(tmp_path / "uploads" / key, os.O_RDONLY | os.O_NONBLOCK))
                await asyncio.sleep(0.01)
