"""Answers and errors as JSON.

An error is ``{"error": {"kind", "expected", "received", "advice"}}``, as under ``--json``. Its
status says who can mend it (those of `opsin.web.refusals` included):

    400 BadRequest          a body or a query that cannot be understood
    401 Unauthorized        no token, or a wrong one
    403 ForeignOrigin       a page of another site asks
    404 NotFound            no such address;  UnknownModel: no such model
    405 MethodNotAllowed    an address that knows other methods
    408 SlowRequest         the body did not arrive in time
    413 TooLarge            more bytes or images than this server takes
    415 WrongMediaType      a kind of body that is not read here
    421 WrongHost           called by a name that is not this server's
    422 ImageError          understood, and no readable image
    431 LongHeaders         too many headers
    500 InternalError       a fault of the server; its log says more
    500 BadAnswer           the model's answer is none: its file may be damaged
    503 Overloaded, WorkerDied, Stopping        try again after ``Retry-After`` seconds;
        TooManyConnections                      likewise
    504 Expired             no answer in time
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Final

from starlette.responses import Response

from opsin.core.errors import ImageError, OpsinError
from opsin.server.predict_requests import (
    BadAnswer,
    Expired,
    Overloaded,
    Stopping,
    TooLarge,
    UnknownModel,
    WorkerDied,
)
from opsin.web.refusals import Error, ErrorReply, RequestError, error_parts, json_reply


class NotFound(RequestError):  # noqa: N818
    """No such address."""

    status = 404


class MethodNotAllowed(RequestError):  # noqa: N818
    """An address that knows other methods."""

    status = 405


class SlowRequest(RequestError):  # noqa: N818
    """A body that did not arrive in time."""

    status = 408
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class WrongMediaType(RequestError):  # noqa: N818
    """A kind of body that is not read here."""

    status = 415


class InternalError(RequestError):
    """A fault of the server."""

    status = 500


#: What is counted where a client went away before its answer, as nginx does; it is never sent.
CLIENT_GONE: Final = 499

_STATUS: Final[Mapping[type[OpsinError], int]] = {
    ImageError: 422,
    BadAnswer: 500,
    UnknownModel: 404,
    TooLarge: 413,
    Overloaded: 503,
    WorkerDied: 503,
    Stopping: 503,
    Expired: 504,
}


def status_of(error: OpsinError) -> int:
    """Return the status of the reply to an error; 500, too, for what clients must not read."""
    if isinstance(error, RequestError):
        return error.status
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def internal_error() -> InternalError:
    """Return what clients see of a fault; what happened stays in the server's log."""
    return InternalError(
        "an answer", "the server failed at it", "Tell its administrator; its log holds the reason."
    )


def error_object(error: OpsinError) -> Error:
    """Return an error's parts as plain data: kind, expected, received, advice.

    An error that is not made for clients, such as one that names a file of the server, becomes an
    ``InternalError`` that says nothing.
    """
    if not isinstance(error, (RequestError, *_STATUS)):
        error = internal_error()
    return error_parts(error)


def error_headers(error: OpsinError) -> dict[str, str]:
    """Return the headers that belong to an error's reply."""
    if isinstance(error, RequestError):
        return dict(error.headers)
    if isinstance(error, Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    return {"retry-after": "1"} if isinstance(error, WorkerDied | Stopping) else {}


def error_reply(error: OpsinError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the reply to an error: its status, its headers and the one shape."""
    reply: ErrorReply = {"error": error_object(error)}
    return json_reply(reply, status_of(error), error_headers(error) | dict(headers or {}))
