"""The pages at ``/`` and ``/docs``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from opsin.core.errors import MissingExtraError

# The policy of content is the guard's, for every reply: nothing comes from elsewhere, and no script
# runs that is not a file of this server, so a class named like a script stays a name.
_HEADERS: Final = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Address and file of what belongs to Opsin.
_OWN: Final = {
    "/": "index.html",
    "/page/page.css": "page.css",
    "/page/page.js": "page.js",
    "/page/icon.svg": "icon.svg",
    "/docs": "docs.html",
    "/page/docs.css": "docs.css",
    "/page/docs.js": "docs.js",
}
_SWAGGER: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


def routes() -> APIRouter:
    """Return the routes of both pages and of the files that they need.

    Raises:
        MissingExtraError: The package that brings Swagger UI is not installed.
    """
    router = APIRouter(include_in_schema=False)
    for address, name in _OWN.items():
        content = files(__name__).joinpath(name).read_bytes()
        router.add_api_route(address, _sender(content, name), methods=["GET", "HEAD"])
    for name in _SWAGGER:
        content = (_swagger_folder() / name).read_bytes()
        router.add_api_route(f"/page/{name}", _sender(content, name), methods=["GET", "HEAD"])
    return router


def _swagger_folder() -> Path:
    """Return where fastapi-offline keeps the files of Swagger UI; it is not imported."""
    spec = find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the server", "serve")
    return Path(spec.submodule_search_locations[0]) / "static"


def _sender(content: bytes, name: str) -> Callable[[Request], Response]:
    """Return what answers with a file, or says that the browser has it already."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = _HEADERS | {"etag": tag}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_KINDS[Path(name).suffix], headers=headers)

    return send  # type: ignore[return-value]
