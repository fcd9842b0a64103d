"""Named sources: cache, system package, upstream, Debian, in this order, each checked."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.data.sources import download, named
from opsin.errors import DownloadError
from opsin.events import SILENT
from tests.data.sources.test_idx import idx


@dataclass
class Server:
    """A server on loopback that can misbehave."""

    files: dict[str, bytes]
    manner: str = "good"
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    arrays = {
        "train-images-idx3-ubyte.gz": np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3),
        "train-labels-idx1-ubyte.gz": np.array([0, 1, 0, 1], np.uint8),
        "t10k-images-idx3-ubyte.gz": np.zeros((2, 3, 3), np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.array([0, 1], np.uint8),
    }
    state = Server({name: gzip.compress(idx(array)) for name, array in arrays.items()})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            state.asked.append(name)
            content = state.files.get(name)
            if content is None or state.manner == "absent":
                self.send_error(404)
                return
            if state.manner == "changed":
                content = gzip.compress(idx(np.ones((4, 3, 3), np.uint8)))
            self.send_response(200)
            if state.manner != "endless":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if state.manner == "slow":
                time.sleep(1.5)
            if state.manner == "short":
                content = content[:20]
            self.wfile.write(content)
            if state.manner == "endless":
                try:
                    for _ in range(200):
                        self.wfile.write(b"x" * 65_536)
                except OSError:
                    return

        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        state.url = f"http://127.0.0.1:{http_server.server_port}/"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        http_server.shutdown()
        thread.join()


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> named.Published:
    """The server's files as a collection, in an empty cache, with no way to Debian."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    monkeypatch.setenv("PATH", "")
    return replace(
        named.FASHION_MNIST,
        files={
            name: hashlib.sha256(gzip.decompress(content)).hexdigest()
            for name, content in server.files.items()
        },
        system=tmp_path / "system",
        url=server.url,
        size=sum(map(len, server.files.values())),
    )


def locate(published: named.Published) -> Path:
    return named.locate("tiny", published, SILENT)


def test_upstream_is_asked_once_and_then_the_cache(
    server: Server, published: named.Published
) -> None:
    folder = locate(published)
    assert {path.name for path in folder.iterdir()} == set(server.files)
    assert len(server.asked) == 4
    assert locate(published) == folder
    assert len(server.asked) == 4


def test_the_systems_package_comes_before_the_network(
    server: Server, published: named.Published
) -> None:
    published.system.mkdir()
    for name, content in server.files.items():
        (published.system / name).write_bytes(content)
    assert locate(published) == published.system
    assert server.asked == []


def test_a_damaged_cache_is_fetched_again(server: Server, published: named.Published) -> None:
    folder = locate(published)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rotten")
    locate(published)
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("absent", "Not Found"),
        ("changed", "came otherwise"),
        ("short", "ended after 20|IncompleteRead"),
        ("slow", "timed out"),
        ("endless", "sends more"),
    ],
)
def test_a_server_that_misbehaves_leaves_nothing_behind(
    server: Server, published: named.Published, manner: str, words: str, tmp_path: Path
) -> None:
    server.manner = manner
    with pytest.raises(DownloadError, match=words):
        locate(published)
    assert list((tmp_path / "cache" / "sources").iterdir()) == []
    server.manner = "good"
    assert locate(published).is_dir()


def test_no_network_says_where_to_put_the_files(published: named.Published) -> None:
    alone = replace(published, url="http://127.0.0.1:9/")
    with pytest.raises(DownloadError, match=r"this system has none.*put the published files into"):
        locate(alone)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian")
def test_debians_package_is_the_last_resort(
    server: Server, published: named.Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package made here, given by an apt-get that knows it, is unpacked and checked."""
    monkeypatch.undo()
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "deb"
    data = inside / published.system.relative_to("/")
    data.mkdir(parents=True)
    for name, content in server.files.items():
        (data / name).write_bytes(content)
    (inside / "DEBIAN").mkdir()
    (inside / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
        "Description: x\n"
    )
    package = tmp_path / "tiny.deb"
    download._run(["dpkg-deb", "--root-owner-group", "-b", str(inside), str(package)], tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\ncp '{package}' tiny_1_all.deb\n")
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    folder = locate(replace(published, url="http://127.0.0.1:9/", package="tiny"))
    assert {path.name for path in folder.iterdir()} == set(server.files)
