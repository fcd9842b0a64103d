"""Additions to what FastAPI derives for ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from fastapi import APIRouter

from opsin.data.pixel_values import png_address
from opsin.server.body import JsonImages
from opsin.web.refusals import ErrorReply

_ERRORS: Final[Mapping[int, str]] = {
    400: "The body, the query or the Host header cannot be understood.",
    401: "The token is missing or wrong.",
    403: "A page of another site asks.",
    404: "There is no such model, or no such version of it.",
    408: "The body did not arrive in time.",
    413: "The body has too many bytes, or too many images.",
    415: "A body of this kind is not read here.",
    421: "The Host header is no name of this server.",
    422: "The one image that was sent cannot be read; at /v2, one of them.",
    503: "The server is busy or stopping; try again after the seconds in Retry-After.",
    504: "There was no answer in time.",
}

#: The tags of the routes, in the order of ``/docs``.
TAGS: Final = [
    {"name": "Predict", "description": "An image in, its label out."},
    {"name": "Models", "description": "What is served."},
    {
        "name": "Open Inference Protocol",
        "description": "KServe V2: for clients of Triton, KServe and their like.",
    },
    {"name": "Server", "description": "How it fares."},
]

#: A part of an OpenAPI schema.
OpenApi = dict[str, Any]
#: A route's replies by status, for FastAPI's ``responses``.
Replies = dict[int | str, OpenApi]


def error_replies(*statuses: int, shape: object = ErrorReply) -> Replies:
    """The error replies of some statuses, or of all."""
    return {
        status: {"model": shape, "description": text}
        for status, text in _ERRORS.items()
        if status in (statuses or _ERRORS)
    }


def described_router(tag: str, prefix: str = "") -> APIRouter:
    """A router whose routes document the refusals of `AccessMiddleware`."""
    return APIRouter(prefix=prefix, tags=[tag], responses=error_replies(400, 401, 403, 421))


def image_body(*, many: bool) -> OpenApi:
    """The body of a predicting route; FastAPI supports one media type only."""
    image = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": image["schema"], "minItems": 1}
    form = {"type": "object", "properties": {"image": files}, "required": ["image"]}
    both = disc(), disc(radius=5)
    examples = {"one": {"summary": "One image", "value": {"image": both[0]}}}
    if many:
        examples["many"] = {"summary": "Two images", "value": {"images": list(both)}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": JsonImages.model_json_schema(), "examples": examples},
            "image/png": image,
            "image/jpeg": image,
            "application/octet-stream": image,
            "multipart/form-data": {"schema": form},
        },
    }


def disc(radius: int = 9) -> str:
    """An example image as a PNG data URL: a light disc on black, 28×28 grey."""
    rows, columns = np.mgrid[:28, :28] - 13.5
    inside = rows**2 + columns**2 <= radius**2
    return png_address((inside * np.uint8(220)).astype(np.uint8)[:, :, None])
