"""The pages at ``/`` and ``/docs``."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.files import open_regular

#: For every reply: nothing loads from elsewhere, no other site may frame a page, and no script runs
#: unless it is a file of this server, so a class named like a script is harmless.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
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
# Opsin's own pages by address, and their files below /page/; those of Swagger UI are
# fastapi-offline's, which is not imported.
_PAGES: Final = {"/": "index.html", "/docs": "docs.html"}
_FILES: Final = ("page.css", "page.js", "icon.svg", "docs.css", "docs.js")
# An inline script or style: its kind and its text. Comments, and elements that hold only text, are
# found too, so that no tag is found in them.
_INLINE: Final = re.compile(
    r"""<!--.*?-->|<(script|style|title|textarea)\b(?:"[^"]*"|'[^']*'|[^"'>])*>(.*?)</\1""",
    re.IGNORECASE | re.DOTALL,
)
_SWAGGER: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


def routes(user_page: str | None = None) -> APIRouter:
    """The routes of both pages and their files; the user's HTML file takes the place of ``/``."""
    router = APIRouter(include_in_schema=False)
    if user_page is not None:
        _read(user_page)
        # The first matching route answers.
        router.add_api_route("/", _user_page(user_page), methods=["GET", "HEAD"])
    spec = find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the server", "serve")
    swagger = Path(spec.submodule_search_locations[0], "static")
    sent = {address: files(__name__).joinpath(name) for address, name in _PAGES.items()}
    sent |= {f"/page/{name}": files(__name__).joinpath(name) for name in _FILES}
    sent |= {f"/page/{name}": swagger / name for name in _SWAGGER}
    for address, file in sent.items():
        router.add_api_route(address, _sender(file), methods=["GET", "HEAD"])
    return router


def _sender(file: Traversable) -> Callable[[Request], Response]:
    """An endpoint that sends a file, or 304 if the browser has it."""
    content, kind = file.read_bytes(), _KINDS[f".{file.name.rpartition('.')[2]}"]
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = _HEADERS | {"etag": tag}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return send  # type: ignore[return-value]


def _read(file: str) -> str:
    try:
        with open_regular(file) as opened:
            return opened.read().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, ValueError) as error:
        raise RecipeError(f"{file}, for --page, is no readable HTML file in UTF-8") from error


def _user_page(file: str) -> Callable[[], Response]:
    """An endpoint for the user's page, read anew each time; what is inline in it may run."""

    def send() -> Response:
        text = _read(file)
        policy = CONTENT_SECURITY_POLICY
        for kind, part in _INLINE.findall(text):
            if kind.lower() in ("script", "style"):
                allowed = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
                source = f"{kind.lower()}-src 'self'"
                policy = policy.replace(source, f"{source} 'sha256-{allowed}'")
        headers = _HEADERS | {"content-security-policy": policy}
        return Response(text, media_type=_KINDS[".html"], headers=headers)

    return send
