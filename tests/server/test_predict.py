"""Images in, answers out: the same ones as without a server."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest

import opsin
from opsin.data.network_pixels import NO_CONTRAST
from opsin.server import ServerSettings
from tests.server.made_engine import Asks, Host, png

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def asks(host: Host) -> Asks:
    return host.asks(ServerSettings(max_bytes=200_000))


@pytest.fixture(scope="module")
def images(digits: opsin.Dataset) -> list[bytes]:
    return [png(digits.images[row][:, :, 0]) for row in digits.split.test[:12]]


def test_one_image(asks: Asks, nearest_mean: Path, images: list[bytes]) -> None:
    reply = asks.post("/predict", content=images[0], headers=PNG)
    assert reply.status_code == 200
    content = reply.json()
    assert content["model"] == "digits"
    assert len(content["digest"]) == 64
    (found,) = content["predictions"]
    known = opsin.Classifier(nearest_mean, threads=1).predict(images[0])
    assert found["label"] == found["answer"] == known.label
    assert found["confidence"] == known.confidence
    assert found["top"] == [{"label": name, "score": score} for name, score in known.top(5)]
    # The file has no threshold: what is like no training image cannot be told.
    assert (found["rejected"], found["ood_score"], found["notes"]) == (None, None, [])
    fields = "name warning answer label confidence rejected ood_score top notes"
    assert " ".join(found) == fields


def test_an_image_without_contrast_is_said_to_be_so(asks: Asks) -> None:
    white = png(np.full((9, 9), 255, np.uint8))
    reply = asks.post("/explain", content=white, headers=PNG)
    (found,) = reply.json()["predictions"]
    assert found["warning"] == NO_CONTRAST
    assert found["notes"] == [NO_CONTRAST]
    assert "explanation" not in found


def test_every_way_of_sending_gives_the_same(asks: Asks, images: list[bytes]) -> None:
    texts = [base64.b64encode(image).decode() for image in images]
    files = [("image", (f"{place}.png", image)) for place, image in enumerate(images)]
    ways = [
        asks.post("/predict", files=files),
        asks.post("/v1/models/digits:predict-image", files=files),
        asks.post("/predict", json={"images": texts}),
        asks.post("/predict?model=digits", json={"images": texts}),
    ]
    single = [
        asks.post("/predict", content=image, headers=PNG).json()["predictions"][0]
        for image in images
    ]
    for reply in ways:
        assert reply.status_code == 200, reply.text
        found = reply.json()["predictions"]
        assert [each | {"name": ""} for each in found] == [each | {"name": ""} for each in single]
    assert [each["name"] for each in ways[0].json()["predictions"]][:2] == ["0.png", "1.png"]
    one = asks.post("/predict", json={"image": texts[0]}).json()["predictions"]
    assert [one[0] | {"name": ""}] == [single[0] | {"name": ""}]


def test_further_answers(asks: Asks, images: list[bytes]) -> None:
    query = "?top=100&all=true&embedding=1&as_is=true"
    replies = [
        asks.post(f"{path}{query}", content=images[0], headers=PNG).json()["predictions"][0]
        for path in ("/predict", "/explain", "/v1/models/digits:explain-image")
    ]
    found = replies[1]
    assert replies[2] == found
    assert replies[0] == {name: value for name, value in found.items() if name != "explanation"}
    assert len(found["top"]) == len(found["probabilities"]) == 10
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["probabilities"][found["label"]] == found["confidence"]
    assert len(found["embedding"]) == 64
    heat = np.array(found["explanation"]["heat"])
    place = found["explanation"]["strongest"]
    assert heat.shape == (8, 8)
    assert heat[place["row"], place["column"]] == heat.max() == place["fall"]


def test_one_of_many_cannot_be_read(asks: Asks, images: list[bytes]) -> None:
    large = png(np.zeros((101, 100), np.uint8))
    files = [
        ("image", ("a.png", images[0])),
        ("image", ("b.png", b"no image")),
        ("image", ("c.png", large)),
        ("image", ("d.png", images[1])),
    ]
    reply = asks.post("/predict", files=files)
    assert reply.status_code == 200
    kinds = [each.get("error", {}).get("kind") for each in reply.json()["predictions"]]
    assert kinds == [None, "ImageError", "ImageError", None]
    turned = asks.post("/predict", files=files[::-1][2:]).json()["predictions"]
    assert [each.get("label") is None for each in turned] == [True, False]
    for content in (b"no image", large):
        alone = asks.post("/predict", content=content, headers=PNG)
        assert alone.status_code == 422
        assert alone.json()["error"]["kind"] == "ImageError"
    assert asks.post("/explain", files=files).status_code == 413  # one at a time


def test_limits_of_a_request(asks: Asks) -> None:
    for size, status in ((200_001, 413), (200_000, 422)):
        assert asks.post("/predict", content=bytes(size), headers=PNG).status_code == status
    assert asks.app.budget.left == 25 * 200_000


def test_several_models(address: str, images: list[bytes]) -> None:
    reply = httpx.post(f"{address}predict", content=images[0], headers=PNG)
    assert reply.status_code == 400
    assert "plain, refusing" in reply.json()["error"]["advice"]
    for name in ("plain", "refusing"):
        path = f"{address}predict?model={name}"
        assert httpx.post(path, content=images[0], headers=PNG).json()["model"] == name


@pytest.mark.parametrize(
    "query",
    ["top=0", "top=-1", "top=x", "top=1.5", "top=", "top=99999999999", "all=maybe", "tops=3",
     "%ff=1", "top=%ff", "explain=true", "&".join(f"a{place}=1" for place in range(100))],
)  # fmt: skip
def test_queries_that_are_none(asks: Asks, images: list[bytes], query: str) -> None:
    reply = asks.post(f"/predict?{query}", content=images[0], headers=PNG)
    assert (reply.status_code, reply.json()["error"]["kind"]) == (400, "BadRequest")
    by_path = "/v1/models/digits:predict-image?model=digits"
    assert asks.post(by_path, content=images[0], headers=PNG).status_code == 400
