"""The Open Inference Protocol (KServe V2) over REST, with binary tensors.

Opsin's models for clients of other servers. Sources:
https://github.com/kserve/open-inference-protocol, and Triton's extension for binary tensors. An
error is ``{"error": "one line"}``, as the protocol demands; elsewhere the server uses the shape
of `opsin.web.refusals`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import re
import struct
from math import prod
from typing import Annotated, Any, Final, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, ValidationError
from typing_extensions import TypedDict

from opsin._version import __version__
from opsin.core.metadata import Preparation
from opsin.runtime.onnx_scan import printable
from opsin.server.body import disc, read_body, while_connected
from opsin.server.engine import Engine, ImageToAnswer, PredictResult
from opsin.server.errors import NotFound, OpenApi, Replies, described_router, error_replies
from opsin.server.models import ServedModel
from opsin.server.predict import Predictor
from opsin.web.refusals import BadRequest, json_bytes, json_reply

#: The header with the length of the body's JSON in bytes.
JSON_LENGTH: Final = "Inference-Header-Content-Length"
# The length prefix of a BYTES element.
_LENGTH: Final = struct.Struct("<I")
# Counted before parsing: nested lists take twenty times their size as
# objects, and many numbers block other requests.
_MOST_BRACKETS: Final = 100_000
_MOST_NUMBERS: Final = 250_000

Image = bytes | NDArray[np.uint8]
Parameters = dict[str, bool | StrictInt | float | str]
# A tensor's description as JSON.
_Tensor = dict[str, object]


class ProtocolError(TypedDict):
    """An error in the protocol's shape."""

    error: Annotated[str, Field(description="What is wrong, in one line.")]


class TensorError(BadRequest):
    """A request that does not follow the protocol, or does not fit the model."""

    def __init__(self, message: str, advice: str = "See docs/reference/open-inference.md.") -> None:
        super().__init__(message, advice)


class InputTensor(BaseModel):
    """An input tensor: images."""

    name: Literal["image_bytes", "images"] = Field(description="Encoded files, or prepared pixels")
    shape: list[Annotated[StrictInt, Field(ge=0)]] = Field(
        max_length=8, description="`[N]` for `image_bytes`, `[N, height, width, channels]` else"
    )
    datatype: Literal["BYTES", "UINT8"] = Field(description="Of `image_bytes`; of `images`")
    parameters: Parameters = {}
    data: list[Any] | None = Field(
        None, description="Files in base64, or pixels 0 to 255; left out where bytes follow"
    )


class OutputTensor(BaseModel):
    """A requested output tensor."""

    name: str = Field(description="`probabilities`, `embedding`, `ood_score` or `rejected`")
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """An inference request: one tensor of images, and the wanted output tensors."""

    id: str = ""
    parameters: Parameters = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[OutputTensor] = Field([], max_length=16)


def version_of(served: ServedModel) -> str:
    """The version of a model, by which clients never get another file's answers."""
    return served.file.digest[:12]


def routes(predictor: Predictor) -> APIRouter:
    """The routes of the protocol, below ``/v2``."""
    engine = predictor.engine
    router = described_router("Open Inference Protocol", "/v2")
    get = functools.partial(router.add_api_route, response_class=Response)

    def readiness(reply: dict[str, object]) -> Response:
        return json_reply(reply | {"ready": engine.ready}, 200 if engine.ready else 503)

    async def server() -> Response:
        extensions = ["binary_tensor_data", "parameters"]  # by Triton's names
        return json_reply({"name": "opsin", "version": __version__, "extensions": extensions})

    async def live() -> Response:
        return json_reply({"live": True})

    async def ready() -> Response:
        return readiness({})

    async def describe(model: str, version: str | None = None) -> Response:
        return json_reply(_described(_served(engine, model, version)))

    async def model_ready(model: str, version: str | None = None) -> Response:
        return readiness({"name": _served(engine, model, version).name})

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        return await _infer(request, model, version, predictor)

    unready: Replies = {503: {"description": "It does not answer now."}}
    unknown = error_replies(404, shape=ProtocolError)
    answer: Replies = {200: {"description": "The tensors of the answers, and their bytes."}}
    errors = error_replies(400, 404, 408, 413, 415, 422, 503, 504, shape=ProtocolError)
    # FastAPI would read the body as JSON only. `opsin.server.app` adds the "$defs".
    schema = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    del schema["$defs"]
    file = disc().partition(",")[2]
    image = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [file]}
    content = {"application/json": {"schema": schema, "example": {"inputs": [image]}}}
    body: OpenApi = {"requestBody": {"required": True, "content": content}}
    get("", server, summary="Which server this is")
    get("/health/live", live, summary="Whether the server runs")
    get("/health/ready", ready, summary="Whether it answers", responses=unready)
    for path in ("/models/{model}", "/models/{model}/versions/{version}"):
        get(path, describe, summary="What a model takes and answers with", responses=unknown)
        replies = unknown | unready
        get(f"{path}/ready", model_ready, summary="Whether a model answers", responses=replies)
        get(
            f"{path}/infer",
            infer,
            methods=["POST"],
            summary="Classify images",
            operation_id="infer" if path.endswith("{model}") else "infer_version",
            responses=errors | answer,
            openapi_extra=body,
        )
    return router


