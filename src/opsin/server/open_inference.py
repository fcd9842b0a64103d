"""The Open Inference Protocol (KServe V2) over REST.

Opsin's models for clients of other servers. Source: the protocol,
https://github.com/kserve/open-inference-protocol, and Triton's extensions for classification,
binary tensors and a model's configuration. An error is ``{"error": "one line"}``, as the protocol
says; everywhere else the server uses the shape of `opsin.server.http_errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi import Body as BodyParameter
from pydantic import Field
from starlette.routing import request_response
from typing_extensions import TypedDict

from opsin._version import __version__
from opsin.core.errors import OpsinError
from opsin.server.body import Body, MemoryBudget
from opsin.server.disconnects import CancelOnDisconnect
from opsin.server.engine import Engine
from opsin.server.http_errors import (
    NotFound,
    WrongMediaType,
    error_headers,
    error_object,
    status_of,
)
from opsin.server.openapi import Replies, add_described, described_router, disc
from opsin.server.predict_requests import (
    ImageToAnswer,
    PredictResult,
    Result,
    TooLarge,
    unknown_model,
)
from opsin.server.served_model import ServedModel
from opsin.server.server_settings import ServerSettings
from opsin.server.tensor_answers import InferAnswer, Tensor, write_answer
from opsin.server.tensors import JSON_LENGTH, InferRequest, TensorError, TensorRequest, read_request
from opsin.web.refusals import json_reply

_ERRORS: Final = {
    400: "The request does not follow the protocol, or does not fit the model.",
    404: "There is no such model, or no such version of it.",
    408: "The body did not arrive in time.",
    413: "The body has too many bytes.",
    415: "The body is compressed in a way that is not read here.",
    422: "An image cannot be read; the protocol has no answers in part.",
    503: "The server is busy or stopping; try again after the seconds in Retry-After.",
    504: "There was no answer in time.",
}
_EXAMPLE: Final = [
    {
        "name": "image_bytes",
        "datatype": "BYTES",
        "shape": [1],
        "data": [disc().partition(",")[2]],
    }
]
_LABELS: Final = {"name": "probabilities", "parameters": {"classification": 3}}

DescribedRequest = Annotated[
    InferRequest,
    BodyParameter(
        openapi_examples={
            "labels": {
                "summary": "The three best labels",
                "value": {"inputs": _EXAMPLE, "outputs": [_LABELS]},
            },
            "all": {"summary": "All tensors", "value": {"inputs": _EXAMPLE}},
        }
    ),
]

#: What Opsin knows beyond the protocol, by Triton's names for it.
EXTENSIONS: Final = ("classification", "binary_tensor_data", "model_configuration", "parameters")
_VERSION: Final = 12
_TRITON: Final = {"BYTES": "STRING", "UINT8": "UINT8", "FP32": "FP32", "BOOL": "BOOL"}
_WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class ProtocolError(TypedDict):
    """An error in the protocol's shape."""

    error: Annotated[str, Field(description="What is wrong, in one line.")]


