"""Images that somebody gave are answered as the classifier answers, and found by key alone."""

import asyncio
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from opsin.core.errors import ImageError
from opsin.data.dataset import Dataset
from opsin.data.pixel_values import encode_png
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction
from opsin.studio.context import Studio
from opsin.studio.errors import TooMany, new_api
from opsin.studio.runs import workers
from opsin.studio.words import opaque
from tests.hostile import bomb
from tests.studio.made_jobs import fetch

pytestmark = pytest.mark.anyio

RUN = opaque("means")


def test_a_bomb_costs_one_answer(looking: Studio, digits: Dataset) -> None:
    key = looking.tried.put(bomb(), "bomb.png")
    with pytest.raises(ImageError, match=r"bomb\.png"):
        asyncio.run(workers.png_for_pages(looking.tried.get(key)))
    good = looking.tried.get(looking.tried.put(encode_png(digits.images[5]), "good.png"))
    assert bytes(asyncio.run(workers.png_for_pages(good)).body).startswith(b"\x89PNG")


def test_routes_lead_to_images_by_key_and_nowhere_else(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    workers.add_routes(api, looking.inside, looking.tried)
    key = looking.tried.put(encode_png(digits.images[5]), "<b>")
    bad = looking.tried.put(b"no image", "bad.png")
    answer = asyncio.run(fetch(api, f"/kept/{key}.png"))
    assert answer.headers["content-type"] == "image/png"
    Image.open(io.BytesIO(answer.content)).verify()
    for address, status in (
        ("/kept/0000000000000000.png", 404),
        (f"/kept/{bad}.png", 422),
        ("/kept/..%2f..%2fsecret.png", 404),
    ):
        answer = asyncio.run(fetch(api, address))
        assert answer.status_code == status, address
        assert str(looking.settings.home) not in answer.text


def test_an_image_keeps_its_key(looking: Studio) -> None:
    key = looking.tried.put(b"one", "a.png")
    assert looking.tried.put(b"one", "a.png") == key
    assert len({key, looking.tried.put(b"one", "b.png"), looking.tried.put(b"two", "a.png")}) == 3


async def test_a_camera_frame_is_answered_and_not_kept(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    workers.add_routes(api, looking.inside, looking.tried)
    frame, plain = encode_png(digits.images[5]), encode_png(np.full((8, 8, 1), 7, np.uint8))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
        reply = (await client.post(f"/live/{RUN}", content=frame)).json()
        answer = Classifier(looking.runs.get(RUN).classifier).predict(frame)
        assert dict(reply["shares"]) == pytest.approx(answer.probabilities, abs=1e-6)
        assert [name for name, _ in reply["shares"]] == list(answer.probabilities)
        assert (reply["rejected"], reply["warning"]) == (answer.rejected, None)
        reply = (await client.post(f"/live/{RUN}", content=plain)).json()
        assert reply["warning"] == "Nothing to recognise"
        for bad, status in ((b"no image", 422), (bytes(2 << 20), 400)):
            refused = await client.post(f"/live/{RUN}", content=bad)
            assert refused.status_code == status
            assert str(looking.settings.home) not in refused.text
        assert (await client.post(f"/live/{'0' * 16}", content=frame)).status_code == 404
    # Other cameras of one visitor are refused; photographs are shown meanwhile.
    frames = [asyncio.create_task(looking.tried.live(RUN, frame)) for _ in range(20)]
    photograph = looking.tried.get(looking.tried.put(frame, "a.png"))
    await asyncio.wait_for(workers.png_for_pages(photograph), 30)
    answers = await asyncio.gather(*frames, return_exceptions=True)
    refusals = [isinstance(answer, TooMany) for answer in answers]
    assert refusals == [False] * 2 + [True] * 18
    assert isinstance(await looking.tried.live(RUN, frame), Prediction)  # they wait no more
    await looking.tried.workers.stop()
