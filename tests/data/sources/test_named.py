"""Named sources: cache, system package, upstream, Debian, in this order, each checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opsin.core.errors import DownloadError
from opsin.core.events import SILENT
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources import named
from opsin.data.sources.named import Published, locate_files
from tests.data.sources.conftest import Notes, Server
from tests.data.sources.test_idx import idx


@pytest.fixture
def server(web: Server) -> Server:
    arrays = {
        "train-images-idx3-ubyte.gz": np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3),
        "train-labels-idx1-ubyte.gz": np.array([0, 1, 0, 1], np.uint8),
        "t10k-images-idx3-ubyte.gz": np.zeros((2, 3, 3), np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.array([0, 1], np.uint8),
    }
    web.files = {name: gzip.compress(idx(array)) for name, array in arrays.items()}
    return web


@pytest.fixture
def published(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Published:
    """The server's files as a collection, in an empty cache, with no way to Debian."""
    monkeypatch.setattr(named, "TIMEOUT", 0.5)
    monkeypatch.setenv("PATH", "")
    return replace(
        named._PUBLISHED["fashion-mnist"],
        files={
            name: hashlib.sha256(gzip.decompress(content)).hexdigest()
            for name, content in server.files.items()
        },
        system=tmp_path / "system",
        url=server.url,
        size=sum(map(len, server.files.values())),
    )


def locate(published: Published) -> Path:
    return locate_files("tiny", published, SILENT)


def test_upstream_is_asked_once_and_then_the_cache(server: Server, published: Published) -> None:
    folder = locate(published)
    assert {path.name for path in folder.iterdir()} == set(server.files)
    assert len(server.asked) == 4
    assert locate(published) == folder
    assert len(server.asked) == 4


def test_the_systems_package_comes_before_the_network(server: Server, published: Published) -> None:
    assert published.system
    published.system.mkdir()
    for name, content in server.files.items():
        (published.system / name).write_bytes(content)
    assert locate(published) == published.system
    assert server.asked == []


def test_a_damaged_cache_is_fetched_again(server: Server, published: Published) -> None:
    folder = locate(published)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rotten")
    locate(published)
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("absent", "Not Found"),
        ("changed", "not what was published"),
        ("short", "ended after 20|IncompleteRead"),
        ("slow", "timed out"),
        ("endless", "sends more"),
    ],
)
def test_a_server_that_misbehaves_leaves_nothing_behind(
    server: Server, published: Published, manner: str, words: str, cache: Path
) -> None:
    good = dict(server.files)
    server.manner = manner
    if manner == "changed":
        images = np.ones((4, 3, 3), np.uint8)
        server.files["train-images-idx3-ubyte.gz"] = gzip.compress(idx(images))
    with pytest.raises(DownloadError, match=words):
        locate(published)
    kept = cache / "sources"
    assert [path.name for path in kept.iterdir()] == ["tiny.lock"]
    server.manner = "good"
    server.files = good
    assert locate(published).is_dir()
    assert sorted(path.name for path in kept.iterdir()) == ["tiny", "tiny.lock"]


def test_a_collection_of_idx_files_is_read(server: Server, published: Published) -> None:
    there = replace(published, classes=("a", "b"), mirrored=False)
    contents = named.open_published("tiny", there, SILENT)
    assert contents.classes == ("a", "b")
    assert contents.names == ["train/0", "train/1", "train/2", "train/3", "test/0", "test/1"]
    assert not contents.mirrored


def test_a_folder_of_a_collections_name_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    watcher = Notes()
    sources.find_all(DataRecipe.of("digits"), watcher=watcher)
    assert "write ./digits" in watcher.notes[0]


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian")
def test_debians_package_is_the_last_resort(
    server: Server, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package made here, given by an apt-get that knows it, is unpacked and checked."""
    monkeypatch.undo()
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "deb"
    assert published.system
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
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", inside, package], check=True)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\ncp '{package}' tiny_1_all.deb\n")
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    folder = locate(replace(published, url="http://127.0.0.1:9/", package="tiny"))
    assert {path.name for path in folder.iterdir()} == set(server.files)
