"""The server's own errors, their replies, and what ``/openapi.json`` says of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from opsin.web.refusals import BadRequest, ErrorReply, RequestError, error_reply

_LOG: Final = logging.getLogger(__name__)
#: Counted when a client leaves before its answer, as in nginx; never sent.
CLIENT_GONE: Final = 499

#: A part of an OpenAPI schema.
OpenApi = dict[str, Any]
#: A route's replies by status, for FastAPI's ``responses``.
Replies = dict[int | str, OpenApi]

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


class NotFound(RequestError, status=404):  # noqa: N818
    """There is no such path."""


class UnknownModel(RequestError, status=404):  # noqa: N818
    """No model of that name is served."""


class MethodNotAllowed(RequestError, status=405):  # noqa: N818
    """The path does not support the method."""


class SlowRequest(RequestError, status=408):  # noqa: N818
    """A body that did not arrive in time."""

    headers: Mapping[str, str] = {"connection": "close"}


class TooLarge(RequestError, status=413):  # noqa: N818
    """A request with more bytes or images than this server accepts, even when idle."""


class WrongMediaType(RequestError, status=415):  # noqa: N818
    """An unsupported kind of body."""


class BadAnswer(RequestError, status=500):  # noqa: N818
    """An unsound answer of a model: not a number, or not a probability."""


class Overloaded(RequestError, status=503):  # noqa: N818
    """The queue is full; none of the request's images was accepted."""

    headers: Mapping[str, str] = {"retry-after": "1"}


class WorkerDied(Overloaded):
    """The worker process died; another takes its place."""

    def __init__(self) -> None:
        super().__init__(
            "The process that computed the answer ended", "Another takes its place: try again."
        )


class Stopping(Overloaded):
    """The server is stopping and accepts no more images."""

    def __init__(self) -> None:
        super().__init__("The server is being stopped", "Ask again in a moment.")


class Expired(RequestError, status=504):  # noqa: N818
    """The deadline passed before the answer."""


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


async def reply_to(request: Request, error: Exception) -> Response:
    """The reply to an error; internal details go into the log only."""
    headers = None
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, RequestValidationError | ValidationError):
        first: Any = error.errors()[0]
        name = str(first["loc"][-1])[:40]
        error = BadRequest(
            f"The option {name} cannot be read: {first['msg'].lower()}",
            "Say for instance ?top=3&all=true; /docs lists them.",
        )
    elif isinstance(error, HTTPException):
        headers, status = error.headers, error.status_code
        error = BadRequest("The request is not as /docs describes it")
        if status == 404:
            error = NotFound("There is nothing at this address", "GET /docs lists all of them.")
        elif status == 405:
            message = f"This address does not know {request.method[:20]}"
            error = MethodNotAllowed(message, "See Allow.")
    # The Open Inference Protocol has a shape of its own.
    protocol = f"{request.scope['path']}/".startswith("/v2/")
    reply = error_reply(error, headers, brief=protocol)
    if reply.status_code == 500:
        _LOG.error("a request failed", exc_info=error)
    return reply
