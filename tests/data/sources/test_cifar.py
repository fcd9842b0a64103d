"""CIFAR's archives, made here in their layout; pickles that would do anything else."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.data.sources import cifar, named
from opsin.data.sources.cifar import open_cifar, unpickle
from opsin.data.sources.published import Published
from opsin.data.split import TEST, TRAIN
from opsin.errors import SourceError
from opsin.events import SILENT
from tests.data.sources.conftest import Server

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def old(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


def batch(seed: int, count: int, key: bytes = b"labels") -> dict[bytes, Any]:
    data = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    return {b"data": data, key: [i % 10 for i in range(count)], b"batch_label": b"x",
            b"filenames": [b"a.png"] * count}  # fmt: skip


def pack(path: Path, files: dict[str, bytes], folder: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def cifar10() -> dict[str, bytes]:
    """Return the files of CIFAR-10, in another order than they are read."""
    meta = {b"label_names": [name.encode() for name in TEN], b"num_vis": 3072}
    batches = {f"data_batch_{n}": old(batch(n, 20)) for n in (3, 1, 5, 2, 4)}
    return {"batches.meta": old(meta), "test_batch": old(batch(9, 10)), **batches,
            "readme.html": b"<html>"}  # fmt: skip


def test_cifar10_comes_from_its_published_archive(web: Server, cache: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "c.tar.gz", cifar10(), "cifar-10-batches-py")
    web.files = {"cifar-10-python.tar.gz": archive.read_bytes()}
    published = Published(
        {"cifar-10-python.tar.gz": hashlib.sha256(archive.read_bytes()).hexdigest()},
        web.url, archive.stat().st_size, mirrored=True, packed=True,
    )  # fmt: skip
    contents = named.from_cifar(published)("cifar10", SILENT).open()
    assert contents.classes == tuple(TEN)
    assert contents.given.tolist() == [TRAIN] * 100 + [TEST] * 10
    assert contents.names[99:101] == ["train/99", "test/0"]
    assert contents.mirrored
    assert isinstance(contents.pictures, np.ndarray)
    assert contents.pictures.shape == (110, 32, 32, 3)
    # Batches in their order; a picture is three planes, red first.
    expected = batch(1, 20)[b"data"][0].reshape(3, 32, 32)
    assert np.array_equal(contents.pictures[0, :, :, 0], expected[0])
    assert np.array_equal(contents.pictures[0, :, :, 2], expected[2])
    assert np.array_equal(
        contents.pictures[100, :, :, 1], batch(9, 10)[b"data"][0].reshape(3, 32, 32)[1]
    )


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    coarse = {b"coarse_labels": [0] * 20}
    names = [b"f%d" % number for number in range(10)]
    files = {
        "meta": old({b"coarse_label_names": [b"x"], b"fine_label_names": names}),
        "train": old(coarse | batch(1, 20, b"fine_labels")),
        "test": old(coarse | batch(2, 20, b"fine_labels")),
    }  # fmt: skip
    contents = open_cifar(pack(tmp_path / "c.tar.gz", files, "cifar-100-python"), source="c")
    assert contents.classes == tuple(f"f{i}" for i in range(10))
    assert contents.labels[:11].tolist() == [*range(10), 0]


#: An array as NumPy 1 wrote it under Python 2: protocol 2, old module names, bytes as text.
PYTHON_2 = (
    b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x01\x02\x03\xfe\xff\x00tbs."
)


def test_pickles_of_python_2_are_read() -> None:
    value = unpickle(PYTHON_2, "old")[b"data"]
    assert value.values().tolist() == [[1, 2, 3], [254, 255, 0]]
    ours = pickle.loads(PYTHON_2, encoding="bytes")[b"data"]
    assert np.array_equal(ours, value.values())


@given(
    st.recursive(
        st.binary(min_size=1, max_size=20) | st.text(max_size=20) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    ),
    st.sampled_from([2, 4]),
)
def test_plain_values_are_read_as_they_are(value: Any, protocol: int) -> None:
    assert unpickle(pickle.dumps({b"x": value}, protocol), "x") == {b"x": value}


class Evil:
    """Something whose pickle calls a function."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self.call = call
        self.given = given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.given


