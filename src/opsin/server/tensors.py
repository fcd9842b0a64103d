"""Requests of the Open Inference Protocol.

They are JSON, and a tensor as bytes behind it. Sources: the Open Inference Protocol,
https://github.com/kserve/open-inference-protocol, and Triton's extension for binary tensors,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from opsin.core.metadata import Preparation
from opsin.web.refusals import BadRequest

Image = bytes | NDArray[np.uint8]

#: What the request header is called that says how many bytes of the body are JSON.
JSON_LENGTH: Final = "Inference-Header-Content-Length"
#: How the length of an element of text or bytes is written before it.
LENGTH: Final = struct.Struct("<I")
_ADVICE: Final = "See docs/reference/open-inference.md."
# What is counted before it is parsed: lists inside each other cost twenty times their size as
# objects, and many numbers hold up everybody else.
_MOST_BRACKETS: Final = 100_000
_MOST_NUMBERS: Final = 250_000
# A deadline of more than a day is none.
_LONGEST: Final = 86_400_000_000

Parameters = dict[str, bool | StrictInt | float | str]


class TensorError(BadRequest):
    """A request that does not follow the protocol, or does not fit the model."""


class InputTensor(BaseModel):
    """A tensor that a client sends: images."""

    model_config = ConfigDict(extra="ignore")
    name: str = Field(description="`image_bytes` (encoded files) or `images` (prepared pixels)")
    shape: list[Annotated[StrictInt, Field(ge=0)]] = Field(
        max_length=8, description="`[N]` for `image_bytes`, `[N, height, width, channels]` else"
    )
    datatype: str = Field(description="`BYTES` for `image_bytes`, `UINT8` for `images`")
    parameters: Parameters = {}
    data: list[Any] | None = Field(
        None, description="Files in base64, or pixels 0 to 255; left out where bytes follow"
    )


class OutputTensor(BaseModel):
    """A tensor that a client wants."""

    model_config = ConfigDict(extra="ignore")
    name: str = Field(description="`probabilities`, `embedding`, `ood_score` or `rejected`")
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """What a client asks: one tensor of images, and which tensors it wants of the answers."""

    model_config = ConfigDict(extra="ignore")
    id: str = ""
    parameters: Parameters = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[OutputTensor] = Field([], max_length=16)


@dataclass(frozen=True)
class RequestedOutput:
    """A tensor of the answer, as it was asked for.

    Args:
        name: Which.
        binary: As bytes behind the JSON, or as numbers inside it.
        classes: Best classes to give as text instead of the numbers; 0: the numbers.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class TensorRequest:
    """A request, checked.

    Args:
        id: What the client calls it; comes back in the answer.
        images: Files' contents, or prepared pixels ``uint8[H, W, C]``.
        wanted: The tensors of the answer; empty: all there are.
        binary: Whether all of them come as bytes, where ``wanted`` is empty.
        as_is: Whether a background is left as it is.
        deadline: Seconds that the client waits at most; ``None`` = as long as the server does.
    """

    id: str
    images: list[Image]
    wanted: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    as_is: bool = False
    deadline: float | None = None


