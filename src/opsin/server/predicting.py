"""``POST /predict``: images in, labels out.

The routes are plain ASGI: of a request that takes a network half a millisecond, FastAPI's own way
with parameters and models would take as much again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from opsin.core.errors import OpsinError
from opsin.server.body import Body, MemoryBudget, read_images
from opsin.server.disconnects import CancelOnDisconnect
from opsin.server.engine import Engine
from opsin.server.http_errors import error_reply, internal_error, status_of
from opsin.server.openapi import add_described, described_router, error_replies, image_body
from opsin.server.predict_options import MOST_CLASSES, read_query
from opsin.server.predict_requests import (
    ImageToAnswer,
    Overloaded,
    PredictResult,
    Result,
    unknown_model,
)
from opsin.server.predictions import Predictions, image_prediction
from opsin.server.served_model import ServedModel
from opsin.server.server_settings import ServerSettings
from opsin.web.refusals import BadRequest, json_bytes

PREDICT: Final = "/predict"
PREDICT_IMAGE: Final = "/v1/models/{model}:predict-image"
# Where many images find the queue full half-way, seconds until the next try.
_PATIENCE: Final = 0.05
logger = logging.getLogger(__name__)


class Predict:
    """An endpoint that answers with labels.

    Args:
        engine: What computes.
        settings: The limits.
        budget: The memory of all requests' bodies.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, budget: MemoryBudget) -> None:
        self._engine, self._settings, self._budget = engine, settings, budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        try:
            content = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except OpsinError as error:
            if status_of(error) == 500:
                logger.exception("a request failed")
            await error_reply(error)(scope, receive, send)
            return
        except Exception:
            # Only a bug ends here; the client learns that there is one, the log which.
            logger.exception("a request failed")
            await error_reply(internal_error())(scope, receive, send)
            return
        length = str(len(content)).encode("ascii")
        headers = [(b"content-length", length), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        until = asyncio.get_running_loop().time() + self._settings.deadline
        named: str | None = scope.get("path_params", {}).get("model")
        options = read_query(scope["query_string"], self._settings.top, named=named is None)
        model = self._find(named or options.model)
        scope["path_params"] = {"model": model}  # by which the request is counted
        self._engine.check_queue()
        with Body(scope, receive, self._settings, self._budget) as body:
            uploads = await read_images(body, self._settings)
            images = [
                ImageToAnswer(upload.content, options.as_is, options.embedding, options.explain)
                for upload in uploads
            ]
            async with CancelOnDisconnect(receive):
                served, answers = await self._ask(model, images, until)
        if len(answers) == 1 and not isinstance(answers[0], PredictResult):
            raise answers[0]
        reply: Predictions = {
            "model": served.name,
            "digest": served.digest,
            "predictions": [
                image_prediction(upload, result, served, options)
                for upload, result in zip(uploads, answers, strict=True)
            ],
        }
        return json_bytes(reply)

    def _find(self, name: str | None) -> str:
        """Return the name of the model that is meant."""
        served = self._engine.served
        if name is None and len(served) == 1:
            return next(iter(served))
        if name is None:
            raise BadRequest(
                "the name of a model, since several are served",
                "none is given",
                f"Add ?model= and one of {', '.join(served)}.",
            )
        if name not in served:
            raise unknown_model(name, served)
        return name

    async def _ask(
        self, model: str, images: Sequence[ImageToAnswer], until: float
    ) -> tuple[ServedModel, list[Result]]:
        """Ask the engine, part by part where the images are more than its queue should hold.

        Returns:
            The model that answered all of them, and the answers.
        """
        loop = asyncio.get_running_loop()
        most = max(1, self._settings.queue // 2)
        answers: list[Result] = []
        first = self._engine.served[model]
        while True:
            served = self._engine.served[model]
            if served.digest != first.digest:  # replaced meanwhile: one file answers all of it
                first, answers = served, []
            part = images[len(answers) : len(answers) + most]
            left = until - loop.time()
            again = bool(answers) and left > _PATIENCE
            try:
                answers += await self._engine.predict(model, part, deadline=left, again=again)
            except Overloaded:
                if not again:
                    raise
                await asyncio.sleep(_PATIENCE)
            if len(answers) == len(images):
                return served, answers


def routes(app: ASGIApp, settings: ServerSettings) -> APIRouter:
    """Return the routes that predict.

    Args:
        app: What answers, a `Predict`.
        settings: The limits.
    """

    def options(
        top: int = Query(
            settings.top,
            ge=1,
            le=MOST_CLASSES,
            description="Classes to return, the most probable first.",
        ),
        all_: bool = Query(
            False, alias="all", description="Return the probability of every class."
        ),
        embedding: bool = Query(False, description="Return what the last layer sees."),
        explain: bool = Query(
            False,
            description="Return which parts of the image the answer rests on; this takes many "
            "times as long.",
        ),
        as_is: bool = Query(
            False,
            description="Leave a background as it is that is the opposite of the training images'.",
        ),
    ) -> None:
        del top, all_, embedding, explain, as_is

    def predict(
        model: Annotated[
            str | SkipJsonSchema[None],
            Query(description="Which model; not needed where one is served."),
        ] = None,
        _: None = Depends(options),
    ) -> None:
        del model

    def predict_image(model: str, _: None = Depends(options)) -> None:
        del model

    router = described_router("Predict")
    for path, signature in ((PREDICT, predict), (PREDICT_IMAGE, predict_image)):
        add_described(
            router,
            path,
            signature,
            app,
            replies=error_replies()
            | {200: {"model": Predictions, "description": "The answers, in order."}},
            summary="Classify one image or many",
            description="The body is an image's bytes, a form with one or many files, or JSON "
            "with base64. Of many images, one that cannot be read has an error in place of its "
            f"answer. Limits: {settings.max_bytes:,} bytes and {settings.max_parts:,} images in "
            f"a request, {settings.max_pixels:,} pixels in an image.",
            openapi_extra={"requestBody": image_body(settings)},
        )
    return router
