"""Requests of the Open Inference Protocol: what is read, what is refused, and what it may cost."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")
from opsin.core.errors import OpsinError
from opsin.core.metadata import Preparation
from opsin.server.tensors import RequestedOutput, TensorError, TensorRequest, read_request

LIKE = Preparation(height=2, width=3, channels=1, resize="fit")


def body(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 2, 3, 1]} | tensor]}


def read(content: dict[str, Any], tail: bytes | None = None) -> TensorRequest:
    text = json.dumps(content).encode()
    if tail is None:
        return read_request(text, None, LIKE, 4)
    return read_request(text + tail, str(len(text)), LIKE, 4)


def test_pixels_flat_nested_and_as_bytes_are_the_same() -> None:
    flat = list(range(250, 256))
    nested = [[[[250], [251], [252]], [[253], [254], [255]]]]
    asked = [
        read(body(data=flat)),
        read(body(data=nested)),
        read(body(parameters={"binary_data_size": 6}), bytes(flat)),
    ]
    for each in asked:
        (pixels,) = each.images
        assert isinstance(pixels, np.ndarray)
        assert pixels.dtype == np.uint8
        assert pixels[..., 0].tolist() == [[250, 251, 252], [253, 254, 255]]


def test_files_as_base64_and_as_bytes_are_the_same() -> None:
    files = [b"\x89PNG", b"", b"\xff\xd8 and so on"]
    form = {"name": "image_bytes", "datatype": "BYTES", "shape": [3]}
    tail = b"".join(struct.pack("<I", len(each)) + each for each in files)
    texts = [base64.b64encode(each).decode() for each in files]
    assert read(body(**form, data=texts)).images == files
    assert read(body(**form, parameters={"binary_data_size": len(tail)}), tail).images == files


SIZE = {"binary_data_size": 6}
FILES = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}


@pytest.mark.parametrize(
    ("tensor", "tail", "says"),
    [
        ({"shape": [1000000000, 2, 3, 1], "parameters": SIZE}, b"123456", "1 to 4 images"),
        ({"shape": [4, 2, 3, 1], "parameters": SIZE}, b"123456", "24 bytes for the shape"),
        ({"shape": [0, 2, 3, 1], "data": []}, None, "1 to 4 images; got 0"),
        ({"shape": [1, 3, 2, 1], "data": [0] * 6}, None, "of shape [N, 2, 3, 1]"),
        ({"shape": [-1, 2, 3, 1], "data": [0] * 6}, None, "greater than or equal to 0"),
        ({"shape": [6], "data": [0] * 6}, None, "of shape [N, 2, 3, 1]; got [6]"),
        ({"datatype": "FP32", "data": [0] * 6}, None, "datatype UINT8; got FP32"),
        ({"name": "input_1", "data": [0] * 6}, None, "images or image_bytes; got input_1"),
        ({"data": [0] * 5}, None, "6 bytes for the shape"),
        ({"data": [[[[0], [0], [0]], [[0], [0]]]]}, None, "another length"),
        ({"data": [0.5] * 6}, None, "whole numbers 0 to 255"),
        ({"data": [256] + [0] * 5}, None, "whole numbers 0 to 255"),
        ({"data": ["0"] * 6}, None, "whole numbers 0 to 255"),
        ({}, None, "it has neither"),
        ({"data": [0] * 6}, b"123456", "none has the parameter binary_data_size"),
        ({"parameters": {"binary_data_size": 5}}, b"123456", "binary_data_size of 6"),
        ({"parameters": {"binary_data_size": True}}, b"1", "binary_data_size of 1"),
        (FILES | {"data": ["QQ=="]}, None, "2 elements as the shape says; got 1"),
        (FILES | {"data": ["QQ==", "no base64"]}, None, "element 2 is none"),
        (FILES | {"data": ["QQ==", 3]}, None, "element 2 is none"),
        (FILES | {"parameters": SIZE}, b"\xff\xff\xff\xff12", "inside element 1"),
        (FILES | {"parameters": SIZE}, b"\x02\0\0\x0012", "inside element 2"),
        (FILES | {"shape": [1], "parameters": SIZE}, b"\x01\0\0\x0012", "5 bytes for 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(
    tensor: dict[str, Any], tail: bytes | None, says: str
) -> None:
    with pytest.raises(TensorError) as caught:
        read(body(**tensor), tail)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("sign", ["[],", "{},", "0,"])
def test_small_bytes_do_not_become_large_objects(sign: str) -> None:
    text = json.dumps(body(data=[])).replace("[]", f"[{sign * 3_000_000}0]").encode()
    tracemalloc.start()
    with pytest.raises(TensorError, match="binary_data=True"):
        read_request(text, None, LIKE, 4)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_claimed_size_allocates_nothing() -> None:
    huge = body(shape=[4, 2, 3, 1], parameters={"binary_data_size": 10**18})
    tracemalloc.start()
    with pytest.raises(TensorError, match="binary_data_size of 1"):
        read(huge, b"x")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@given(st.binary(max_size=300), st.none() | st.integers(0, 400).map(str))
def test_no_bytes_raise_anything_else(content: bytes, length: str | None) -> None:
    try:
        read_request(content, length, LIKE, 4)
    except OpsinError as error:
        assert len(str(error)) < 400


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(st.fixed_dictionaries({
            "name": st.sampled_from(["images", "image_bytes"]),
            "datatype": st.sampled_from(["UINT8", "BYTES"]),
            "shape": st.sampled_from([[1], [2], [1, 2, 3, 1], [2, 2, 3, 1]]),
            "data": _JSON,
            "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), _JSON),
        }), min_size=1, max_size=1)},
        optional={"parameters": st.dictionaries(
            st.sampled_from(["timeout", "as_is", "sequence_id", "binary_data_output"]), _JSON),
            "outputs": _JSON, "id": _JSON},
    ),
    st.none() | st.binary(max_size=14),
)  # fmt: skip
def test_nearly_right_requests_are_read_or_refused(
    content: dict[str, Any], tail: bytes | None
) -> None:
    try:
        asked = read(content, tail)
    except OpsinError:
        return
    assert 1 <= len(asked.images) <= 2


def test_options_of_a_request() -> None:
    content = body(data=[0] * 6) | {
        "id": "7",
        "parameters": {"timeout": 250_000, "as_is": True, "priority": 3},
        "outputs": [
            {"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}},
            {"name": "ood_score"},
        ],
    }
    asked = read(content)
    assert asked.id == "7"
    assert asked.deadline == 0.25
    assert asked.as_is
    assert asked.wanted == (
        RequestedOutput("probabilities", True, 2),
        RequestedOutput("ood_score"),
    )
    for parameters in ({"timeout": 0}, {"timeout": "1"}, {"as_is": 1}, {"sequence_id": 4}):
        with pytest.raises(TensorError):
            read(body(data=[0] * 6) | {"parameters": parameters})
    for output in (
        {"name": "probabilities", "parameters": {"classification": -1}},
        {"name": "probabilities", "parameters": {"classification": True}},
        {"name": "embedding", "parameters": {"classification": 1}},
        {"name": "probabilities", "parameters": {"shared_memory_region": "x"}},
        {"name": "probabilities", "parameters": {"binary_data": 1}},
    ):
        with pytest.raises(TensorError):
            read(body(data=[0] * 6) | {"outputs": [output]})
