"""The server's routes, put together, and its life cycle.

AccessMiddleware        who may send requests; the outermost layer
└── MetricsMiddleware   counts and times every request
    └── FastAPI         /predict, /explain, /v1/models, /v2 …, /metrics, the pages, /openapi.json
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import uvicorn
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from opsin._version import __version__
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher
from opsin.core.format import counted, grey_or_colour
from opsin.core.metadata import Score
from opsin.core.platform import allow_open_files
from opsin.server import Models, ServerSettings, kserve, page, predict
from opsin.server.body import MemoryBudget
from opsin.server.engine import Engine
from opsin.server.errors import OpenApi, described_router, error_replies, reply_to
from opsin.server.metrics import MetricsMiddleware
from opsin.server.models import ServedModel, named_models
from opsin.server.predict import PREDICT
from opsin.web.access import AccessMiddleware
from opsin.web.addresses import EVERYWHERE, url_of
from opsin.web.listening import BACKLOG, OPEN_FILES, ConnectionLimits, Server, listening
from opsin.web.refusals import json_reply

# Bytes that the bodies of all requests may take together, as a multiple of the largest one.
_TOGETHER: Final = 25
# Seconds that an idle connection is kept.
_KEEP_ALIVE: Final = 60
# Seconds beyond the deadline that stopping waits for slow readers.
_LAST: Final = 5
# The tags of the routes, in the order of ``/docs``.
_TAGS: Final = [
    {"name": "Predict", "description": "An image in, its label out."},
    {"name": "Models", "description": "What is served."},
    {
        "name": "Open Inference Protocol",
        "description": "KServe V2: for clients of Triton, KServe and their like.",
    },
    {"name": "Server", "description": "How it fares."},
]


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
            digest=served.file.digest,
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
    """A FastAPI application inside `AccessMiddleware`, whose lifespan starts and stops the engine.

    Example:
        ``Application(Engine(models))`` is an ASGI application for any server.
    """

    def __init__(self, engine: Engine, settings: ServerSettings | None = None) -> None:
        self.settings, self.engine = settings or engine.settings, engine
        settings = self.settings
        self.budget = MemoryBudget(_TOGETHER * settings.max_bytes)
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
            openapi_tags=_TAGS,
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
            OpsinError,
            HTTPException,
            RequestValidationError,
            ClientDisconnect,
            Exception,
        ):
            self.add_exception_handler(kind, reply_to)

    def build_middleware_stack(self) -> ASGIApp:
        """All layers, the outermost first."""
        metrics, self._below = self.engine.metrics, super().build_middleware_stack()
        return AccessMiddleware(
            MetricsMiddleware(self._quick, metrics, self.engine.served),
            host=self.settings.host,
            headers={"content-security-policy": page.CONTENT_SECURITY_POLICY},
            allowed_hosts=self.settings.allowed_hosts,
            token=self.settings.token,
            refused=metrics.refused,
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
        digests = [served.file.digest for served in self.engine.served.values()]
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
    async def metrics() -> Response:
        text = engine.metrics.text(engine.served)
        return Response(text, media_type="text/plain; version=0.0.4")

    return [*described.routes, *figures.routes]


def serve(models: Models, settings: ServerSettings, watcher: Watcher) -> None:
    """Serve models until the process is asked to stop, and answer accepted requests before."""
    app = Application(Engine(named_models(models, watcher), settings))
    allow_open_files(OPEN_FILES)
    # Malformed requests are not logged: no client may fill the disk.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    log = logging.getLogger("uvicorn.access")
    if settings.access_log and not log.handlers:
        log.setLevel(logging.INFO)
        log.propagate = False
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
    try:
        from uvloop import new_event_loop as loop_factory  # noqa: PLC0415  none for Windows
    except ImportError:
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None  # type: ignore[no-redef]
    # First, so that an address in use is noticed before the models load.
    with (
        listening(settings.host, settings.port) as held,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        stopped_by = runner.run(_serve(app, held, watcher))
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(app: Application, held: socket.socket, watcher: Watcher) -> int | None:
    """Serve, and return the signal that stopped it."""
    await app.engine.start()
    settings, in_haste = app.settings, False
    try:
        limits = ConnectionLimits()
        config = uvicorn.Config(
            limits.around(app),
            interface="asgi3",
            http=limits.protocol,  # type: ignore[arg-type]  # a class, in uvicorn's words
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=settings.access_log,
            # Any client could claim to be another one.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(settings.deadline) + _LAST,
            backlog=BACKLOG,
        )
        server = Server(
            config,
            started=lambda: _announce(app, url_of(settings.host, held.getsockname()[1]), watcher),
            stopping=lambda: watcher.fact("Stops", "requests that were accepted are answered"),
        )
        await server.serve([held])
        in_haste = server.force_exit
    finally:
        await app.engine.stop(wait=not in_haste)
    await server.abandon()
    return server.stopped_by


def _announce(app: Application, address: str, watcher: Watcher) -> None:
    served, settings = app.engine.served, app.settings
    for name, model in served.items():
        preparation, score = model.metadata.preparation, model.metadata.score
        classes = counted(len(model.metadata.classes), "class", "classes")
        size = f"{preparation.width}×{preparation.height} {grey_or_colour(preparation.channels)}"
        accuracy = "" if score is None else f" · accuracy {score.accuracy:.4f}"
        device = "" if model.file.device == "cpu" else f" · on {model.file.device}"
        watcher.fact("Serves", f"{name} · {classes} · {size}{accuracy}{device}")
    watcher.fact("Page", f"{address}/")
    watcher.fact("API", f"{address}/docs")
    option = "" if settings.token is None else " -H 'Authorization: Bearer TOKEN'"
    which = "" if len(served) == 1 else f"?model={next(iter(served))}"
    watcher.fact(
        "Try",
        f"curl --data-binary @IMAGE -H 'Content-Type: image/png'{option} {address}/predict{which}",
    )
    if settings.token is not None:
        watcher.fact("Token", "a browser asks for it: any name, the token as password")
    if not settings.loopback:
        where = "every address of this machine" if settings.host in EVERYWHERE else settings.host
        watcher.note(
            f"{where} is listened on without "
            "encryption: who can watch the network reads images and token. Put a proxy with "
            "HTTPS in front of it, and name the proxy's host among the allowed ones."
        )
