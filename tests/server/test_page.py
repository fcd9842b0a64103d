"""The files of the pages: nothing from elsewhere, no script inside the markup, and safe headers."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from opsin.core.errors import MissingExtraError, RecipeError
from opsin.server import page

OWN = files("opsin.server.page")
PAGES = ("", "docs")
FILES = (
    "page/page.css", "page/page.js", "page/icon.svg", "page/docs.css", "page/docs.js",
    "page/swagger-ui-bundle.js", "page/swagger-ui.css",
)  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_our_files_and_runs_nothing_inside(client: httpx.Client, name: str) -> None:
    reply = client.get(name)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    tags = re.findall(r"<[a-z][^>]*>", reply.text)
    assert not [tag for tag in tags if re.search(r"\s(style|on\w+)=", tag)]
    assert not re.findall(r"<(?:script|style)[^>]*>\s*[^\s<]", reply.text)
    loaded = [
        address
        for tag in tags
        if not re.match(r"<a\b", tag)
        for address in re.findall(r"\s(?:src|href)=\"([^\"]+)\"", tag)
    ]
    assert len(loaded) >= 3
    for address in loaded:
        assert re.fullmatch(r"page/[a-z-]+\.(js|css|svg)", address)
        assert client.get(address).status_code == 200


@pytest.mark.parametrize("name", [*PAGES, *FILES])
def test_what_is_sent_may_be_kept_but_not_misused(client: httpx.Client, name: str) -> None:
    reply = client.get(name)
    policy = dict(
        part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["permissions-policy"].startswith("camera=(self)")
    assert reply.headers["cache-control"] == "no-cache"
    tag = reply.headers["etag"]
    again = client.get(name, headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(name)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(reply.content))


@pytest.mark.parametrize(
    "name", ["index.html", "page.css", "page.js", "docs.html", "docs.css", "docs.js"]
)
def test_our_files_name_no_other_host_and_write_no_markup(name: str) -> None:
    text = OWN.joinpath(name).read_text(encoding="utf-8")
    assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.MULTILINE)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in text


def test_files_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for wrong in (tmp_path / "none.html", tmp_path):
        with pytest.raises(RecipeError, match="no readable HTML file"):
            page.routes(str(wrong))
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'opsin\[serve\]'"):
        page.routes()


def test_the_examples_of_the_api_can_be_sent(client: httpx.Client) -> None:
    schema: dict[str, Any] = client.get("openapi.json").json()
    sent = 0
    for path, methods in schema["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        given = {
            each["name"]: each["example"]
            for each in methods.get("post", {}).get("parameters", ())
            if "example" in each
        }
        # Several models are served: the examples of /predict name one behind the question mark.
        query = {} if "{" in path else given
        for example in content.get("application/json", {}).get("examples", {}).values():
            assert given
            reply = client.post(path.format(**given), params=query, json=example["value"])
            assert reply.status_code == 200, (path, reply.text)
            sent += 1
    assert sent == 6  # two for each address that predicts, one for each that explains
    for path, methods in schema["paths"].items():
        if "get" in methods:
            given = {each["name"]: each["example"] for each in methods["get"].get("parameters", ())}
            assert client.get(path.format(**given)).status_code == 200


def test_only_the_scripts_and_styles_that_a_users_page_has_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        "<title>How to <script></title><!-- no <script>b()</script> --><textarea><style></textarea>"
        "<script data-if='a > b'>a()</script></style>"
    )
    (route, *_) = page.routes(str(file)).routes
    policy: str = route.endpoint().headers["content-security-policy"]  # type: ignore[attr-defined]
    allowed = base64.b64encode(hashlib.sha256(b"a()").digest()).decode()
    assert policy == page.CONTENT_SECURITY_POLICY.replace(
        "script-src 'self'", f"script-src 'self' 'sha256-{allowed}'"
    )
