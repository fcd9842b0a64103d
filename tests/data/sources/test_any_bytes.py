"""Whatever bytes a source has, it is a collection or an explained error, in little memory."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from opsin.core.errors import OpsinError
from opsin.data.sources import open_stream
from tests.data.sources.conftest import opened
from tests.data.sources.test_arrays import idx
from tests.processes import peak_of

#: What a reader may take beside what it returns; a file may cost 512 MB in all.
LIMIT = 400 << 20
SOMETIMES = settings(max_examples=50)

TABLE = (
    b'path,label,split,group\na.png,cat,train,ann\n\'=b.png,"dog, large",test,\nc.png,cat,,bob\n'
)
LINES = b"\n".join(
    json.dumps(row).encode()
    for row in ({"path": "a.png", "label": 3}, {"path": "b.png", "label": True, "group": "x"})
)
#: Pieces that readers of tables take for more than letters.
PIECES = st.sampled_from([
    b",", b";", b"\t", b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"=",
    b"{", b"}", b"[" * 1500, b'{"path":', b"null", b"1e999", b"NaN", b"\\ud800", b"../", b"/",
    b"..", b".", b"path", b"label", b"split", b"a.png", b"-", b" ", b"9" * 1000, b"\xe2\x80\xa8",
    b"x" * 1500,
])  # fmt: skip


def stored(**content: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    return stream.getvalue()


LABELS = np.array([0, 1, 0, 1])
NPZ = stored(images=np.zeros((4, 3, 3), np.uint8), labels=LABELS, classes=np.array(["a", "b"]))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return bytes with some exchanged, cut out or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 4, 40])))
        content[start:end] = draw(st.binary(max_size=8) | PIECES)
    return bytes(content)


def in_little_memory(work: Callable[[], object]) -> None:
    """See that it takes less than the limit, and fails as it may."""

    def tried() -> None:
        with contextlib.suppress(OpsinError):
            work()

    assert peak_of(tried) < LIMIT


def read(folder: Path, name: str, content: bytes) -> None:
    for image in ("a.png", "b.png", "c.png"):
        (folder / image).write_bytes(b"")
    (folder / name).write_bytes(content)

    def use() -> None:
        contents = opened(folder / name)
        assert len(contents) == len(contents.names) == len(contents.images)
        assert contents.labels.max(initial=0) < len(contents.classes)
        contents.check()

    in_little_memory(use)
    if not name.endswith("npz"):
        in_little_memory(lambda: list(open_stream(folder / name)))


TABLES = st.one_of(
    st.tuples(st.sampled_from(["t.csv", "t.tsv"]), damaged(TABLE)),
    st.tuples(st.just("t.jsonl"), damaged(LINES)),
    st.tuples(st.sampled_from(["t.csv", "t.jsonl"]), st.binary(max_size=200)),
    st.tuples(st.sampled_from(["t.csv", "t.jsonl"]), st.lists(PIECES, max_size=12).map(b"".join)),
)
PROPER = st.sampled_from([np.zeros((4, 3, 3), np.uint8), LABELS])
KINDS = arrays.scalar_dtypes() | arrays.unicode_string_dtypes(max_len=3)
ANY = arrays.arrays(KINDS, arrays.array_shapes(min_dims=0, max_side=4)) | PROPER
FEW = arrays.arrays(st.sampled_from(["i8", "U2", "f4", "u1"]), arrays.array_shapes(max_side=4))
ARRAYS = st.one_of(
    damaged(NPZ), st.binary(max_size=100),
    st.fixed_dictionaries(
        {"images": ANY, "labels": ANY},
        optional={"classes": FEW, "test_images": FEW, "test_labels": FEW},
    ).map(lambda content: stored(**content)),
)  # fmt: skip


@SOMETIMES
@given(TABLES)
def test_any_table(tmp_path_factory: pytest.TempPathFactory, made: tuple[str, bytes]) -> None:
    read(tmp_path_factory.mktemp("t"), *made)


@SOMETIMES
@given(ARRAYS)
def test_any_file_of_arrays(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read(tmp_path_factory.mktemp("t"), "set.npz", content)


@SOMETIMES
@given(damaged(idx(np.zeros((4, 3, 3), np.uint8))), damaged(idx(np.zeros(4, np.uint8))))
def test_any_idx(tmp_path_factory: pytest.TempPathFactory, images: bytes, labels: bytes) -> None:
    folder = tmp_path_factory.mktemp("t")
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    in_little_memory(lambda: opened(folder))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"images": np.zeros((10_000_000, 1, 1), np.uint8),
                      "labels": np.zeros(10_000_000, np.uint8)}, id="many images of a pixel"),
        pytest.param({"images": np.zeros((4, 8_000, 8_000), np.uint8), "labels": np.arange(4)},
                     id="large images"),
        pytest.param({"images": np.zeros((4, 2, 2), np.uint8), "labels": np.arange(4),
                      "classes": np.zeros(3_000_000, "U1")}, id="many classes"),
    ],
)  # fmt: skip
def test_a_small_file_costs_little(tmp_path: Path, content: dict[str, Any]) -> None:
    np.savez_compressed(tmp_path / "set.npz", **content)
    content.clear()
    with pytest.raises(OpsinError, match=r"expands to more than|names 3,000,000 classes"):
        opened(tmp_path / "set.npz")