def protocol_error(error: OpsinError, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the protocol's own shape: ``{"error": "one line"}``."""
    parts = error_object(error)
    line = str(OpsinError(parts["expected"], parts["received"], parts["advice"]))
    reply: ProtocolError = {"error": line}
    return json_reply(reply, status_of(error), error_headers(error) | dict(headers or {}))


def version_of(served: ServedModel) -> str:
    """Return the version of a model: the first characters of its file's SHA-256.

    A client that names it never gets answers of another file, not even after the file was changed.
    """
    return served.digest[:_VERSION]


def output_shapes(served: ServedModel) -> dict[str, tuple[str, list[int]]]:
    """Return datatype and shape of each tensor that a model answers with; -1 = the images."""
    shapes = {"probabilities": ("FP32", [-1, len(served.metadata.classes)])}
    if served.embedding:
        shapes["embedding"] = ("FP32", [-1, served.embedding])
    if served.metadata.reject is not None:
        shapes |= {"ood_score": ("FP32", [-1]), "rejected": ("BOOL", [-1])}
    return shapes


def input_shapes(served: ServedModel) -> dict[str, tuple[str, list[int]]]:
    """Return datatype and shape of each tensor that a model takes, one of them a request."""
    like = served.metadata.preparation
    return {
        "image_bytes": ("BYTES", [-1]),
        "images": ("UINT8", [-1, like.height, like.width, like.channels]),
    }


def routes(engine: Engine, settings: ServerSettings, budget: MemoryBudget) -> APIRouter:
    """Return the routes of the protocol, below ``/v2``.

    Args:
        engine: What answers.
        settings: The limits.
        budget: The memory that bodies may take, shared with the other routes.
    """
    router = described_router("Open Inference Protocol", "/v2")
    _add_health(router, engine)
    _add_descriptions(router, engine, settings)
    _add_infer(router, engine, settings, budget)
    return router


def _add_health(router: APIRouter, engine: Engine) -> None:
    @router.get("", summary="Which server this is", response_class=Response)
    async def server() -> Response:
        return json_reply({"name": "opsin", "version": __version__, "extensions": list(EXTENSIONS)})

    @router.get("/health/live", summary="Whether the server runs", response_class=Response)
    async def live() -> Response:
        return json_reply({"live": True})

    @router.get(
        "/health/ready",
        summary="Whether it answers",
        response_class=Response,
        responses={503: {"description": "It does not answer now."}},
    )
    async def ready() -> Response:
        return json_reply({"ready": engine.ready}, 200 if engine.ready else 503)


def _add_descriptions(router: APIRouter, engine: Engine, settings: ServerSettings) -> None:
    def described(model: str, version: str | None) -> Mapping[str, object]:
        served = _served(engine, model, version)
        return {
            "name": served.name,
            "versions": [version_of(served)],
            "platform": "onnxruntime_onnx",
            "inputs": _tensors(input_shapes(served)),
            "outputs": _tensors(output_shapes(served)),
        }

    def configured(model: str, version: str | None) -> Mapping[str, object]:
        served = _served(engine, model, version)
        return {
            "name": served.name,
            "platform": "onnxruntime_onnx",
            "backend": "opsin",
            "max_batch_size": min(settings.max_parts, settings.queue),
            "input": [{**each, "optional": True} for each in _triton_tensors(input_shapes(served))],
            "output": _triton_tensors(output_shapes(served)),
        }

    def readiness(model: str, version: str | None) -> Mapping[str, object]:
        return {"name": _served(engine, model, version).name, "ready": engine.ready}

    for path, describe, summary in (
        ("", described, "What a model takes and answers with"),
        ("/config", configured, "The same as Triton writes it"),
        ("/ready", readiness, "Whether a model answers"),
    ):
        _add_description(router, path, describe, summary)


def _add_description(
    router: APIRouter,
    path: str,
    describe: Callable[[str, str | None], Mapping[str, object]],
    summary: str,
) -> None:
    """Add a GET route with the model's version, and one without."""

    async def newest(model: str) -> Response:
        return _reply(describe(model, None))

    async def versioned(model: str, version: str) -> Response:
        return _reply(describe(model, version))

    replies = _protocol_errors(404)
    if path == "/ready":
        replies[503] = {"description": "It does not answer now."}
    for prefix, answer in (
        ("/models/{model}", newest),
        ("/models/{model}/versions/{version}", versioned),
    ):
        router.get(prefix + path, summary=summary, response_class=Response, responses=replies)(
            answer
        )


def _reply(content: Mapping[str, object]) -> Response:
    return json_reply(content, 200 if content.get("ready", True) else 503)


def _add_infer(
    router: APIRouter, engine: Engine, settings: ServerSettings, budget: MemoryBudget
) -> None:
    async def answered(request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version")
        until = asyncio.get_running_loop().time() + settings.deadline
        _served(engine, model, version)  # before a body is read in vain
        with (
            Body(request.scope, request.receive, settings, budget) as body,
            await _content(body, settings, budget) as content,
        ):
            # Once more: the file may have been replaced meanwhile. From here to the engine nothing
            # is waited for.
            served = _served(engine, model, version)
            asked = read_request(
                content,
                request.headers.get(JSON_LENGTH),
                served.metadata.preparation,
                min(settings.max_parts, settings.queue),
            )
            async with CancelOnDisconnect(request.receive):
                return await _answer(asked, engine, served, until)

    for path, signature in (
        ("/models/{model}/infer", infer),
        ("/models/{model}/versions/{version}/infer", infer_version),
    ):
        add_described(
            router,
            path,
            signature,
            request_response(answered),
            replies=_protocol_errors(*_ERRORS)
            | {200: {"model": InferAnswer, "description": "The tensors of the answers."}},
            summary="Classify images",
        )


# Never called: FastAPI reads the description of the routes from their signatures.
def infer(model: str, body: DescribedRequest) -> None:  # noqa: D103
    del model, body


def infer_version(model: str, version: str, body: DescribedRequest) -> None:  # noqa: D103
    del model, version, body


def _protocol_errors(*statuses: int) -> Replies:
    return {status: {"model": ProtocolError, "description": _ERRORS[status]} for status in statuses}


async def _content(
    body: Body, settings: ServerSettings, budget: MemoryBudget
) -> contextlib.AbstractContextManager[bytes]:
    """Read a body; what it grows by where it is compressed takes room as well."""
    content = await body.read()
    if body.coding in ("", "identity"):
        return contextlib.nullcontext(content)
    return _holding(budget, _expanded(content, body.coding, settings.max_bytes))


@contextlib.contextmanager
def _holding(budget: MemoryBudget, content: bytes) -> Iterator[bytes]:
    budget.take(len(content))
    try:
        yield content
    finally:
        budget.give(len(content))


async def _answer(
    asked: TensorRequest, engine: Engine, served: ServedModel, until: float
) -> Response:
    known = output_shapes(served)
    names = {wanted.name for wanted in asked.wanted} or set(known)
    for name in sorted(names - set(known)):
        raise TensorError(
            f"outputs among {', '.join(known)}", f"got {name[:40]!r}", "Choose there."
        )
    images = [
        ImageToAnswer(image, as_is=asked.as_is, embedding="embedding" in names)
        for image in asked.images
    ]
    left = until - asyncio.get_running_loop().time()
    found = await engine.predict(served.name, images, deadline=min(asked.deadline or left, left))
    answers = [_whole(answer, place, len(found)) for place, answer in enumerate(found, 1)]
    head = {"model_name": served.name, "model_version": version_of(served)}
    content, length = write_answer(head, _gathered(answers, served, names), asked)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(
        content, headers={JSON_LENGTH: str(length)}, media_type="application/octet-stream"
    )


def _served(engine: Engine, model: str, version: str | None) -> ServedModel:
    served = engine.served.get(model)
    if served is None:
        raise unknown_model(model, engine.served)
    if version not in (None, version_of(served)):
        raise NotFound(
            f"version {version_of(served)} of {served.name}", f"got {str(version)[:40]!r}",
            "Leave the version out to get answers of the file that is served now.",
        )  # fmt: skip
    return served


class _DescribedTensor(TypedDict):
    """A tensor as the protocol's metadata describe it."""

    name: str
    datatype: str
    shape: list[int]


class _TritonTensor(TypedDict):
    """A tensor as Triton's configuration describes it: without the axis of the images."""

    name: str
    data_type: str
    dims: list[int]


def _tensors(shapes: Mapping[str, tuple[str, list[int]]]) -> list[_DescribedTensor]:
    return [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in shapes.items()
    ]


def _triton_tensors(shapes: Mapping[str, tuple[str, list[int]]]) -> list[_TritonTensor]:
    return [
        {"name": name, "data_type": f"TYPE_{_TRITON[datatype]}", "dims": shape[1:] or [1]}
        for name, (datatype, shape) in shapes.items()
    ]


def _expanded(body: bytes, encoding: str, most: int) -> bytes:
    """Expand a compressed body, up to ``most`` bytes."""
    if encoding not in _WINDOWS:
        raise WrongMediaType(
            "a body that is plain, gzip or deflate", f"got {encoding[:40]}", "Do not compress it."
        )
    expander = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = expander.decompress(body, most + 1)
    except zlib.error:
        content = b""
    if len(content) > most:
        raise TooLarge(
            f"at most {most:,} bytes, expanded", "the body is larger", "Send fewer images."
        )
    if not expander.eof or expander.unused_data:
        raise WrongMediaType(f"a body in {encoding}", "it cannot be expanded", "Send it plain.")
    return content


def _whole(answer: Result, place: int, count: int) -> PredictResult:
    """Return an answer, or say which image has none: the protocol knows no partial answers."""
    if isinstance(answer, PredictResult):
        return answer
    which = f"image {place:,} of {count:,}: " if count > 1 else ""
    said = answer.received.removeprefix("image: ")
    raise type(answer)(answer.expected, which + said, answer.advice)


def _gathered(
    answers: Sequence[PredictResult], served: ServedModel, names: set[str]
) -> dict[str, Tensor]:
    """Stack the answers to tensors, in the order in which they are described."""
    values: dict[str, Callable[[PredictResult], Any]] = {
        "probabilities": lambda answer: answer.probabilities,
        "embedding": lambda answer: answer.embedding,
        "ood_score": lambda answer: np.float32(answer.ood_score),
        "rejected": lambda answer: answer.rejected,
    }
    return {
        name: Tensor(name, np.stack([values[name](each) for each in answers]),
                     served.metadata.classes)
        for name in output_shapes(served) if name in names
    }  # fmt: skip
