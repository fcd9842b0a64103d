"""``POST /predict`` and ``/explain``: images in, labels out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Required, cast
from urllib.parse import parse_qsl

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict

from opsin.core.platform import cores
from opsin.data.network_pixels import NO_CONTRAST
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.server import ServerSettings
from opsin.server.body import MemoryBudget, Upload, image_body, read_images, while_connected
from opsin.server.engine import Engine, ImageToAnswer, PredictResult, Result
from opsin.server.errors import described_router, error_replies, reply_to
from opsin.server.models import ServedModel
from opsin.web.refusals import BadRequest, Error, error_object, json_reply

PREDICT: Final = "/predict"
# Classes in an answer by default.
_TOP: Final = 5


class AnswerOptions(BaseModel):
    """What a request wants beyond the label."""

    model_config = ConfigDict(extra="forbid")

    top: int | None = Field(
        None, ge=1, le=999_999_999, description="Classes to return, the most probable first."
    )
    all: bool = Field(False, description="Return the probability of every class.")
    embedding: bool = Field(False, description="Return what the last layer sees.")
    as_is: bool = Field(
        False,
        description="Leave a background as it is that is the opposite of the training images'.",
    )


class PredictOptions(AnswerOptions):
    """The same, with the model as a parameter."""

    model: str | None = Field(None, description="Which model; not needed where one is served.")


_REJECTED: Final = (
    "Whether the image is like none of the training images; null: the file has no threshold, and "
    "so cannot tell."
)
_WARNING: Final = (
    "Why the answer means nothing, where the image has no contrast; there is no explanation either."
)
Share = Annotated[float, Field(ge=0, le=1)]


class ClassScore(TypedDict):
    """A class and its probability."""

    label: str
    score: Share


class StrongestFall(TypedDict):
    """The cell where the probability falls most."""

    row: int
    column: int
    fall: float


class Explanation(TypedDict):
    """The fall of the label's probability when a part is hidden."""

    method: Literal["occlusion"]
    heat: Annotated[list[list[float]], Field(description="For each pixel of the network's input.")]
    strongest: StrongestFall


class ImagePrediction(TypedDict, total=False):
    """The answer for one image, or an error in its place."""

    name: Required[Annotated[str, Field(description="The file's name where one was given.")]]
    answer: Annotated[str, Field(description='The label, or "none of these".')]
    label: Annotated[str, Field(description="The most probable class.")]
    confidence: Annotated[Share, Field(description="Its probability.")]
    rejected: Annotated[bool | None, Field(description=_REJECTED)]
    ood_score: Annotated[
        float | None,
        Field(description="How unlike them it is, 0 (alike) to 2; null: the file cannot tell."),
    ]
    top: list[ClassScore]
    notes: list[str]
    warning: Annotated[str | None, Field(description=_WARNING)]
    probabilities: Annotated[dict[str, Share], Field(description="With all=true: of every class.")]
    embedding: Annotated[
        list[float | None] | None,
        Field(description="With embedding=true: what the last layer sees."),
    ]
    explanation: Annotated[Explanation, Field(description="Of /explain.")]
    error: Error


class Predictions(TypedDict):
    """The answers to a request."""

    model: str
    digest: Annotated[str, Field(description="SHA-256 of the file that answered.")]
    predictions: list[ImagePrediction]


def routes(predictor: Predictor) -> APIRouter:
    """The routes for predictions and explanations, by the only model or a named one."""
    # FastAPI documents them; `Predictor` answers as plain ASGI: for a request that takes a network
    # half a millisecond, FastAPI would add as much again.
    settings = predictor.settings
    router = described_router("Predict")
    limits = f"Limits: {settings.max_bytes:,} bytes, {settings.max_pixels:,} pixels in an image"
    predicting = (
        "The body is an image's bytes, a form with one or many files, or JSON with base64. Of many "
        "images, one that cannot be read has an error in place of its answer. "
        f"{limits}, {settings.queue:,} images in a request."
    )
    explaining = (
        "The answer of /predict to one image, and by how much the label's probability falls where "
        f"a part of the image is hidden; this takes many times as long. {limits}."
    )

    def by_query(options: Annotated[PredictOptions, Query()]) -> None:
        del options

    def by_path(model: str, options: Annotated[AnswerOptions, Query()]) -> None:
        del model, options

    for path, explain in (
        (PREDICT, False),
        ("/v1/models/{model}:predict-image", False),
        ("/explain", True),
        ("/v1/models/{model}:explain-image", True),
    ):
        router.add_api_route(
            path,
            by_path if "{model}" in path else by_query,
            methods=["POST"],
            operation_id=re.sub(r"\W+", "_", path.replace("/v1/models/{model}:", "")).strip("_"),
            response_class=Response,
            responses=error_replies()
            | {200: {"model": Predictions, "description": "The answers, in order."}},
            summary="Classify, and say why" if explain else "Classify one image or many",
            description=explaining if explain else predicting,
            openapi_extra={"requestBody": image_body(many=not explain)},
        )
        cast("APIRoute", router.routes[-1]).app = predictor.app(explain=explain)
    return router


