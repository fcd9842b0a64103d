"""The studio's own errors, and the replies of its routes to errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from opsin.core.errors import ImageError, OpsinError, StorageError
from opsin.web.refusals import RequestError, error_reply


class NotThere(RequestError, status=404):  # noqa: N818  it is what the page says
    """A run, set, image or job that does not exist."""


class TooMany(RequestError, status=429):  # noqa: N818
    """More jobs, wrong links or frames than are allowed at a time."""


class DiskFull(RequestError, status=507):  # noqa: N818
    """The disk is full, or its folder refuses the write."""

    def __init__(self) -> None:
        super().__init__(
            "The disk is full, or cannot be written", "Free some space, then try again."
        )


def new_api() -> FastAPI:
    """An application whose routes answer errors with JSON without local paths."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    api.add_exception_handler(OpsinError, _explain)
    return api


async def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, OpsinError)
    if isinstance(error, StorageError):
        error = DiskFull()
    elif not isinstance(error, RequestError | ImageError):
        # Messages about damaged sources and runs contain local paths.
        error = NotThere("These photographs or files are gone or damaged", "Open their page.")
    return error_reply(error, {"cache-control": "no-store"})
