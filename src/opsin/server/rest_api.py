"""The server's routes, put together.

AccessMiddleware        who may send requests; the outermost layer
└── MetricsMiddleware   counts and times every request
    ├── /predict        plain ASGI, reached without what lies below
    └── FastAPI         /v1/models/{model}:predict-image (plain ASGI, too), /v1/models, /v2 …,
                        /metrics, the pages, /openapi.json
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from opsin._version import __version__
from opsin.core.errors import OpsinError
from opsin.core.metadata import Score
from opsin.server import open_inference, page, predicting, server_metrics
from opsin.server.body import MemoryBudget
from opsin.server.engine import Engine
from opsin.server.http_errors import (
    CLIENT_GONE,
    MethodNotAllowed,
    NotFound,
    error_reply,
    internal_error,
    status_of,
)
from opsin.server.openapi import TAGS, OpenApi, complete, described_router, error_replies
from opsin.server.predict_requests import unknown_model
from opsin.server.predicting import PREDICT, Predict
from opsin.server.served_model import ServedModel
from opsin.server.server_metrics import MetricsMiddleware, ServerMetrics
from opsin.server.server_settings import ServerSettings
from opsin.web.access import HEADERS, AccessMiddleware
from opsin.web.refusals import BadRequest, json_reply

_log = logging.getLogger(__name__)


class Size(BaseModel):
    """The network's input in pixels."""

    height: int
    width: int
    channels: int


class ModelCard(BaseModel):
    """What clients may know of a model; where its file lies is none of it.

    Args:
        name: What requests call it.
        digest: SHA-256 of its file.
        kind: Its architecture.
        classes: Its labels, in the order of the probabilities.
        size: Its input.
        resize: How images are brought to that size.
        background: Whether a background is turned that is the opposite of the training images'.
        score: How good it was when it was made.
        rejects: Whether "none of these" is among its answers.
        embedding: Length of the embedding; 0 where it has none.
        device: Where it is computed.
        loaded: When it was loaded.
        opsin: The version of Opsin that wrote the file.
    """

    name: str
    digest: str
    kind: str
    classes: tuple[str, ...]
    size: Size
    resize: str
    background: bool
    score: Score | None
    rejects: bool
    embedding: int
    device: str
    loaded: datetime
    opsin: str

    @classmethod
    def of(cls, served: ServedModel) -> ModelCard:
        """Describe a model in service."""
        metadata = served.metadata
        like = metadata.preparation
        return cls(
            name=served.name,
            digest=served.digest,
            kind=metadata.model,
            classes=metadata.classes,
            size=Size(height=like.height, width=like.width, channels=like.channels),
            resize=like.resize,
            background=like.background is not None,
            score=metadata.score,
            rejects=metadata.reject is not None,
            embedding=served.embedding,
            device=served.device,
            loaded=datetime.fromtimestamp(served.loaded, UTC),
            opsin=metadata.opsin,
        )


class ModelCards(BaseModel):
    """The models in service."""

    models: list[ModelCard]