@pytest.mark.parametrize(
    ("evil", "words"),
    [
        (Evil(os.system, "touch {}"), r"(posix|nt)\.system"),
        (Evil(eval, "open('{}', 'w')"), "builtin.*eval"),
        (Evil(getattr, np, "load"), "getattr"),
        (Evil(np.fromfile, "{}"), "fromfile"),
        (Evil(codecs.encode, "x", "rot13"), "text in 'rot13'"),
        (np.array([print], object), "asks for|array of"),
        (np.zeros(3, np.float32), "array of"),
        (np.zeros((3, 2), np.uint8, order="F"), "another kind"),
        (np.zeros(3, [("a", np.uint8)]), "array of"),
        (np.uint8(3), "asks for .*scalar"),
        (1j, "complex"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_that_ask_for_more_are_refused(
    tmp_path: Path, evil: Any, words: str, protocol: int
) -> None:
    target = tmp_path / "touched"
    if isinstance(evil, Evil):
        evil = Evil(evil.call, *[str(each).format(target) for each in evil.given])
    with pytest.raises(SourceError, match=words):
        unpickle(pickle.dumps({b"data": evil}, protocol=protocol), "evil")
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        PYTHON_2.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"),  # another shape than its bytes
        PYTHON_2.replace(b"K\x02K\x03\x86", b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86"),
        PYTHON_2.replace(b"u1", b"O8"),
        PYTHON_2[:-8],
        b"",
        b"\x80\x02]q\x00.",
        b"\x80\x02cnumpy\ndtype\n}U\x05_makeK\x01sb.",  # changes a stand-in
        b"\x80\x02cnumpy\ndtype\n(}}U\x05_makeK\x01stb.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02cos\nsystem\nU\x02ls\x85R.",
    ],
)
def test_broken_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(SourceError):
        unpickle(content, "broken")
    assert unpickle(PYTHON_2, "old")  # and no stand-in is the worse for it


@given(st.data())
def test_any_damage_is_an_explained_error(data: st.DataObject) -> None:
    content = bytearray(PYTHON_2)
    # The numbers of the memo are left out: pickle makes room for the largest.
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from(b"c.RbK)}]")
        )
    with contextlib.suppress(SourceError):
        assert isinstance(unpickle(bytes(content), "x"), dict)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batches.meta": b""}, "batches.meta in .* is none"),
        ({"batches.meta": old({})}, "does not name its classes"),
        ({"batches.meta": None}, "it holds data_batch_1"),
        ({"test_batch": None}, "it holds batches.meta, data_batch_1"),
        ({"test_batch": old({b"data": [], b"labels": []})}, "test_batch lacks"),
        ({"data_batch_2": old(batch(1, 20) | {b"labels": [0] * 19})}, "data_batch_2 lacks"),
        ({"data_batch_2": old(batch(1, 2) | {b"labels": [0, -1]})}, "data_batch_2 lacks"),
        ({"data_batch_2": old(batch(1, 2) | {b"labels": [0, b"x"]})}, "data_batch_2 lacks"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, change: dict[str, bytes | None], words: str
) -> None:
    files = {name: content for name, content in (cifar10() | change).items() if content is not None}
    with pytest.raises(SourceError, match=words):
        open_cifar(pack(tmp_path / "c.tar.gz", files, "c"), source="c")


def test_damaged_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "c.tar.gz", cifar10(), "c")
    whole = path.read_bytes()
    for content in (whole[:5000], b"", b"x" * 600):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"c\.tar\.gz: it is damaged"):
            open_cifar(path, source="c")
    path.write_bytes(whole)
    monkeypatch.setattr(cifar, "_MAX_MEMBER", 100)
    with pytest.raises(SourceError, match="bytes"):
        open_cifar(path, source="c")
