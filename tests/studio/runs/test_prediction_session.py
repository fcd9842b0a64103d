"""Images that somebody gave are answered as the classifier answers, and found by key alone."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("nicegui")

from opsin.core.errors import ImageError, OpsinError
from opsin.core.metadata import Resize
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction
from opsin.studio.context import Studio
from opsin.studio.errors import new_api
from opsin.studio.runs import prediction_session
from opsin.studio.runs.classifying import ModelContent
from opsin.studio.runs.run_index import opaque
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
        asyncio.run(prediction_session.png_for_pages(looking.tried.get(key)))
    good = looking.tried.get(looking.tried.put(png(digits.images[5]), "good.png"))
    assert asyncio.run(prediction_session.png_for_pages(good)).startswith(b"\x89PNG")


def test_routes_lead_to_images_by_key_and_nowhere_else(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    prediction_session.add_routes(api, looking.tried)
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
        ("/kept/..%2f..%2fsecret.png", 404),
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


def test_an_image_keeps_its_key(looking: Studio) -> None:
    key = looking.tried.put(b"one", "a.png")
    assert looking.tried.put(b"one", "a.png") == key
    assert len({key, looking.tried.put(b"one", "b.png"), looking.tried.put(b"two", "a.png")}) == 3


def test_a_frame_of_the_camera_is_answered_and_not_kept(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    prediction_session.add_routes(api, looking.tried)

    async def post(run: str, frame: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
            return await client.post(f"/live/{run}", content=frame)

    frame = png(digits.images[5])
    reply = asyncio.run(post(RUN, frame)).json()
    answer = Classifier(looking.runs.get(RUN).classifier).predict(frame)
    assert dict(reply["shares"]) == pytest.approx(answer.probabilities, abs=1e-6)
    assert [name for name, _ in reply["shares"]] == list(answer.probabilities)
    assert (reply["rejected"], reply["warning"]) == (answer.rejected, None)
    plain = asyncio.run(post(RUN, png(np.full((8, 8, 1), 7, np.uint8)))).json()
    assert plain["warning"] == "Nothing to recognise"
    for bad, status in ((b"no image", 422), (bytes(2 << 20), 400)):
        refused = asyncio.run(post(RUN, bad))
        assert refused.status_code == status
        assert str(looking.settings.home) not in refused.text
    assert asyncio.run(post("0" * 16, frame)).status_code == 404


def test_many_cameras_stop_neither_photographs_nor_other_visitors(
    looking: Studio, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, frame, slow = looking.tried, png(digits.images[5]), threading.Event()
    predict = tried._classifying.predict

    def slowly(model: ModelContent, content: bytes, name: str) -> Prediction:
        slow.wait(60)
        return predict(model, content, name)

    monkeypatch.setattr(tried._classifying, "predict", slowly)

    async def act() -> list[Prediction | BaseException]:
        frames = [asyncio.create_task(tried.live(RUN, frame)) for _ in range(20)]
        photograph = tried.get(tried.put(frame, "a.png"))
        small = await asyncio.wait_for(prediction_session.png_for_pages(photograph), 30)
        assert small.startswith(b"\x89PNG")
        slow.set()
        return await asyncio.gather(*frames, return_exceptions=True)

    answers = asyncio.run(act())
    refused = [isinstance(answer, prediction_session.TooManyFrames) for answer in answers]
    assert refused == [False] * 2 + [True] * 18
    assert isinstance(asyncio.run(tried.live(RUN, frame)), Prediction)  # they wait no more


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("squash", [[1, 1, 2, 2], [1, 1, 2, 2]]),
        ("fill", [[0, 1, 2, 0], [0, 1, 2, 0]]),  # its sides were cut off
        ("fit", [[1, 1, 2, 2], [1, 1, 2, 2]]),  # above and below it was filled up
    ],
)
def test_a_heat_map_lies_where_the_network_looked(
    resize: Resize, expected: list[list[int]]
) -> None:
    """A photograph of 4 × 2 pixels, and a network of 2 × 2 (as large as it, for "fit")."""
    heat = np.array([[1, 2], [1, 2]], np.float32)
    if resize == "fit":
        heat = np.array([[9] * 4, [1, 1, 2, 2], [1, 1, 2, 2], [9] * 4], np.float32)
    found = prediction_session.on_photograph(heat, resize, (2, 4))
    assert np.abs(found - expected).max() < 0.5
