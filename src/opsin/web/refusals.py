"""Errors sent to clients, and JSON replies.

An error is ``{"error": {"kind", "message", "advice"}}``, as under ``--json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from opsin.core.errors import ImageError, OpsinError
from opsin.core.stored_json import json_text


class Error(TypedDict):
    """What is wrong."""

    kind: Annotated[str, Field(examples=["BadRequest"])]
    message: Annotated[str, Field(description="What is wrong.")]
    advice: Annotated[str, Field(description="What to do about it; may be empty.")]


class ErrorReply(TypedDict):
    """A request that failed."""

    error: Error


class RequestError(OpsinError):
    """A refused request; subclasses say why, with their HTTP ``status``."""

    status: int = 400
    headers: Mapping[str, str] = {}

    def __init_subclass__(cls, *, status: int | None = None) -> None:
        cls.status = status or cls.status


class BadRequest(RequestError, status=400):  # noqa: N818
    """A malformed body or query."""


class Unauthorized(RequestError, status=401):  # noqa: N818
    """No token, or a wrong one."""

    # For the browser's dialog: any user name, and the token as password.
    headers: Mapping[str, str] = {
        "www-authenticate": 'Basic realm="Opsin: any name, the token as password", charset="UTF-8"'
    }


class ForeignOrigin(RequestError, status=403):  # noqa: N818
    """A request from a page of another site."""


class WrongHost(RequestError, status=421):  # noqa: N818
    """A Host header that does not name this server."""


class LongHeaders(RequestError, status=431):  # noqa: N818
    """Too many headers."""


class TooManyConnections(RequestError, status=503):  # noqa: N818
    """More connections than the server allows."""

    headers: Mapping[str, str] = {"retry-after": "1"}


class InternalError(RequestError, status=500):
    """A bug in the server; details stay in its log."""


def for_client(error: BaseException) -> RequestError | ImageError:
    """The error if it is meant for clients, else an `InternalError`."""
    if isinstance(error, RequestError | ImageError):
        return error
    return InternalError("The server failed at the answer", "Its log holds the reason.")


def error_object(error: BaseException) -> Error:
    """An error as plain data, without internal details."""
    error = for_client(error)
    return {"kind": type(error).__name__, "message": error.message, "advice": error.advice}


def json_bytes(content: Any) -> bytes:
    """Plain data as UTF-8 JSON without spaces."""
    # Labels and file names may hold lone surrogates, which UTF-8 cannot encode.
    return json_text(content, compact=True).encode("utf-8", "backslashreplace")


def json_reply(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Plain data as a reply."""
    return Response(json_bytes(content), status, headers, media_type="application/json")


def error_reply(
    error: BaseException, headers: Mapping[str, str] | None = None, *, brief: bool = False
) -> Response:
    """The reply to an error: its status, headers and JSON; ``brief``: the message alone."""
    error = for_client(error)
    status, further = (422, {}) if isinstance(error, ImageError) else (error.status, error.headers)
    content = str(error) if brief else error_object(error)
    return json_reply({"error": content}, status, {**further, **(headers or {})})
