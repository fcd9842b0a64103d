"""The server's own errors; those shared with the studio are in `opsin.web.refusals`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from opsin.core.errors import OpsinError
from opsin.web.refusals import BadRequest, InternalError, RequestError, error_reply, status_of

_LOG: Final = logging.getLogger(__name__)
#: Counted when a client leaves before its answer, as in nginx; never sent.
CLIENT_GONE: Final = 499


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

    def __init__(self, message: str, advice: str, *, retry_after: float) -> None:
        super().__init__(message, advice)
        self.retry_after = retry_after
        self.headers = {"retry-after": str(max(1, math.ceil(retry_after)))}


class WorkerDied(RequestError, status=503):  # noqa: N818
    """The worker process died; another takes its place."""

    headers: Mapping[str, str] = {"retry-after": "1"}

    def __init__(self, message: str = "The process that computed the answer ended") -> None:
        super().__init__(message, "Another takes its place: try again.")


class NotBegun(WorkerDied):
    """The process died on an earlier batch."""


class Stopping(RequestError, status=503):  # noqa: N818
    """The server is stopping and accepts no more images."""

    headers: Mapping[str, str] = {"retry-after": "1"}

    def __init__(self, message: str = "The server is being stopped") -> None:
        super().__init__(message, "Ask again in a moment.")


class Expired(RequestError, status=504):  # noqa: N818
    """The deadline passed before the answer."""


def reply_to(error: Exception, write: Callable[[OpsinError], Response] = error_reply) -> Response:
    """The reply to an error; internal details go into the log only."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, RequestValidationError | ValidationError):
        first: Any = error.errors()[0]
        name = str(first["loc"][-1])[:40]
        error = BadRequest(
            f"The option {name} cannot be read: {first['msg'].lower()}",
            "Say for instance ?top=3&all=true; /docs lists them.",
        )
    if not isinstance(error, OpsinError) or status_of(error) == 500:
        _LOG.error("a request failed", exc_info=error)
    return write(error if isinstance(error, OpsinError) else InternalError())
