"""Images that somebody gave are answered as the classifier answers, and found by key alone."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("nicegui")

from opsin.core.errors import ImageError, OpsinError
from opsin.data.dataset import Dataset
from opsin.studio.errors import new_api
from opsin.studio.jobs.job import command
from opsin.studio.runs import prediction_session
from opsin.studio.runs.run_index import opaque
from opsin.studio.state import Studio
from tests.hostile import bomb
from tests.made_runs import answers_right, write_run
from tests.studio.made_jobs import fetch

RUN = opaque("means")


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def looking(studio: Studio, digits: Dataset, nearest_mean: Path) -> Studio:
    right = answers_right(digits, 0.9)
    write_run(studio.settings.runs, "means", digits, right, classifier=nearest_mean)
    return studio


def test_a_bomb_costs_one_answer(looking: Studio, digits: Dataset) -> None:
    key = looking.tried.put(bomb(), "bomb.png")
    with pytest.raises(ImageError, match=r"bomb\.png"):
        asyncio.run(looking.tried.image(key))
    good = looking.tried.put(png(digits.images[5]), "good.png")
    assert asyncio.run(looking.tried.image(good)).startswith(b"\x89PNG")


def test_routes_lead_to_images_by_key_and_nowhere_else(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    prediction_session.add_routes(api, looking.tried, looking.jobs)
    key = looking.tried.put(png(digits.images[5]), "<b>")
    bad = looking.tried.put(b"no image", "bad.png")
    for address in (f"/kept/{key}.png", f"/heat/{RUN}/{key}.png"):
        answer = asyncio.run(fetch(api, address))
        assert answer.headers["content-type"] == "image/png"
        # The run may get another classifier; a key is never given to another image.
        assert ("no-store" in answer.headers["cache-control"]) == address.startswith("/heat")
        Image.open(io.BytesIO(answer.content)).verify()
    for address, status in (
        ("/kept/0000000000000000.png", 404), (f"/kept/{bad}.png", 422),
        (f"/heat/{RUN}/{bad}.png", 422), (f"/heat/{'0' * 16}/{key}.png", 404),
        ("/kept/..%2f..%2fsecret.png", 404), ("/answers/000000000000.csv", 404),
    ):  # fmt: skip
        answer = asyncio.run(fetch(api, address))
        assert answer.status_code == status, address
        assert str(looking.settings.home) not in answer.text


def test_a_damaged_classifier_is_refused_without_a_path(looking: Studio) -> None:
    looking.runs.get(RUN).classifier.write_bytes(b"no model")
    key = looking.tried.put(b"", "x.png")
    with pytest.raises(OpsinError, match="no readable ONNX file") as refused:
        asyncio.run(looking.tried.answer(RUN, key))
    assert str(looking.settings.runs) not in str(refused.value)


def test_answers_of_a_job_can_be_fetched_and_no_other_file(looking: Studio) -> None:
    api = new_api()
    prediction_session.add_routes(api, looking.tried, looking.jobs)
    table = looking.settings.home / "answers.csv"
    job = looking.jobs.add("predict", "x", command("predict", "run", "x", "--out", table))
    assert asyncio.run(fetch(api, f"/answers/{job.id}.csv")).status_code == 404
    table.write_text("image,answer\n", encoding="utf-8")
    answer = asyncio.run(fetch(api, f"/answers/{job.id}.csv"))
    assert answer.text == "image,answer\n"
    assert "attachment" in answer.headers["content-disposition"]
    other = looking.jobs.add("compare", "x", command("compare", "--out", table))
    assert asyncio.run(fetch(api, f"/answers/{other.id}.csv")).status_code == 404