async def _infer(
    request: Request, model: str, version: str | None, predictor: Predictor
) -> Response:
    engine, settings = predictor.engine, predictor.settings
    until = asyncio.get_running_loop().time() + settings.deadline
    _served(engine, model, version)  # before reading a body in vain
    with predictor.budget.lend() as take:
        content = await read_body(request, settings, take)
        # Again: the file may have been replaced meanwhile. From here to the engine there is no
        # await.
        served = _served(engine, model, version)
        length, target = request.headers.get(JSON_LENGTH), served.metadata.preparation
        asked, images = read_request(content, length, target, settings.queue)
        known = [output["name"] for output in _described(served)["outputs"]]
        wanted = asked.outputs or [OutputTensor(name=name) for name in known]
        for name in {output.name for output in wanted} - set(known):
            raise TensorError(f"The model has no output {name[:40]!r}, only {', '.join(known)}")
        embedding = any(output.name == "embedding" for output in wanted)
        as_is = _flag(asked.parameters, "as_is")
        left = until - asyncio.get_running_loop().time()
        to_answer = [ImageToAnswer(image, as_is, embedding) for image in images]
        answering = engine.predict(served.name, to_answer, deadline=left)
        results = await while_connected(request.receive, answering)
    answers = []
    for number, result in enumerate(results, 1):
        if not isinstance(result, PredictResult):  # answers are never partial
            which = f"Image {number:,} of {len(results):,}: " if len(results) > 1 else ""
            raise type(result)(which + result.message.removeprefix("image: "), result.advice)
        answers.append(result)
    return _written(served, asked, wanted, answers)


def _written(
    served: ServedModel,
    asked: InferRequest,
    wanted: list[OutputTensor],
    answers: list[PredictResult],
) -> Response:
    """Write the answers as JSON, followed by the binary tensors."""
    all_binary = _flag(asked.parameters, "binary_data_output")
    reply: dict[str, Any] = {"model_name": served.name, "model_version": version_of(served)}
    if asked.id:
        reply["id"] = asked.id
    reply["outputs"] = []
    behind: list[bytes] = []
    for output in wanted:
        values = np.array([getattr(answer, output.name) for answer in answers])
        boolean = values.dtype == np.bool_
        values = values if boolean else values.astype("<f4", copy=False)
        datatype, shape = "BOOL" if boolean else "FP32", list(values.shape)
        tensor: _Tensor = {"name": output.name, "datatype": datatype, "shape": shape}
        if _flag(output.parameters, "binary_data", all_binary):
            tensor["parameters"] = {"binary_data_size": values.nbytes}
            behind.append(values.tobytes())
        else:
            tensor["data"] = values.ravel().tolist()
        reply["outputs"].append(tensor)
    if not behind:
        return json_reply(reply)
    text = json_bytes(reply)
    headers = {JSON_LENGTH: str(len(text))}
    content = b"".join([text, *behind])
    return Response(content, headers=headers, media_type="application/octet-stream")


def _described(served: ServedModel) -> dict[str, Any]:
    """What a model takes and answers with; -1 is the number of images."""
    preparation = served.metadata.preparation
    pixels = [-1, *preparation.shape]
    outputs: list[_Tensor] = [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(served.metadata.classes)]}
    ]
    if served.embedding:
        outputs.append({"name": "embedding", "datatype": "FP32", "shape": [-1, served.embedding]})
    if served.metadata.reject is not None:
        outputs.append({"name": "ood_score", "datatype": "FP32", "shape": [-1]})
        outputs.append({"name": "rejected", "datatype": "BOOL", "shape": [-1]})
    return {
        "name": served.name,
        "versions": [version_of(served)],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
            {"name": "images", "datatype": "UINT8", "shape": pixels},
        ],
        "outputs": outputs,
    }