def read_request(
    body: bytes, json_length: str | None, preparation: Preparation, most: int
) -> TensorRequest:
    """Read the body of an ``infer`` request.

    Nothing is allocated by a size that the request only claims: it is compared with the bytes that
    are there.

    Args:
        body: All of it, no longer compressed.
        json_length: The header ``Inference-Header-Content-Length``; ``None`` = all of it is JSON.
        preparation: The size that the model's prepared images have.
        most: Images of a request at most.

    Raises:
        TensorError: It cannot be understood, or does not fit the model.
    """
    head, tail = _parted(body, json_length)
    for most_signs, signs in ((_MOST_BRACKETS, (b"[", b"{")), (_MOST_NUMBERS, (b",",))):
        if sum(map(head.count, signs)) > most_signs:
            raise TensorError(
                "few numbers in the JSON", f"it holds more than {most_signs:,} of {signs[0]!r}",
                "Send the tensor as bytes behind the JSON: binary_data=True in tritonclient.",
            )  # fmt: skip
    try:
        request = InferRequest.model_validate_json(head)
    except ValidationError as error:
        raise TensorError("an infer request in JSON", _first_mistake(error), _ADVICE) from None
    tensor = request.inputs[0]
    images = _images(tensor, tail, preparation, most)
    parameters = request.parameters
    if any(name.startswith("sequence_") for name in parameters):
        raise TensorError("images that stand alone", "got a sequence", "Leave sequence_id out.")
    whole = _flag(parameters, "binary_data_output")
    return TensorRequest(
        id=request.id,
        images=images,
        wanted=tuple(_wanted(output, whole) for output in request.outputs),
        binary=whole,
        as_is=_flag(parameters, "as_is"),
        deadline=_deadline(parameters),
    )


def _parted(body: bytes, json_length: str | None) -> tuple[bytes, memoryview]:
    """Cut the body into its JSON and the bytes behind it."""
    if json_length is None:
        return body, memoryview(b"")
    if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 12):
        raise TensorError(f"{JSON_LENGTH}: a number", f"got {_short(json_length)}", _ADVICE)
    length = int(json_length)
    if length > len(body):
        raise TensorError(
            f"{JSON_LENGTH} of at most {len(body):,}, the body's bytes", f"got {length:,}", _ADVICE
        )
    return body[:length], memoryview(body)[length:]


def _images(
    tensor: InputTensor, tail: memoryview, preparation: Preparation, most: int
) -> list[Image]:
    size = (preparation.height, preparation.width, preparation.channels)
    forms = {"image_bytes": ("BYTES", ()), "images": ("UINT8", size)}
    if tensor.name not in forms:
        raise TensorError(
            "an input images or image_bytes", f"got {_short(tensor.name)}", "Rename it."
        )
    datatype, rest = forms[tensor.name]
    form = ", ".join(["N", *map(str, rest)])
    if tensor.datatype != datatype:
        raise TensorError(
            f"{tensor.name} of datatype {datatype}", f"got {_short(tensor.datatype)}", _ADVICE
        )
    if len(tensor.shape) != 1 + len(rest) or tuple(tensor.shape[1:]) != rest:
        raise TensorError(
            f"{tensor.name} of shape [{form}]", f"got {_short(str(tensor.shape))}",
            "Resize the images, or send files as image_bytes.",
        )  # fmt: skip
    if not 1 <= tensor.shape[0] <= most:
        raise TensorError(
            f"1 to {most:,} images", f"got {_short(str(tensor.shape[0]))}",
            "Send them in several requests.",
        )  # fmt: skip
    stated = tensor.parameters.get("binary_data_size")
    if stated is None and len(tail):
        raise TensorError(
            "a tensor for the bytes behind the JSON", "none has the parameter binary_data_size",
            _ADVICE,
        )  # fmt: skip
    if stated is None and tensor.data is None:
        raise TensorError(
            f"{tensor.name} with data or with the parameter binary_data_size", "it has neither",
            _ADVICE,
        )  # fmt: skip
    if stated is not None and (type(stated) is not int or stated != len(tail)):
        raise TensorError(
            f"binary_data_size of {len(tail):,}, the bytes behind the JSON",
            f"got {_short(str(stated))}", _ADVICE,
        )  # fmt: skip
    if tensor.name == "images":
        return _pixels(tensor, tail if stated is not None else None)
    return _files(tensor, tail) if stated is not None else _from_base64(tensor)


def _pixels(tensor: InputTensor, tail: memoryview | None) -> list[Image]:
    """Return prepared images; the claimed shape is believed once the bytes are counted."""
    if tail is None:
        tail = memoryview(_numbers(tensor.data or [], tensor.shape))
    if len(tail) != prod(tensor.shape):
        raise TensorError(
            f"{prod(tensor.shape):,} bytes for the shape {tensor.shape}", f"got {len(tail):,}",
            _ADVICE,
        )  # fmt: skip
    return list(np.frombuffer(tail, np.uint8).reshape(tensor.shape))


