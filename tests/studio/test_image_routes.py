"""Routes of images: the right bytes for ids that are known, one shape of error for all else."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

import opsin
from opsin.studio.context import Studio
from opsin.studio.errors import new_api
from opsin.studio.image_routes import add_help, add_routes
from opsin.studio.words import opaque
from tests.made_runs import answers_right, write_run
from tests.studio.made_jobs import fetch


class Routes:
    def __init__(self, studio: Studio) -> None:
        self.runs, self.sets, self.albums = studio.runs, studio.sets, studio.albums
        self.api = new_api()
        add_routes(self.api, studio)

    def get(self, address: str) -> httpx.Response:
        return asyncio.run(fetch(self.api, address))


def refused(reply: httpx.Response) -> str:
    assert reply.status_code == 404
    assert reply.headers["cache-control"] == "no-store"
    (error,) = reply.json().values()
    assert set(error) == {"kind", "message", "advice"}
    assert error["kind"] in {"NotThere", "NotDecoded"}
    return str(error["message"])


@pytest.fixture
def routes(tmp_path: Path, shapes: Path, studio: Studio) -> Routes:
    data = opsin.load(shapes)
    write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8))
    return Routes(studio)


def test_an_image_that_may_be_kept_for_ever(routes: Routes, shapes: Path) -> None:
    set_id = routes.sets.add_source(str(shapes)).id
    here = asyncio.run(routes.albums.corrections_of(set_id)).opened
    reply = routes.get(here.address(3))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
    image = np.asarray(Image.open(io.BytesIO(reply.content)))
    assert (image == opsin.load(shapes).images[3]).all()
    assert routes.get(f"/run-images/{opaque('one')}/3").content == reply.content
    for query in ("", "?v=0123456789ab"):  # of another version
        reply = routes.get(f"/images/{set_id}/3{query}")
        assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("row", ["24", "-1", "x", "9" * 4000, "%F0%9F", "1.5", "1_0", "\u0663"])
def test_rows_that_are_none(routes: Routes, shapes: Path, row: str) -> None:
    set_id = routes.sets.add_source(str(shapes)).id
    refused(routes.get(f"/images/{set_id}/{row}"))
    refused(routes.get(f"/run-images/{opaque('one')}/{row}"))


def test_ids_that_are_none(routes: Routes) -> None:
    for id_ in ("0" * 16, "..", "one", "a" * 5000, "%2e%2e%2fhome", "<img>"):
        for route in ("images", "run-images"):
            assert routes.get(f"/{route}/{id_}/0").status_code == 404
        assert routes.get(f"/files/{id_}/report.json").status_code == 404


def test_images_that_are_gone_say_nothing_of_the_machine(routes: Routes, shapes: Path) -> None:
    set_id = routes.sets.add_source(str(shapes)).id
    shapes.rename(shapes.with_name("elsewhere"))
    said = routes.get(f"/images/{set_id}/0")
    refused(said)
    assert str(shapes.parent) not in said.text


def test_files_of_a_run_from_a_fixed_list(routes: Routes, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    (run / "secret.txt").write_text("secret")
    (run / "report.html").write_text("<p>report</p>")
    (run / "classifier.onnx").write_bytes(b"network")
    get = f"/files/{opaque('one')}/"
    assert routes.get(f"{get}report.html").text == "<p>report</p>"
    # Whoever made the run, its page gets nothing of the studio's.
    policy = routes.get(f"{get}report.html").headers["content-security-policy"]
    assert "sandbox" in policy
    assert "allow-same-origin" not in policy
    classifier = routes.get(f"{get}classifier.onnx")
    assert classifier.content == b"network"
    assert classifier.headers["content-disposition"] == 'attachment; filename="classifier.onnx"'
    for name in ("secret.txt", "../one/secret.txt", "%2e%2e%2fsecret.txt", ".lock", "status.json"):
        assert routes.get(get + name).status_code == 404
    assert "no file 'answers.png'" in refused(routes.get(f"{get}answers.png"))


def test_no_link_in_a_run_is_served(routes: Routes, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("private")
    (tmp_path / "runs" / "one" / "report.html").symlink_to(tmp_path / "private")
    refused(routes.get(f"/files/{opaque('one')}/report.html"))


def test_covers_show_three_classes(tmp_path: Path, digits: opsin.Dataset, studio: Studio) -> None:
    def pictures(project: str) -> list[Any]:
        replies = [Routes(studio).get(f"/covers/{project}/{number}") for number in range(4)]
        return [
            np.asarray(Image.open(io.BytesIO(reply.content))) for reply in replies if reply.content
        ]

    made = studio.sets.new_empty(["a", "b"])
    root = studio.sets.get(made.id).place
    assert pictures(made.id) == []
    tray = root.parent / ".not-sorted"
    tray.mkdir()
    shades = {
        tray / "1.png": 9,
        root / "b" / "1.png": 50,
        root / "b" / "2.png": 70,
        root / "a" / "1.png": 90,
    }
    for place, shade in shades.items():
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(place)
    (root / "a" / "link.png").symlink_to(tray / "1.png")
    assert [picture[0, 0, 0] for picture in pictures(made.id)] == [90, 50, 9]
    (root / "a" / "1.png").write_bytes(b"no image")
    assert [picture[0, 0, 0] for picture in pictures(made.id)] == [50, 9]
    write_run(tmp_path / "runs", "two", digits, answers_right(digits, 0.8))
    studio.runs.scan()
    [of_runs] = (item for item in studio.projects.all() if item.runs)
    assert [picture.shape for picture in pictures(of_runs.id)] == [(8, 8)] * 3


def client(site: Path) -> TestClient:
    api = FastAPI()
    add_help(api, site)
    return TestClient(api)


def test_pages_are_served_or_it_is_said_how_to_build_them(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("first", encoding="utf-8")
    (tmp_path / "assets" / "a.css").write_text("p {}", encoding="utf-8")
    with client(tmp_path) as asked:
        assert asked.get("/help").text == asked.get("/help/index.html").text == "first"
        assert asked.get("/help/assets/a.css").headers["content-type"].startswith("text/css")
        assert asked.get("/help/nothing.html").status_code == 404
    with client(tmp_path / "none") as asked:
        for path in ("/help", "/help/how-to/data.html"):
            reply = asked.get(path)
            assert reply.status_code == 404
            assert "make site" in reply.text


def test_nothing_beside_the_site_is_served(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").touch()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "site" / "link").symlink_to(tmp_path / "secret")
    with client(tmp_path / "site") as asked:
        for path in ("/help/../secret", "/help/%2e%2e/secret", "/help/link"):
            assert "secret" not in asked.get(path).text
