"""Errors that only the studio has, and the replies of its routes to errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from opsin.core.errors import ImageError, OpsinError, StorageError
from opsin.web.refusals import RequestError, error_parts, json_reply


class NotThere(OpsinError):  # noqa: N818  it is what the page says, with status 404
    """An address that leads to nothing: a run, a set, an image or a job that is gone."""


def new_api() -> FastAPI:
    """An application whose routes answer errors with JSON that names no place of this machine."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    api.add_exception_handler(OpsinError, _explain)
    return api


async def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, OpsinError)
    status = 422 if isinstance(error, ImageError) else 404
    if isinstance(error, RequestError):
        status = error.status
    elif isinstance(error, StorageError):
        status = 507  # RFC 4918
        error = StorageError(
            "to keep the upload", "the disk is full, or refuses the write", "Free some space first."
        )
    elif not isinstance(error, NotThere):
        # What the page says of a source or a run that is damaged names places on this machine.
        error = NotThere(
            "images or files that can be read", "these are gone or damaged", "Open their page."
        )
    return json_reply({"error": error_parts(error)}, status, {"cache-control": "no-store"})
