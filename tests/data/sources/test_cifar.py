"""CIFAR's binary archives, made here in their layout."""

from __future__ import annotations

import ast
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.core.errors import SourceError
from opsin.core.events import SILENT
from opsin.data.sources import named
from opsin.data.sources.named import Published, open_cifar
from opsin.data.split import TEST, TRAIN
from tests.data.sources.conftest import Server

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def planes(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def batch(seed: int, count: int, coarse: int | None = None) -> bytes:
    first = [] if coarse is None else [coarse]
    return b"".join(
        bytes([*first, row % 10]) + image.tobytes() for row, image in enumerate(planes(seed, count))
    )


def pack(path: Path, files: list[tuple[str, bytes]], folder: str = "c") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def cifar10() -> dict[str, bytes]:
    """Return the files of CIFAR-10, in another order than they are read."""
    batches = {f"data_batch_{n}.bin": batch(n, 20) for n in (3, 1, 5, 2, 4)}
    names = "".join(f"{name}\n" for name in TEN) + "\n"
    return {"batches.meta.txt": names.encode(), "test_batch.bin": batch(9, 10), **batches,
            "readme.html": b"<html>"}  # fmt: skip


def test_cifar10_comes_from_its_published_archive(web: Server, cache: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "c.tar.gz", list(cifar10().items()), "cifar-10-batches-bin")
    web.files = {"cifar-10-binary.tar.gz": archive.read_bytes()}
    published = Published(
        {"cifar-10-binary.tar.gz": hashlib.sha256(archive.read_bytes()).hexdigest()},
        web.url, archive.stat().st_size, mirrored=True, packed=True,
    )  # fmt: skip
    contents = named.open_published("cifar10", published, SILENT)
    assert contents.classes == tuple(TEN)
    assert contents.given.tolist() == [TRAIN] * 100 + [TEST] * 10
    assert contents.labels[:21].tolist() == [*range(10), *range(10), 0]
    assert contents.names[99:101] == ["train/99", "test/0"]
    assert contents.mirrored
    assert isinstance(contents.images, np.ndarray)
    assert contents.images.shape == (110, 32, 32, 3)
    # Batches in their order; an image is three planes, red first.
    assert np.array_equal(contents.images[:20], planes(1, 20).transpose(0, 2, 3, 1))
    assert np.array_equal(contents.images[100:], planes(9, 10).transpose(0, 2, 3, 1))


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    names = "".join(f"f{number}\n" for number in range(10)).encode()
    files = {
        "coarse_label_names.txt": b"x\n", "fine_label_names.txt": names,
        "train.bin": batch(1, 20, coarse=7), "test.bin": batch(2, 20, coarse=7),
    }  # fmt: skip
    contents = open_cifar(pack(tmp_path / "c.tar.gz", list(files.items())), source="c")
    assert contents.classes == tuple(f"f{i}" for i in range(10))
    assert contents.labels[:11].tolist() == [*range(10), 0]
    assert isinstance(contents.images, np.ndarray)
    assert np.array_equal(contents.images[:20], planes(1, 20).transpose(0, 2, 3, 1))


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", [("other.bin", b"")])
    for content in (path.read_bytes(), b"", b"x" * 600):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"c\.tar\.gz is no archive of CIFAR"):
            open_cifar(path, source="c")


def test_nothing_in_opsin_unpickles() -> None:
    unpicklers = {
        "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
    }  # fmt: skip
    for path in Path(opsin.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "Unpickler" not in text and "torch.load(" not in text, path
        for node in ast.walk(ast.parse(text)):
            modules = (
                [each.name for each in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            assert unpicklers.isdisjoint(name.split(".")[0] for name in modules), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
