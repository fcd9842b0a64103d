"""What ``/openapi.json`` says beyond what FastAPI reads from the routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from opsin.data.image_encoding import png_address
from opsin.server.server_settings import ServerSettings
from opsin.web.refusals import ErrorReply

_ERRORS: Final[Mapping[int, str]] = {
    400: "The body, the query or the Host header cannot be understood.",
    401: "The token is missing or wrong.",
    403: "A page of another site asks.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body has too many bytes, or too many images.",
    415: "A body of this kind is not read here.",
    421: "The Host header is no name of this server.",
    422: "The one image that was sent cannot be read.",
    503: "The server is busy or stopping; try again after the seconds in Retry-After.",
    504: "There was no answer in time.",
}
# Statuses with which `AccessMiddleware` refuses, whatever is requested.
_REFUSALS: Final = (400, 401, 403, 421)

#: The tags of the routes, in the order in which ``/docs`` shows them.
TAGS: Final = [
    {"name": "Predict", "description": "An image in, its label out."},
    {"name": "Models", "description": "What is served."},
    {
        "name": "Open Inference Protocol",
        "description": "KServe V2: for clients of Triton, KServe and their like.",
    },
    {"name": "Server", "description": "How it fares."},
]

#: A part of an OpenAPI description, as FastAPI takes and returns it.
OpenApi = dict[str, Any]
#: What a route may reply, by status, as FastAPI's ``responses`` takes it.
Replies = dict[int | str, OpenApi]


def error_replies(*statuses: int) -> Replies:
    """Return the replies of some statuses that are errors, or of all."""
    return {
        status: {"model": ErrorReply, "description": text}
        for status, text in _ERRORS.items()
        if status in (statuses or _ERRORS)
    }


def described_router(tag: str, prefix: str = "") -> APIRouter:
    """Return a router whose routes are described with the refusals that every route may give."""
    return APIRouter(prefix=prefix, tags=[tag], responses=error_replies(*_REFUSALS))


def add_described(
    router: APIRouter,
    path: str,
    signature: Any,
    answer: ASGIApp,
    *,
    replies: Replies,
    **options: Any,
) -> None:
    """Add a POST route that FastAPI describes and ``answer`` serves, without FastAPI's parsing.

    Args:
        router: Where the route is added.
        path: Its path.
        signature: A function that is never called: its name, parameters and their defaults are
            the description.
        answer: The application that answers.
        replies: What it may reply.
        **options: Further options of `APIRouter.add_api_route`.
    """
    router.add_api_route(
        path,
        signature,
        methods=["POST"],
        operation_id=signature.__name__,
        response_class=Response,
        responses=replies,
        **options,
    )
    route = cast("APIRoute", router.routes[-1])
    route.app = answer


def complete(
    schema: OpenApi, settings: ServerSettings, examples: Mapping[tuple[str, str], str]
) -> None:
    """Add to FastAPI's description what depends on the settings and the models in service.

    Args:
        schema: The description; it is changed.
        settings: Those of the server.
        examples: Values of parameters, by where they stand (path or query) and their names.
    """
    if settings.token is not None:
        schema["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "password": {"type": "http", "scheme": "basic"},
        }
        schema["security"] = [{"token": []}, {"password": []}]
    for operation in (each for path in schema["paths"].values() for each in path.values()):
        # FastAPI assumes it of every route with a parameter; here, errors have another shape.
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
        for parameter in operation.get("parameters", ()):
            if example := examples.get((parameter["in"], parameter["name"])):
                parameter["example"] = example
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def image_body(settings: ServerSettings) -> OpenApi:
    """Describe the body of a predicting route: FastAPI knows bodies of one media type alone."""
    image = {"type": "string", "format": "binary"}
    text = {"type": "string", "description": "base64 without line breaks, or a data: address"}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": settings.max_parts}
    files = {"type": "array", "items": image, "minItems": 1}
    both = disc(), disc(radius=5)
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_only("image", text), _only("images", texts)]},
                "examples": {
                    "one": {"summary": "One image", "value": {"image": both[0]}},
                    "many": {"summary": "Two images", "value": {"images": list(both)}},
                },
            },
            "image/png": {"schema": image},
            "image/jpeg": {"schema": image},
            "application/octet-stream": {"schema": image},
            "multipart/form-data": {"schema": _only("image", files)},
        },
    }


def _only(name: str, kind: OpenApi) -> OpenApi:
    return {
        "type": "object",
        "properties": {name: kind},
        "required": [name],
        "additionalProperties": False,
    }


def disc(radius: int = 9) -> str:
    """Draw a light disc on black, 28×28 grey, as the address of a PNG: an example's image."""
    rows, columns = np.mgrid[:28, :28] - 13.5
    inside = rows**2 + columns**2 <= radius**2
    return png_address((inside * np.uint8(220)).astype(np.uint8)[:, :, None])
