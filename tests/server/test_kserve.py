"""The Open Inference Protocol: what is read and refused, by plain HTTP and by Triton's client."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import tracemalloc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import opsin
from opsin.core.metadata import Preparation
from opsin.server.kserve import Image, TensorError, read_request
from tests.processes import python
from tests.server.made_engine import png

MOST = 20_000_000
LIKE = Preparation(height=2, width=3, channels=1, resize="fit")
SIZE = {"binary_data_size": 6}
FILES = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}


def body(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 2, 3, 1]} | tensor]}


def read(content: dict[str, Any], tail: bytes | None = None) -> list[Image]:
    text = json.dumps(content).encode()
    length = None if tail is None else str(len(text))
    return read_request(text + (tail or b""), length, LIKE, 4)[1]


def test_pixels_flat_nested_and_as_bytes_are_the_same() -> None:
    flat = list(range(250, 256))
    nested = [[[[250], [251], [252]], [[253], [254], [255]]]]
    for images in (
        read(body(data=flat)),
        read(body(data=nested)),
        read(body(parameters=SIZE), bytes(flat)),
    ):
        (pixels,) = images
        assert isinstance(pixels, np.ndarray)
        assert pixels.dtype == np.uint8
        assert pixels[..., 0].tolist() == [[250, 251, 252], [253, 254, 255]]


def test_files_as_base64_and_as_bytes_are_the_same() -> None:
    files = [b"\x89PNG", b"", b"\xff\xd8 and so on"]
    tail = b"".join(struct.pack("<I", len(each)) + each for each in files)
    texts = [base64.b64encode(each).decode() for each in files]
    form = FILES | {"shape": [3]}
    assert read(body(**form, data=texts)) == files
    assert read(body(**form, parameters={"binary_data_size": len(tail)}), tail) == files


@pytest.mark.parametrize(
    ("tensor", "tail"),
    [
        ({"shape": [1000000000, 2, 3, 1], "parameters": SIZE}, b"123456"),
        ({"shape": [4, 2, 3, 1], "parameters": SIZE}, b"123456"),
        ({"shape": [0, 2, 3, 1], "data": []}, None),
        ({"shape": [1, 3, 2, 1], "data": [0] * 6}, None),
        ({"shape": [-1, 2, 3, 1], "data": [0] * 6}, None),
        ({"shape": [6], "data": [0] * 6}, None),
        ({"shape": [], "data": [0] * 6}, None),
        ({"datatype": "FP32", "data": [0] * 6}, None),
        ({"datatype": "BYTES", "data": [0] * 6}, None),
        ({"name": "input_1", "data": [0] * 6}, None),
        ({"data": [0] * 5}, None),
        ({"data": []}, None),
        ({"data": [[[[0], [0], [0]], [[0], [0]]]]}, None),
        ({"data": [[0, 0, 0], [0, 0, 0]]}, None),
        ({"data": [0.5] * 6}, None),
        ({"data": [256] + [0] * 5}, None),
        ({"data": [-1] + [0] * 5}, None),
        ({"data": [10**30] + [0] * 5}, None),
        ({"data": ["0"] * 6}, None),
        ({"data": [True] * 6}, None),
        ({}, None),
        ({"data": [0] * 6}, b"123456"),
        ({"data": [0] * 6, "parameters": SIZE}, b"123456"),
        ({"parameters": {"binary_data_size": 5}}, b"123456"),
        ({"parameters": {"binary_data_size": True}}, b"1"),
        (FILES | {"data": ["QQ=="]}, None),
        (FILES | {"data": ["QQ==", "no base64"]}, None),
        (FILES | {"data": ["QQ==", 3]}, None),
        (FILES | {"parameters": SIZE}, b"\xff\xff\xff\xff12"),
        (FILES | {"parameters": SIZE}, b"\x02\0\0\x0012"),
        (FILES | {"shape": [1], "parameters": SIZE}, b"\x01\0\0\x0012"),
    ],
)
def test_what_does_not_fit_is_refused_shortly(tensor: dict[str, Any], tail: bytes | None) -> None:
    with pytest.raises(TensorError) as caught:
        read(body(**tensor), tail)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("length", ["-1", "1e3", "", "٣", "99999999999", "999999999999999", "+1"])
def test_a_length_of_the_json_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(TensorError, match="Inference-Header-Content-Length"):
        read_request(b"{}", length, LIKE, 4)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b"\xff", b"null", b'{"inputs": []}', b'{"inputs": [{}]}',
        b'{"inputs": {}}', b"[" * 50_000, b'{"inputs":[{"name":"images","datatype":"UINT8",'
        b'"shape":[' + b"1," * 400_000 + b'1],"data":[]}]}', b'{"id": 5}',
        b'{"inputs":[{"name":"images","shape":[1e400],"datatype":"UINT8"}]}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(TensorError):
        read_request(content, None, LIKE, 4)


def test_what_is_small_does_not_become_large() -> None:
    texts = [
        json.dumps(body(data=[])).replace("[]", f"[{sign * 3_000_000}0]").encode()
        for sign in ("[],", "{},", "0,")
    ]
    huge = json.dumps(body(shape=[4, 2, 3, 1], parameters={"binary_data_size": 10**18})).encode()
    tracemalloc.start()
    for text in texts:
        with pytest.raises(TensorError, match="binary_data=True"):
            read_request(text, None, LIKE, 4)
    with pytest.raises(TensorError, match="binary_data_size is 1"):
        read_request(huge + b"x", str(len(huge)), LIKE, 4)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_TENSOR = st.fixed_dictionaries({
    "name": st.sampled_from(["images", "image_bytes"]),
    "datatype": st.sampled_from(["UINT8", "BYTES"]),
    "shape": st.sampled_from([[1], [2], [1, 2, 3, 1], [2, 2, 3, 1]]),
    "data": _JSON | st.lists(st.integers(), max_size=12),
    "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), _JSON),
})  # fmt: skip


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(_TENSOR, min_size=1, max_size=1)},
        optional={"parameters": _JSON, "outputs": _JSON, "id": _JSON},
    ),
    st.none() | st.binary(max_size=14),
)
def test_nearly_right_requests_are_no_crash(content: dict[str, Any], tail: bytes | None) -> None:
    try:
        images = read(content, tail)
    except opsin.OpsinError:
        return
    assert 1 <= len(images) <= 2


def asking(images: Any, **further: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    return {"inputs": [tensor | {"data": images.ravel().tolist()}]} | further


def test_server_and_models_describe_themselves(client: Any) -> None:
    server = client.get("v2").json()
    assert (server["name"], server["version"]) == ("opsin", opsin.__version__)
    assert "binary_tensor_data" in server["extensions"]
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
    for path in ("", "/ready"):
        with_version = client.get(f"v2/models/refusing/versions/{version}{path}")
        assert with_version.status_code == 200
        assert with_version.json() == client.get(f"v2/models/refusing{path}").json()


def error_of(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    content = reply.json()
    assert list(content) == ["error"]
    assert "\n" not in content["error"]
    return str(content["error"])


def test_errors_have_the_shape_of_the_protocol(client: Any, digits: opsin.Dataset) -> None:
    right = asking(digits.images[:1])
    post = client.post
    error_of(post("v2/models/no/infer", json=right), 404)
    error_of(post("v2/models/plain/versions/1/infer", json=right), 404)
    error_of(client.get("v2/models"), 404)
    error_of(client.get("v2/models/plain/infer"), 405)
    error_of(post("v2/models/plain/infer", content=b"{"), 400)
    for wrong in (
        {"outputs": [{"name": "ood_score"}]},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]},
        {"parameters": {"as_is": 1}},
    ):
        error_of(post("v2/models/plain/infer", json=right | wrong), 400)
    text = base64.b64encode(b"GIF89a and then nothing").decode()
    good = base64.b64encode(png(digits.images[0])).decode()
    broken = {"inputs": [FILES | {"data": [good, text]}]}
    assert "Image 2 of 2" in error_of(post("v2/models/plain/infer", json=broken), 422)
    error_of(post("v2/models/plain/infer", content=b"x" * (MOST + 1)), 413)
    packed = gzip.compress(json.dumps(right).encode())
    headers = {"content-encoding": "gzip"}
    error_of(post("v2/models/plain/infer", content=packed, headers=headers), 415)


# gevent, which the client brings, changes the process that imports it: so it gets one of its own.
_TRITON = """
import json, os, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

