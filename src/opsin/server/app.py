"""The server's routes, put together.

AccessMiddleware        who may send requests; the outermost layer
└── MetricsMiddleware   counts and times every request
    └── FastAPI         /predict, /explain, /v1/models, /v2 …, /metrics, the pages, /openapi.json
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from opsin._version import __version__
from opsin.core.errors import OpsinError
from opsin.core.metadata import Score
from opsin.server import kserve, page, predict
from opsin.server.body import MemoryBudget
from opsin.server.describe import TAGS, OpenApi, described_router, error_replies
from opsin.server.engine import Engine
from opsin.server.errors import MethodNotAllowed, NotFound, reply_to
from opsin.server.metrics import MetricsMiddleware
from opsin.server.models import ServedModel
from opsin.server.predict import PREDICT
from opsin.server.settings import ServerSettings
from opsin.web.access import HEADERS, AccessMiddleware
from opsin.web.refusals import BadRequest, error_reply, json_reply


class Size(BaseModel):
    """The network's input in pixels."""

    height: int
    width: int
    channels: int


class ModelCard(BaseModel):
    """A model as clients see it, without its file's path."""

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
        """Describe a served model."""
        metadata = served.metadata
        preparation = metadata.preparation
        return cls(
            name=served.name,
            digest=served.digest,
            kind=metadata.model,
            classes=metadata.classes,
            size=Size(**preparation.model_dump(include={"height", "width", "channels"})),
            resize=preparation.resize,
            background=preparation.background is not None,
            score=metadata.score,
            rejects=metadata.reject is not None,
            embedding=served.embedding,
            device=served.file.device,
            loaded=datetime.fromtimestamp(served.loaded, UTC),
            opsin=metadata.opsin,
        )


class ModelCards(BaseModel):
    """The served models."""

    models: list[ModelCard]


class Application(FastAPI):
    """A FastAPI application inside `AccessMiddleware`, which wraps FastAPI's own layers, too.

    Its lifespan starts the engine and stops it; `opsin.server.run.serve` does that itself.

    Example:
        ``Application(Engine(models), ServerSettings())`` is an ASGI application for any server.
    """

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        self.settings, self.engine = settings, engine
        self.budget = MemoryBudget.of(settings)
        self._described: list[str] = []  # digests of the models in /openapi.json

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            await engine.start()
            try:
                yield
            finally:
                await engine.stop()

        super().__init__(
            title="Opsin",
            version=__version__,
            description="Images in, labels out. Each example below works by clicking.",
            openapi_tags=TAGS,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=lifespan,
        )
        predictor = predict.Predictor(engine, settings, self.budget)
        # Not by `include_router`, which would hide them from `app.routes`.
        self.router.routes += [
            *predict.routes(predictor).routes,
            *_models(engine),
            *kserve.routes(predictor).routes,
            *page.routes(settings.page).routes,
        ]
        self._predict = next(
            route for route in self.routes if isinstance(route, APIRoute) and route.path == PREDICT
        )
        for kind in (
            OpsinError, HTTPException, RequestValidationError, ClientDisconnect, Exception,
        ):  # fmt: skip
            self.add_exception_handler(kind, _explain)

    def build_middleware_stack(self) -> ASGIApp:
        """All layers, the outermost first."""
        metrics, self._below = self.engine.metrics, super().build_middleware_stack()
        return AccessMiddleware(
            MetricsMiddleware(self._quick, metrics, self.engine.served),
            host=self.settings.host,
            headers={**HEADERS, "content-security-policy": page.CONTENT_SECURITY_POLICY},
            allowed_hosts=self.settings.allowed_hosts,
            token=self.settings.token,
            refused=metrics.access_refused,
        )

    async def _quick(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Shortcut to the most frequent route, past FastAPI's six layers and its routing."""
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            scope["route"] = self._predict  # the key for counting
            await self._predict.app(scope, receive, send)
        else:
            await self._below(scope, receive, send)

    def openapi(self) -> OpenApi:
        """The OpenAPI schema, with the served models as examples."""
        digests = [served.digest for served in self.engine.served.values()]
        if self.openapi_schema and digests == self._described:
            return self.openapi_schema
        self.openapi_schema, self._described = None, digests
        schema = super().openapi()
        components = schema["components"]
        components["schemas"] |= kserve.InferRequest.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )["$defs"]
        # FastAPI adds these to every route with parameters; errors here have another shape.
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        if self.settings.token is not None:
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            }
            schema["security"] = [{"token": []}, {"password": []}]
        examples = {}
        if first := next(iter(self.engine.served.values()), None):
            examples = {"model": first.name, "version": kserve.version_of(first)}
        for operation in (op for path in schema["paths"].values() for op in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in examples:
                    parameter["example"] = examples[parameter["name"]]
        return schema


def _models(engine: Engine) -> list[BaseRoute]:
    """The routes for models and for metrics."""
    described, figures = described_router("Models", "/v1"), described_router("Server")

    # By `json_reply`: pydantic cannot write labels (folder names) that are not valid Unicode.
    @described.get("/models", summary="The models in service", response_model=ModelCards)
    async def models() -> Response:
        cards = ModelCards(models=[ModelCard.of(served) for served in engine.served.values()])
        return json_reply(cards.model_dump(mode="json"))

    @described.get(
        "/models/{model}",
        summary="One of them",
        response_model=ModelCard,
        responses=error_replies(404),
    )
    async def model(model: str) -> Response:
        if model.endswith((":predict-image", ":explain-image")):  # a GET of these
            raise HTTPException(405, headers={"allow": "POST"})
        return json_reply(ModelCard.of(engine.model(model)).model_dump(mode="json"))

    @figures.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        content, kind = engine.metrics.text(engine.served, request.headers.get("accept", ""))
        return Response(content, headers={"content-type": kind})

    return [*described.routes, *figures.routes]


async def _explain(request: Request, error: Exception) -> Response:
    """Turn an error into a reply; the Open Inference Protocol has its own shape."""
    protocol = request.url.path == "/v2" or request.url.path.startswith("/v2/")
    write = kserve.protocol_error if protocol else error_reply
    if not isinstance(error, HTTPException):
        return reply_to(error, write)
    reason: OpsinError = BadRequest("The request is not as /docs describes it")
    if error.status_code == 404:
        reason = NotFound("There is nothing at this address", "GET /docs lists all of them.")
    elif error.status_code == 405:
        reason = MethodNotAllowed(f"This address does not know {request.method[:20]}", "See Allow.")
    return write(reason, error.headers)
