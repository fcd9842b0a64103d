"""Answers of the Open Inference Protocol: in the order and the form that were asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("fastapi")
from opsin.server.tensor_answers import Tensor, write_answer
from opsin.server.tensors import RequestedOutput, TensorRequest


def test_an_answer_holds_what_was_asked_for_in_its_order() -> None:
    values = np.array([[0.25, 0.5, 0.25], [0.0, 0.1, 0.9]], np.float32)
    tensors = {
        "probabilities": Tensor("probabilities", values, ("a\udcff", "b:c", "漢")),
        "rejected": Tensor("rejected", np.array([True, False])),
    }
    wanted = (
        RequestedOutput("rejected", binary=True),
        RequestedOutput("probabilities", classes=2),
        RequestedOutput("probabilities", binary=True, classes=9),
        RequestedOutput("probabilities", binary=True),
    )
    content, length = write_answer({"model_name": "m"}, tensors, TensorRequest("7", [], wanted))
    assert length is not None
    head, tail = json.loads(content[:length]), content[length:]
    assert head["id"] == "7"
    assert [each["name"] for each in head["outputs"]] == [each.name for each in wanted]
    assert head["outputs"][1]["data"] == [
        "0.500000:1:b:c", "0.250000:0:a\udcff", "0.900000:2:漢", "0.100000:1:b:c",
    ]  # fmt: skip
    assert [each["shape"] for each in head["outputs"]] == [[2], [2, 2], [2, 3], [2, 3]]
    sizes = [each.get("parameters", {}).get("binary_data_size", 0) for each in head["outputs"]]
    assert sum(sizes) == len(tail)
    assert tail[:2] == b"\x01\x00"
    assert np.array_equal(np.frombuffer(tail[-24:], "<f4").reshape(2, 3), values)
    plain, none = write_answer({}, tensors, TensorRequest("", []))
    assert none is None
    assert np.array_equal(
        np.array(json.loads(plain)["outputs"][0]["data"], np.float32).reshape(2, 3), values
    )
