"""The Open Inference Protocol by plain HTTP, and by the client of Triton."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
import httpx

import opsin
from opsin.data.dataset import Dataset
from opsin.server.tensors import JSON_LENGTH
from tests.server.made_engine import png

MOST = 20_000_000


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with httpx.Client(base_url=address, timeout=30) as opened:
        yield opened


def asking(images: Any, **further: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    return {"inputs": [tensor | {"data": images.ravel().tolist()}]} | further


def test_server_and_models_describe_themselves(client: Any, refusing: Path) -> None:
    server = client.get("v2").json()
    assert server["name"] == "opsin"
    assert server["version"] == opsin.__version__
    assert {"classification", "binary_tensor_data"} <= set(server["extensions"])
    assert client.get("v2/health/live").status_code == 200
    assert client.get("v2/health/ready").json() == {"ready": True}
    plain = client.get("v2/models/plain").json()
    assert plain["inputs"] == [
        {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
        {"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 1]},
    ]
    assert plain["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "embedding", "datatype": "FP32", "shape": [-1, 64]},
    ]
    model = client.get("v2/models/refusing").json()
    assert [each["name"] for each in model["outputs"]][2:] == ["ood_score", "rejected"]
    (version,) = model["versions"]
    for path in ("", "/ready", "/config"):
        with_version = client.get(f"v2/models/refusing/versions/{version}{path}")
        assert with_version.status_code == 200
        assert with_version.json() == client.get(f"v2/models/refusing{path}").json()


def test_answers_are_those_of_the_file(client: Any, refusing: Path, digits: Dataset) -> None:
    images = digits.images[:7]
    expected = opsin.Classifier(refusing, threads=1).answers(images, embedding=True)
    reply = client.post("v2/models/refusing/infer", json=asking(images, id="42"))
    assert reply.status_code == 200
    content = reply.json()
    assert (content["model_name"], content["id"]) == ("refusing", "42")
    found = {each["name"]: each for each in content["outputs"]}
    for name in ("probabilities", "embedding", "ood_score"):
        values = np.array(found[name]["data"], np.float32).reshape(found[name]["shape"])
        assert np.array_equal(values, getattr(expected, name))
    metadata = opsin.Classifier(refusing).metadata
    rejected = expected.rejected(metadata.reject)
    assert rejected is not None
    assert found["rejected"]["data"] == rejected.tolist()


def test_image_files_are_read_as_everywhere(
    client: Any, nearest_mean: Path, digits: Dataset
) -> None:
    large = np.repeat(np.repeat(digits.images[3], 5, axis=0), 5, axis=1)
    content = png(large)
    expected = opsin.Classifier(nearest_mean).predict(content)
    text = base64.b64encode(content).decode()
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [2], "data": [text, text]}
    labels = {"name": "probabilities", "parameters": {"classification": 2}}
    request = {"inputs": [tensor], "outputs": [labels]}
    (output,) = client.post("v2/models/plain/infer", json=request).json()["outputs"]
    assert output["shape"] == [2, 2]
    first, second = (
        f"{share:f}:{digits.classes.index(label)}:{label}" for label, share in expected.top(2)
    )
    assert output["data"] == [first, second] * 2


def error_of(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    content = reply.json()
    assert list(content) == ["error"]
    assert isinstance(content["error"], str)
    assert content["error"].startswith("expected ")
    assert "\n" not in content["error"]
    return str(content["error"])


def test_errors_have_the_shape_of_the_protocol(client: Any, digits: Dataset) -> None:
    right = asking(digits.images[:1])
    post = client.post
    assert "plain, refusing" in error_of(post("v2/models/no/infer", json=right), 404)
    assert "version" in error_of(post("v2/models/plain/versions/1/infer", json=right), 404)
    assert "GET /docs" in error_of(client.get("v2/models"), 404)
    error_of(client.get("v2/models/plain/infer"), 405)
    error_of(post("v2/models/plain/infer", content=b"{"), 400)
    wrong = right | {"outputs": [{"name": "ood_score"}]}
    assert "probabilities, embedding" in error_of(post("v2/models/plain/infer", json=wrong), 400)
    claim = json.loads(json.dumps(right))
    claim["inputs"][0]["shape"] = [1000000000, 8, 8, 1]
    assert "1 to 256 images" in error_of(post("v2/models/plain/infer", json=claim), 400)
    text = base64.b64encode(b"GIF89a and then nothing").decode()
    good = base64.b64encode(png(digits.images[0])).decode()
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [2], "data": [good, text]}
    broken = {"inputs": [tensor]}
    assert "image 2 of 2" in error_of(post("v2/models/plain/infer", json=broken), 422)
    error_of(post("v2/models/plain/infer", content=b"x" * (MOST + 1)), 413)


def test_compressed_bodies_are_expanded_within_bounds(client: Any, digits: Dataset) -> None:
    text = json.dumps(asking(digits.images[:1])).encode()
    address = "v2/models/plain/infer"

    def send(content: bytes, encoding: str) -> Any:
        return client.post(address, content=content, headers={"content-encoding": encoding})

    for content, encoding in (
        (gzip.compress(text), "gzip"), (zlib.compress(text), "deflate"), (text, "identity"),
    ):  # fmt: skip
        assert send(content, encoding).status_code == 200
    bomb = gzip.compress(bytes(MOST + 1))
    assert len(bomb) < 30_000
    assert "expanded" in error_of(send(bomb, "gzip"), 413)
    for content, encoding in (
        (text, "gzip"), (gzip.compress(text)[:-9], "gzip"), (gzip.compress(text) * 2, "gzip"),
        (text, "br"),
    ):  # fmt: skip
        error_of(send(content, encoding), 415)


def test_numbers_as_bytes_come_and_go(client: Any, digits: Dataset, nearest_mean: Path) -> None:
    images = digits.images[:3]
    request = asking(images, outputs=[
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"classification": 1}},
    ])  # fmt: skip
    tensor = request["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": images.size}
    head = json.dumps(request).encode()
    reply = client.post("v2/models/plain/infer", content=head + images.tobytes(),
                        headers={JSON_LENGTH: str(len(head))})  # fmt: skip
    length = int(reply.headers[JSON_LENGTH])
    described = json.loads(reply.content[:length])["outputs"]
    assert described[0]["parameters"] == {"binary_data_size": 4 * 3 * 10}
    found = np.frombuffer(reply.content[length:], "<f4").reshape(3, 10)
    assert np.array_equal(found, opsin.Classifier(nearest_mean).probabilities(images))
    best = [int(text.split(":")[1]) for text in described[1]["data"]]
    assert best == found.argmax(axis=1).tolist()


# gevent, which the client brings, changes the process that imports it: so it gets one of its own.
_TRITON = """
import json, os, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

