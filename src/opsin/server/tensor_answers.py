"""Answers of the Open Inference Protocol.

They are JSON, and tensors as bytes behind it. Source: Triton's extensions for binary tensors and
for classification,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from opsin.core.stored_json import json_text
from opsin.server.tensors import LENGTH, RequestedOutput, TensorRequest


class BinaryTensor(TypedDict):
    """Where a tensor's numbers are when they are not in the JSON."""

    binary_data_size: Annotated[int, Field(description="Bytes of it behind the JSON.")]


class AnswerTensor(TypedDict):
    """A tensor of the answer in the JSON; its numbers may follow as bytes."""

    name: str
    datatype: Literal["FP32", "BOOL", "BYTES"]
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[BinaryTensor]


class InferAnswer(TypedDict):
    """The answer to an infer request."""

    model_name: str
    model_version: Annotated[str, Field(description="Start of the file's SHA-256.")]
    id: NotRequired[str]
    outputs: list[AnswerTensor]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the answer: ``float32`` or ``bool``, or ``classes`` as text.

    Args:
        name: Which.
        values: ``float32[N, …]`` or ``bool[N]``
        labels: Names of the classes, for `RequestedOutput.classes`.
    """

    name: str
    values: NDArray[Any]
    labels: Sequence[str] = ()


def write_answer(
    head: Mapping[str, Any], tensors: Mapping[str, Tensor], asked: TensorRequest
) -> tuple[bytes, int | None]:
    """Write the body of the answer.

    Args:
        head: What comes before the tensors: name and version of the model.
        tensors: Those that were asked for, or all there are, by name.
        asked: Which are written, and how.

    Returns:
        The body, and how many bytes of it are JSON; ``None`` = all.
    """
    wanted = asked.wanted or [RequestedOutput(name, asked.binary) for name in tensors]
    described, behind = [], []
    for each in wanted:
        entry, content = _described(tensors[each.name], each)
        described.append(entry)
        behind.append(content)
    whole = dict(head) | ({"id": asked.id} if asked.id else {}) | {"outputs": described}
    text = _encoded(json_text(whole, compact=True))
    if not any(entry.get("parameters") for entry in described):
        return text, None
    return b"".join([text, *behind]), len(text)


def _described(tensor: Tensor, wanted: RequestedOutput) -> tuple[AnswerTensor, bytes]:
    """Return a tensor's entry in the JSON, and its bytes where they stand behind it."""
    values = tensor.values
    if wanted.classes:
        best = np.argsort(-values, axis=1, kind="stable")[:, : wanted.classes]
        data: list[Any] = [
            f"{row[place]:f}:{place}:{tensor.labels[place]}"
            for row, places in zip(values, best, strict=True)
            for place in places
        ]
        entry: AnswerTensor = {"name": wanted.name, "datatype": "BYTES", "shape": list(best.shape)}
        encoded = [_encoded(text) for text in data]
        content = b"".join(LENGTH.pack(len(each)) + each for each in encoded)
    else:
        entry = {
            "name": wanted.name,
            "datatype": "BOOL" if values.dtype == np.bool_ else "FP32",
            "shape": list(values.shape),
        }
        data = [] if wanted.binary else values.ravel().tolist()
        content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    if not wanted.binary:
        return entry | {"data": data}, b""
    return entry | {"parameters": {"binary_data_size": len(content)}}, content


def _encoded(text: str) -> bytes:
    # A label may be a folder's name that is no Unicode: half a surrogate pair, which UTF-8 cannot.
    return text.encode("utf-8", "backslashreplace")
