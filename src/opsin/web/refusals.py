"""Refusals, and plain data as JSON.

An error is ``{"error": {"kind", "expected", "received", "advice"}}``, as under ``--json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from opsin.core.errors import OpsinError
from opsin.core.stored_json import json_text


class Error(TypedDict):
    """What is wrong."""

    kind: Annotated[str, Field(examples=["BadRequest"])]
    expected: Annotated[str, Field(description="What was needed.")]
    received: Annotated[str, Field(description="What came instead.")]
    advice: Annotated[str, Field(description="What to do about it.")]


class ErrorReply(TypedDict):
    """A request that failed."""

    error: Error


class RequestError(OpsinError):
    """A request that is not answered; its children say why, and their ``status`` is HTTP's."""

    status: int = 400
    headers: Mapping[str, str] = {}


class BadRequest(RequestError):  # noqa: N818
    """A body or a query that cannot be understood."""


class Unauthorized(RequestError):  # noqa: N818
    """No token, or a wrong one."""

    status = 401
    # The browser's own dialog asks for it: any user name, the token as password.
    headers: Mapping[str, str] = {
        "www-authenticate": 'Basic realm="Opsin: any name, the token as password", charset="UTF-8"'
    }


class ForeignOrigin(RequestError):  # noqa: N818
    """A page of another site asks."""

    status = 403


class LongHeaders(RequestError):  # noqa: N818
    """Too many headers."""

    status = 431


class TooManyConnections(RequestError):  # noqa: N818
    """More connections than the server holds at a time."""

    status = 503
    headers: Mapping[str, str] = {"retry-after": "1"}


class WrongHost(RequestError):  # noqa: N818
    """Called by a name that is not this server's."""

    status = 421


def error_parts(error: OpsinError) -> Error:
    """An error as plain data."""
    return {
        "kind": type(error).__name__,
        "expected": error.expected,
        "received": error.received,
        "advice": error.advice,
    }


def json_bytes(content: Any) -> bytes:
    """Plain data as UTF-8 JSON without spaces."""
    # A label or a file name may hold half a surrogate pair, which UTF-8 cannot.
    return json_text(content, compact=True).encode("utf-8", "backslashreplace")


def json_reply(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Plain data as a reply."""
    return Response(json_bytes(content), status, headers, media_type="application/json")


def refusal(error: RequestError) -> Response:
    """The reply to a request that is not answered."""
    return json_reply({"error": error_parts(error)}, error.status, error.headers)
