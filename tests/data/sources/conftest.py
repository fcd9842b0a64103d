"""A server on loopback that can misbehave, and what it told a watcher."""

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources.contents import LabelledImages


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


def answer(state: Server, handler: http.server.BaseHTTPRequestHandler) -> None:
    name = handler.path.removeprefix("/")
    state.asked.append(name)
    content = state.files.get(name)
    if content is None or state.manner == "absent":
        handler.send_error(404)
        return
    handler.send_response(200)
    if state.manner != "endless":
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if state.manner == "slow":
        time.sleep(1.5)
    stop = {"short": 20, "hold": len(content) // 2}.get(state.manner, len(content))
    handler.wfile.write(content[:stop])
    if state.manner == "hold":
        handler.wfile.flush()
        state.halfway.set()
        state.release.wait(60)
        handler.wfile.write(content[stop:])
    if state.manner == "endless":
        for _ in range(200):
            handler.wfile.write(b"x" * 65_536)


@pytest.fixture
def web() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(state, self)
            except ConnectionError:
                return

        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        state.url = f"http://127.0.0.1:{http_server.server_port}/"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        state.release.set()
        http_server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("OPSIN_CACHE", str(folder))
    return folder