def _served(engine: Engine, model: str, version: str | None) -> ServedModel:
    served = engine.model(model)
    if version not in (None, version_of(served)):
        raise NotFound(
            f"{served.name} has the version {version_of(served)}, not {str(version)[:40]!r}",
            "Leave the version out to get answers of the file that is served now.",
        )
    return served


def read_request(
    body: bytes, json_length: str | None, preparation: Preparation, most: int
) -> tuple[InferRequest, list[Image]]:
    """Read the body of an ``infer`` request: its parameters and at most ``most`` images."""
    # Claimed sizes are compared with the actual bytes before anything is allocated.
    head, tail = body, memoryview(b"")
    if json_length is not None:
        if not re.fullmatch(r"[0-9]{1,11}", json_length) or int(json_length) > len(body):
            raise TensorError(f"{JSON_LENGTH} is no number of bytes: {printable(json_length)}")
        head, tail = body[: int(json_length)], memoryview(body)[int(json_length) :]
    if head.count(b"[") + head.count(b"{") > _MOST_BRACKETS or head.count(b",") > _MOST_NUMBERS:
        raise TensorError(
            "The JSON holds too many numbers",
            "Send the tensor as bytes behind the JSON: binary_data=True in tritonclient.",
        )
    try:
        request = InferRequest.model_validate_json(head)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise TensorError(f"This is no infer request: {printable(reason)}") from None
    return request, _images(request.inputs[0], tail, preparation, most)


def _images(tensor: InputTensor, tail: memoryview, target: Preparation, most: int) -> list[Image]:
    name, shape, data = tensor.name, tensor.shape, tensor.data
    pixels = [*target.shape] if name == "images" else []
    datatype = "UINT8" if pixels else "BYTES"
    stated = tensor.parameters.get("binary_data_size", "missing")
    if tensor.datatype != datatype or shape[1:] != pixels or not shape:
        wanted = f"the shape [{', '.join(['N', *map(str, pixels)])}] and the datatype {datatype}"
        raise TensorError(
            f"{name} must have {wanted}, not {shape} and {tensor.datatype}",
            "Resize the images, or send files as image_bytes.",
        )
    if not 1 <= shape[0] <= most:
        raise TensorError(f"A request may hold 1 to {most:,} images, not {shape[0]}")
    if (stated == "missing" and not len(tail)) == (data is None):
        raise TensorError(f"{name} needs data, or else binary_data_size and bytes behind the JSON")
    if data is None and (type(stated) is not int or stated != len(tail)):
        message = f"binary_data_size is {printable(stated)}, but {len(tail):,} bytes follow"
        raise TensorError(message)
    if not pixels and data is None:
        return _cut(tail, shape[0])
    if not pixels and data is not None:
        with contextlib.suppress(TypeError, ValueError):  # of which binascii.Error is one
            if len(data) == shape[0]:
                return [base64.b64decode(text, validate=True) for text in data]
        raise TensorError(
            f"data must be {shape[0]:,} image files in base64",
            "JSON holds no bytes: encode them, or send them behind the JSON.",
        )
    content = tail if data is None else memoryview(_numbers(data, shape))
    if len(content) != prod(shape):
        message = f"The shape {shape} needs {prod(shape):,} bytes, and {len(content):,} came"
        raise TensorError(message)
    return list(np.frombuffer(content, np.uint8).reshape(shape))


def _numbers(data: list[Any], shape: list[int]) -> bytes:
    """Pixels as bytes, from a nested or flat list."""
    with contextlib.suppress(ValueError, OverflowError):  # parts of different lengths
        values = np.asarray(data)
        fits = values.ndim == 1 or list(values.shape) == shape
        if not values.size:
            return b""
        if fits and values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255:
            return values.astype(np.uint8).tobytes()
    raise TensorError(
        f"data must be whole numbers 0 to 255, in one flat list or nested as {shape}",
        "Send pixels of 0 (black) to 255 (white), not fractions.",
    )


def _cut(content: memoryview, count: int) -> list[Image]:
    """Image files after the JSON, each prefixed by its length in four bytes."""
    files: list[Image] = []
    position = 0
    for number in range(1, count + 1):
        start = position + _LENGTH.size
        end = start + _LENGTH.unpack_from(content, position)[0] if start <= len(content) else start
        if end > len(content):
            raise TensorError(f"The bytes end inside element {number:,} of {count:,}")
        files.append(bytes(content[start:end]))
        position = end
    if position != len(content):
        raise TensorError(f"{count:,} elements take {position:,} bytes, and {len(content):,} came")
    return files


def _flag(parameters: Parameters, name: str, otherwise: bool = False) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise TensorError(f"{name} must be true or false, not {printable(value)}")
    return value
