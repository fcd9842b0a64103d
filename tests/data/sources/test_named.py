"""Named sources: cache, system package, upstream, Debian, in this order, each checked."""

import ast
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.core.events import SILENT
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources import named
from opsin.data.sources.named import Published, locate_files
from opsin.data.split import TEST, TRAIN
from tests.conftest import Notes
from tests.data.sources.conftest import Server
from tests.data.sources.test_archive import pack
from tests.data.sources.test_arrays import idx


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
    files = {
        name: hashlib.sha256(gzip.decompress(content)).hexdigest()
        for name, content in server.files.items()
    }
    return replace(
        named._PUBLISHED["fashion-mnist"],
        files=files,
        system=tmp_path / "system",
        url=server.url,
        size=sum(map(len, server.files.values())),
    )


def locate(published: Published) -> Path:
    return locate_files("tiny", published, SILENT)


def test_upstream_is_asked_once_and_then_the_cache(server: Server, published: Published) -> None:
    folder = locate(published)
    assert {path.name for path in folder.iterdir()} == set(server.files)
    assert locate(published) == folder
    assert len(server.asked) == 4
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rotten")
    assert locate(published) == folder
    assert len(server.asked) == 8
    contents = named.open_published(
        "tiny", replace(published, classes=("a", "b"), mirrored=False), SILENT
    )
    assert contents.classes == ("a", "b")
    assert contents.names == ["train/0", "train/1", "train/2", "train/3", "test/0", "test/1"]
    assert not contents.mirrored


def test_the_systems_package_comes_before_the_network(server: Server, published: Published) -> None:
    assert published.system
    published.system.mkdir()
    for name, content in server.files.items():
        (published.system / name).write_bytes(content)
    assert locate(published) == published.system
    assert server.asked == []


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("absent", "Not Found"), ("changed", "not what was published"),
        ("short", "ended after 20|IncompleteRead"), ("slow", "timed out"),
        ("endless", "sends more"),
    ],
)  # fmt: skip
def test_a_server_that_misbehaves_leaves_nothing_behind(
    server: Server, published: Published, manner: str, words: str, cache: Path
) -> None:
    good = dict(server.files)
    server.manner = manner
    if manner == "changed":
        images = np.ones((4, 3, 3), np.uint8)
        server.files["train-images-idx3-ubyte.gz"] = gzip.compress(idx(images))
    with pytest.raises(opsin.DownloadError, match=words):
        locate(published)
    kept = cache / "sources"
    assert [path.name for path in kept.iterdir()] == ["tiny.lock"]
    server.manner = "good"
    server.files = good
    assert locate(published).is_dir()
    assert sorted(path.name for path in kept.iterdir()) == ["tiny", "tiny.lock"]


def test_folders_of_a_known_name_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


CONTENT = bytes(range(256)) * 4096
SCRIPT = """
import sys
from opsin.data.sources.named import Published, locate_files
from opsin.core.events import SILENT
files, url, size = {"set.bin": sys.argv[1]}, sys.argv[2], int(sys.argv[3])
print(locate_files("tiny", Published(files, url, size, mirrored=True, packed=True), SILENT))
"""


def test_two_processes_at_once_fetch_once(web: Server, cache: Path) -> None:
    web.files, web.manner = {"set.bin": CONTENT}, "hold"
    words = [sys.executable, "-W", "error", "-c", SCRIPT, hashlib.sha256(CONTENT).hexdigest()]
    words += [web.url, str(len(CONTENT))]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert web.halfway.wait(60)
    second = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    # Whatever the second does, the first is in the middle of its file.
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    web.release.set()
    (folder,) = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert (Path(folder.strip()) / "set.bin").read_bytes() == CONTENT
    assert web.asked == ["set.bin"]


TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def planes(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def batch(seed: int, count: int, coarse: int | None = None) -> bytes:
    first = [] if coarse is None else [coarse]
    return b"".join(
        bytes([*first, row % 10]) + image.tobytes() for row, image in enumerate(planes(seed, count))
    )


def test_cifar10_comes_from_its_published_archive(web: Server, cache: Path, tmp_path: Path) -> None:
    contents_of = {f"data_batch_{n}.bin": batch(n, 20) for n in (3, 1, 5, 2, 4)}  # in any order
    contents_of |= {"readme.html": b"<html>", "test_batch.bin": batch(9, 10)}
    contents_of["batches.meta.txt"] = "\n".join([*TEN, "", ""]).encode()
    inside = {f"cifar-10-batches-bin/{name}": content for name, content in contents_of.items()}
    content = pack(tmp_path / "c.tar.gz", inside).read_bytes()
    web.files = {"cifar-10-binary.tar.gz": content}
    files = {"cifar-10-binary.tar.gz": hashlib.sha256(content).hexdigest()}
    published = Published(files, web.url, len(content), mirrored=True, packed=True)
    contents = named.open_published("cifar10", published, SILENT)
    assert contents.classes == tuple(TEN)
    assert contents.source_parts.tolist() == [TRAIN] * 100 + [TEST] * 10
    assert contents.labels[:21].tolist() == [*range(10), *range(10), 0]
    assert isinstance(contents.images, np.ndarray)
    assert contents.images.shape == (110, 32, 32, 3)
    # Batches in their order; an image is three planes, red first.
    assert np.array_equal(contents.images[:20], planes(1, 20).transpose(0, 2, 3, 1))
    assert np.array_equal(contents.images[100:], planes(9, 10).transpose(0, 2, 3, 1))


def test_nothing_in_opsin_unpickles() -> None:
    unpicklers = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for path in Path(opsin.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "Unpickler" not in text and "torch.load(" not in text, path
        for node in ast.walk(ast.parse(text)):
            modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            assert unpicklers.isdisjoint(name.split(".")[0] for name in modules), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