class Predictor:
    """Answers the images of a request with labels."""

    def __init__(self, engine: Engine, settings: ServerSettings, budget: MemoryBudget) -> None:
        self.engine, self.settings, self.budget = engine, settings, budget
        # One worker is kept free of explanations, which take long.
        self._explaining = asyncio.Semaphore(max(1, (settings.workers or cores()) - 1))

    def app(self, *, explain: bool) -> ASGIApp:
        """The ASGI application of a route."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            try:
                reply = await self._answer(request, explain)
            except Exception as error:  # noqa: BLE001  a bug is logged
                reply = await reply_to(request, error)
            await reply(scope, receive, send)

        return app

    async def _answer(self, request: Request, explain: bool) -> Response:
        until = asyncio.get_running_loop().time() + self.settings.deadline
        name = request.scope.get("path_params", {}).get("model")
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        kind = AnswerOptions if name else PredictOptions
        options = kind.model_validate(dict(query))
        if isinstance(options, PredictOptions):
            name = options.model
        if name is None:
            name, *others = self.engine.served
            if others:
                advice = f"Add ?model= and one of {', '.join(self.engine.served)}."
                raise BadRequest("Several models are served, and none is named", advice)
        name = self.engine.model(name).name
        request.scope["path_params"] = {"model": name}  # by which the request is counted
        self.engine.check_queue()

        async def ask() -> tuple[ServedModel, list[Result]]:
            async with self._explaining if explain else contextlib.nullcontext():
                left = until - asyncio.get_running_loop().time()
                served = self.engine.model(name)
                return served, await self.engine.predict(name, images, deadline=left)

        with self.budget.lend() as take:
            most = 1 if explain else self.settings.queue
            uploads = await read_images(request, self.settings, take, most)
            images = [
                ImageToAnswer(upload.content, options.as_is, options.embedding, explain)
                for upload in uploads
            ]
            served, answers = await while_connected(request.receive, ask())
        if len(answers) == 1 and not isinstance(answers[0], PredictResult):
            raise answers[0]
        reply: Predictions = {
            "model": served.name,
            "digest": served.file.digest,
            "predictions": [
                _described(upload, result, served.metadata.classes, options)
                for upload, result in zip(uploads, answers, strict=True)
            ],
        }
        return json_reply(reply)


def _described(
    upload: Upload, result: Result, classes: Sequence[str], options: AnswerOptions
) -> ImagePrediction:
    if not isinstance(result, PredictResult):
        return {"name": upload.name, "error": error_object(result)}
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    shares = result.probabilities.tolist()
    label, most = classes[order[0]], options.top or _TOP
    answer: ImagePrediction = {
        "name": upload.name,
        "warning": NO_CONTRAST if NO_CONTRAST in result.notes else None,
        "answer": NONE_OF_THESE if result.rejected else label,
        "label": label,
        "confidence": shares[order[0]],
        "rejected": result.rejected,
        "ood_score": None if result.ood_score is None else _number(result.ood_score),
        "top": [{"label": classes[row], "score": shares[row]} for row in order[:most]],
        "notes": list(result.notes),
    }
    if options.all:
        answer["probabilities"] = dict(zip(classes, shares, strict=True))
    if options.embedding:
        vector = result.embedding
        answer["embedding"] = None if vector is None else [_number(x) for x in vector.tolist()]
    if result.heat is not None:
        row, column = divmod(int(result.heat.argmax()), result.heat.shape[1])
        rounded = np.round(result.heat.astype(np.float64), 5)
        answer["explanation"] = {
            "method": "occlusion",
            "heat": rounded.tolist(),
            "strongest": {"row": row, "column": column, "fall": float(rounded[row, column])},
        }
    return answer


def _number(value: float) -> float | None:
    """A number for JSON: ``None`` if it is not finite."""
    return value if math.isfinite(value) else None