where, images, file = sys.argv[1], np.load(sys.argv[2]), open(sys.argv[3], "rb").read()
with triton.InferenceServerClient(where) as client:
    said = {
        "live": client.is_server_live(), "ready": client.is_server_ready(),
        "models": [client.is_model_ready(name) for name in ("plain", "refusing", "other")],
        "server": client.get_server_metadata()["name"],
        "config": client.get_model_config("plain")["name"],
    }
    version, = client.get_model_metadata("refusing")["versions"]
    found = []
    for binary in (True, False):
        given = triton.InferInput("images", list(images.shape), "UINT8")
        given.set_data_from_numpy(images, binary_data=binary)
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary),
                  triton.InferRequestedOutput("rejected", binary_data=binary)]
        for outputs in (None, wanted):
            answer = client.infer("refusing", [given], outputs=outputs, request_id="9",
                                  model_version=version, request_compression_algorithm="gzip",
                                  timeout=20_000_000)
            found.append(answer.as_numpy("probabilities").astype(float).tolist())
            assert answer.as_numpy("rejected").dtype == bool
            assert answer.get_response()["id"] == "9"
        labels = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        answer = client.infer("refusing", [given], outputs=[labels]).as_numpy("probabilities")
        said[f"labels {binary}"] = [t.decode() if binary else t for t in answer.ravel()]
    given = triton.InferInput("image_bytes", [1], "BYTES")
    given.set_data_from_numpy(np.array([file], dtype=object))
    said["file"] = int(client.infer("plain", [given]).as_numpy("probabilities").argmax())
    waiting = [client.async_infer("plain", [given]) for _ in range(5)]
    said["many"] = [int(w.get_result().as_numpy("probabilities").argmax()) for w in waiting]
    try:
        client.infer("plain", [triton.InferInput("images", [1, 2, 3, 4], "UINT8")])
    except InferenceServerException as error:
        said["error"] = [error.status(), error.message()]
    print(json.dumps({"said": said, "found": found}), flush=True)
    os._exit(0)  # the client's own end waits now and then for what has ended already
"""


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="needs tritonclient[http]")
def test_the_client_of_triton_understands(
    address: str, refusing: Path, digits: Dataset, tmp_path: Path
) -> None:
    images = digits.images[:4]
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "three.png").write_bytes(png(digits.images[3]))
    where = address.removeprefix("http://").rstrip("/")
    process = subprocess.run(
        [sys.executable, "-c", _TRITON, where, tmp_path / "images.npy", tmp_path / "three.png"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout)
    said = told["said"]
    expected = opsin.Classifier(refusing).probabilities(images)
    for found in told["found"]:
        assert np.array_equal(np.array(found, np.float32), expected)
    assert said["live"]
    assert said["ready"]
    assert said["models"] == [True, True, False]
    assert (said["server"], said["config"]) == ("opsin", "plain")
    assert said["labels True"] == said["labels False"]
    assert (
        said["labels True"][0]
        == f"{expected[0].max():f}:{expected[0].argmax()}:" + (digits.classes[expected[0].argmax()])
    )
    assert said["file"] == int(digits.labels[3])
    assert said["many"] == [said["file"]] * 5
    assert said["error"][0] == "[400]" or said["error"][0] == "400"
    assert "of shape [N, 8, 8, 1]" in said["error"][1]


def test_many_at_once_get_their_own_answers(
    address: str, digits: Dataset, nearest_mean: Path
) -> None:
    expected = opsin.Classifier(nearest_mean).probabilities(digits.images[:60])

    async def ask() -> list[Any]:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            outputs = [{"name": "probabilities"}]
            replies = await asyncio.gather(*(
                client.post("v2/models/plain/infer",
                            json=asking(digits.images[i : i + 1], id=str(i), outputs=outputs))
                for i in range(60)
            ))  # fmt: skip
            return [reply.json() for reply in replies]

    for place, content in enumerate(asyncio.run(ask())):
        assert content["id"] == str(place)
        assert np.array_equal(np.float32(content["outputs"][0]["data"]), expected[place])


def test_metrics_tell_of_it(client: Any, digits: Dataset) -> None:
    assert client.post("v2/models/plain/infer", json=asking(digits.images[3:4])).is_success
    reply = client.get("metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    lines = reply.text.splitlines()
    asked = 'opsin_requests_total{model="plain",route="/v2/models/{model}/infer",status="200"}'
    assert any(line.startswith(asked) for line in lines)
    assert "opsin_images_waiting 0.0" in lines
    assert any(line.startswith('opsin_answers_total{label="3",model="plain"}') for line in lines)