class Application(FastAPI):
    """A FastAPI application behind `AccessMiddleware`, which surrounds FastAPI's own layers, too.

    Args:
        engine: What computes.
        settings: Names, token and limits.
        metrics: What counts requests.
        **further: What FastAPI takes.
    """

    def __init__(
        self, engine: Engine, settings: ServerSettings, metrics: ServerMetrics, **further: Any
    ) -> None:
        super().__init__(openapi_tags=TAGS, **further)
        self.settings, self.engine, self.metrics = settings, engine, metrics
        self.state.budget = MemoryBudget.of(settings)
        self._described: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; past FastAPI's own first layer, which looks for telemetry each time."""
        await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return all layers, the outermost first."""
        quick = _Quick(super().build_middleware_stack(), self.state.predict)
        return AccessMiddleware(
            MetricsMiddleware(quick, self.metrics, self.engine.served),
            host=self.settings.host,
            headers={**HEADERS, "content-security-policy": page.CONTENT_SECURITY_POLICY},
            allowed_hosts=self.settings.allowed_hosts,
            token=self.settings.token,
            refused=self.metrics.access_refused,
        )

    def openapi(self) -> OpenApi:
        """Return the description of all routes, with examples of the files that are served now."""
        digests = [served.digest for served in self.engine.served.values()]
        if not self.openapi_schema or digests != self._described:
            self.openapi_schema, self._described = None, digests
            schema = super().openapi()
            complete(schema, self.settings, self._examples())
        return super().openapi()

    def _examples(self) -> dict[tuple[str, str], str]:
        """Return the values of parameters with which the examples can be sent as they stand."""
        first = next(iter(self.engine.served.values()), None)
        if first is None:
            return {}
        examples = {
            ("path", "model"): first.name,
            ("path", "version"): open_inference.version_of(first),
        }
        if len(self.engine.served) > 1:  # where one model is served, requests need not name it
            examples["query", "model"] = first.name
        return examples


class _Quick:
    """Reaches the most frequent route without FastAPI's six layers and its search for a route."""

    def __init__(self, app: ASGIApp, route: APIRoute) -> None:
        self._app, self._route = app, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["path"] == PREDICT
            and scope["method"] == "POST"
        ):  # fmt: skip
            scope["route"] = self._route  # by which the request is counted
            await self._route.app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def build_app(
    engine: Engine, settings: ServerSettings, metrics: ServerMetrics | None = None
) -> Application:
    """Put the server together.

    Its lifespan starts the engine and stops it; `opsin.server.serving.serve` does that itself.

    Args:
        engine: What computes.
        settings: Names, token and limits; the engine's own are the caller's to set.
        metrics: The engine's ``observer``; without it, ``/metrics`` knows of requests alone.

    Example:
        ``metrics = ServerMetrics()``, then ``build_app(Engine(models, observer=metrics),
        ServerSettings(), metrics)`` is an ASGI application for any server.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    metrics = metrics or ServerMetrics()
    app = Application(
        engine,
        settings,
        metrics,
        title="Opsin",
        version=__version__,
        description="Images in, labels out. Each example below works by clicking.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    predict = predicting.routes(Predict(engine, settings, app.state.budget), settings)
    app.state.predict = next(
        each for each in predict.routes if isinstance(each, APIRoute) and each.path == PREDICT
    )
    for router in (
        predict,
        _models(engine),
        open_inference.routes(engine, settings, app.state.budget),
        server_metrics.routes(engine, metrics),
        page.routes(settings.page),
    ):
        # Not included as FastAPI does, which would hide its routes from `app.routes`.
        app.router.routes.extend(router.routes)
    _explain_errors(app)
    return app


def _models(engine: Engine) -> APIRouter:
    """Return the routes that describe models."""
    router = described_router("Models", "/v1")

    # By `json_reply`: pydantic cannot write a label that is no Unicode, as a folder may be called.
    @router.get("/models", summary="The models in service", response_model=ModelCards)
    async def models() -> Response:
        cards = ModelCards(models=[ModelCard.of(served) for served in engine.served.values()])
        return json_reply(cards.model_dump(mode="json"))

    @router.get(
        "/models/{model}",
        summary="One of them",
        response_model=ModelCard,
        responses=error_replies(404),
    )
    async def model(model: str) -> Response:
        served = engine.served.get(model)
        if served is not None:
            return json_reply(ModelCard.of(served).model_dump(mode="json"))
        if model.endswith(":predict-image"):  # a GET of that route is taken for a model's name
            raise HTTPException(405, headers={"allow": "POST"})
        raise unknown_model(model, engine.served)

    return router


def _explain_errors(app: FastAPI) -> None:
    """Give every error the one shape."""

    async def explain(request: Request, error: Exception) -> Response:
        reply = open_inference.protocol_error if _is_protocol(request) else error_reply
        if isinstance(error, HTTPException):
            return reply(_routing(request, error.status_code), error.headers)
        if isinstance(error, OpsinError) and status_of(error) != 500:
            return reply(error)
        if isinstance(error, RequestValidationError):
            return reply(_routing(request, 400))
        if isinstance(error, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        if isinstance(error, OpsinError):  # others are logged by the application
            _log.error("a request failed", exc_info=error)
        return reply(internal_error())

    for kind in (
        OpsinError, HTTPException, RequestValidationError, ClientDisconnect, Exception,
    ):  # fmt: skip
        app.add_exception_handler(kind, explain)


def _is_protocol(request: Request) -> bool:
    """Tell whether a request follows the Open Inference Protocol, whose errors look different."""
    return request.url.path == "/v2" or request.url.path.startswith("/v2/")


def _routing(request: Request, status: int) -> OpsinError:
    """Explain why no route takes a request."""
    if status == 404:
        return NotFound(
            "an address of this server", "there is nothing here", "GET /docs lists all of them."
        )
    if status == 405:
        return MethodNotAllowed(
            "a method that this address knows", f"got {request.method[:20]}", "See Allow."
        )
    return BadRequest("a request as /docs describes it", "it is another", "Compare the two.")
