"""The studio serves the documentation, and each page's "?" leads into it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nicegui")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from opsin.studio.image_routes import add_help

DOCS = Path(__file__).parents[2] / "docs"


def client(site: Path) -> TestClient:
    api = FastAPI()
    add_help(api, site)
    return TestClient(api)


def test_pages_and_what_they_load_are_served(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("first", encoding="utf-8")
    (tmp_path / "assets" / "a.css").write_text("p {}", encoding="utf-8")
    with client(tmp_path) as asked:
        assert asked.get("/help").text == asked.get("/help/index.html").text == "first"
        assert asked.get("/help/assets/a.css").headers["content-type"].startswith("text/css")
        assert asked.get("/help/nothing.html").status_code == 404


def test_nothing_beside_the_site_is_served(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").touch()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "site" / "link").symlink_to(tmp_path / "secret")
    with client(tmp_path / "site") as asked:
        for path in ("/help/../secret", "/help/%2e%2e/secret", "/help/link"):
            assert "secret" not in asked.get(path).text


def test_without_the_site_it_is_said_how_to_build_it(tmp_path: Path) -> None:
    with client(tmp_path) as asked:
        for path in ("/help", "/help/how-to/data.html"):
            reply = asked.get(path)
            assert reply.status_code == 404
            assert "make site" in reply.text