def _numbers(data: list[Any], shape: Sequence[int]) -> bytes:
    """Turn pixels, nested as the shape says or in one flat list, into bytes."""
    if data and type(data[0]) is list:
        level = [data]
        for size in shape:
            if any(type(part) is not list or len(part) != size for part in level):
                raise TensorError(
                    f"data nested as the shape {list(shape)}", "a part has another length",
                    "Nest it alike, or send one flat list.",
                )  # fmt: skip
            data = list(chain.from_iterable(level))
            level = data
    try:
        return bytes(data)
    except (TypeError, ValueError):
        raise TensorError(
            "pixels: whole numbers 0 to 255", "data holds something else",
            "Send bytes of 0 (black) to 255 (white), not fractions.",
        ) from None  # fmt: skip


def _files(tensor: InputTensor, tail: memoryview) -> list[Image]:
    """Cut the bytes into elements: four bytes of length, then the content."""
    files: list[Image] = []
    place = 0
    for _ in range(tensor.shape[0]):
        start = place + LENGTH.size
        end = start + LENGTH.unpack_from(tail, place)[0] if start <= len(tail) else start
        if end > len(tail):
            raise TensorError(
                f"{tensor.shape[0]:,} elements, each behind its length in four bytes",
                f"the bytes end inside element {len(files) + 1:,}", _ADVICE,
            )  # fmt: skip
        files.append(bytes(tail[start:end]))
        place = end
    if place != len(tail):
        raise TensorError(
            f"{place:,} bytes for {tensor.shape[0]:,} elements", f"got {len(tail):,}", _ADVICE
        )
    return files


def _from_base64(tensor: InputTensor) -> list[Image]:
    data = tensor.data or []
    if len(data) != tensor.shape[0]:
        raise TensorError(
            f"{tensor.shape[0]:,} elements as the shape says", f"got {len(data):,}", _ADVICE
        )
    if tensor.parameters.get("content_type", "base64") != "base64":
        raise TensorError("content_type base64", "got another", _ADVICE)
    files: list[Image] = []
    for number, text in enumerate(data, 1):
        try:
            files.append(base64.b64decode(text if type(text) is str else "?", validate=True))
        except (binascii.Error, ValueError):
            raise TensorError(
                "image files in base64", f"element {number:,} is none",
                "JSON holds no bytes: encode them, or send them behind the JSON.",
            ) from None  # fmt: skip
    return files


def _wanted(output: OutputTensor, whole: bool) -> RequestedOutput:
    classes = output.parameters.get("classification", 0)
    if type(classes) is not int or classes < 0 or (classes and output.name != "probabilities"):
        raise TensorError(
            "classification: a count, for the output probabilities",
            f"got {_short(str(classes))} for {_short(output.name)}", _ADVICE,
        )  # fmt: skip
    binary = _flag(output.parameters, "binary_data", whole)
    if "shared_memory_region" in output.parameters:
        raise TensorError("an answer by HTTP", "got a shared memory region", "Leave it out.")
    return RequestedOutput(output.name, binary, classes)


def _flag(parameters: Parameters, name: str, otherwise: bool = False) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise TensorError(f"{name}: true or false", f"got {_short(str(value))}", _ADVICE)
    return value


def _deadline(parameters: Parameters) -> float | None:
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _LONGEST:
        raise TensorError("timeout: microseconds", f"got {_short(str(value))}", _ADVICE)
    return value / 1e6


def _first_mistake(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = first["msg"][:1].lower() + first["msg"][1:]
    return _short(f"{where}: {said}" if where else said)


def _short(text: str) -> str:
    """Cut what a client sent to a length that fits into one line of an error."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "…"