where, images, file = sys.argv[1], np.load(sys.argv[2]), open(sys.argv[3], "rb").read()
with triton.InferenceServerClient(where) as client:
    ready = [client.is_model_ready(name) for name in ("plain", "refusing", "other")]
    version, = client.get_model_metadata("refusing")["versions"]
    found = []
    for binary in (True, False):
        tensor = triton.InferInput("images", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images, binary_data=binary)
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary),
                  triton.InferRequestedOutput("rejected", binary_data=binary)]
        for outputs in (None, wanted):
            answer = client.infer("refusing", [tensor], outputs=outputs, request_id="9",
                                  model_version=version)
            found.append(answer.as_numpy("probabilities").astype(float).tolist())
            rejected = answer.as_numpy("rejected")
            assert rejected.dtype == bool and rejected.tolist() == [False] * 3 + [True] * 3
            assert answer.get_response()["id"] == "9"
    tensor = triton.InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([file], dtype=object))
    label = int(client.infer("plain", [tensor]).as_numpy("probabilities").argmax())
    try:
        client.infer("plain", [triton.InferInput("images", [1, 2, 3, 4], "UINT8")])
    except InferenceServerException as error:
        print(json.dumps([found, ready, label, error.message()]), flush=True)
    os._exit(0)  # the client's own end waits now and then for what has ended already
"""


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="needs tritonclient[http]")
def test_the_client_of_triton(
    address: str, refusing: Path, digits: opsin.Dataset, tmp_path: Path
) -> None:
    # What is nearly black looks like no digit.
    images = np.concatenate([digits.images[:3], digits.images[:3] // 8])
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "three.png").write_bytes(png(digits.images[3]))
    where = address.removeprefix("http://").rstrip("/")
    done = python("-c", _TRITON, where, tmp_path / "images.npy", tmp_path / "three.png")
    found, ready, label, error = json.loads(done.stdout)
    for probabilities in found:
        expected = opsin.Classifier(refusing).probabilities(images)
        assert np.array_equal(np.array(probabilities, np.float32), expected)
    assert ready == [True, True, False]
    assert label == int(digits.labels[3])
    assert "the shape [N, 8, 8, 1]" in error
