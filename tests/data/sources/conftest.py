"""A server on loopback that can misbehave, and what it told a watcher."""

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources.contents import LabelledImages
from tests.http_servers import listening


@dataclass
class Server:
    files: dict[str, bytes] = field(default_factory=dict)
    manner: str = "good"
    asked: list[str] = field(default_factory=list)
    url: str = ""
    #: Set when half a file is on its way, in the manner "hold".
    halfway: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


def opened(
    source: Path | str, *more: Path | str, watcher: Watcher = SILENT, **options: object
) -> LabelledImages:
    recipe = DataRecipe.of(*map(str, (source, *more)), **options)
    return sources.find_all(recipe, watcher=watcher).open()


def labels_of(contents: LabelledImages) -> list[str]:
    return [contents.classes[label] for label in contents.labels]


def put(root: Path, *names: str) -> Path:
    """Write files of one byte."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def paths_of(contents: LabelledImages) -> list[Path]:
    return [Path(image) for image in contents.images if isinstance(image, str)]


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.state.asked.append(name)
        content = self.state.files.get(name)
        if content is None or self.state.manner == "absent":
            self.send_error(404)
            return
        self.send_response(200)
        if self.state.manner != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.state.manner == "slow":
            time.sleep(1.5)
        stop = {"short": 20, "hold": len(content) // 2}.get(self.state.manner, len(content))
        self.wfile.write(content[:stop])
        if self.state.manner == "hold":
            self.wfile.flush()
            self.state.halfway.set()
            self.state.release.wait(60)
            self.wfile.write(content[stop:])
        if self.state.manner == "endless":
            for _ in range(200):
                self.wfile.write(b"x" * 65_536)


@pytest.fixture
def web() -> Iterator[Server]:
    state = Server()
    with listening(_Handler, state=state) as address:
        state.url = f"{address}/"
        yield state
        state.release.set()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("OPSIN_CACHE", str(folder))
    return folder
