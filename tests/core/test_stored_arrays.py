"""Arrays in .npz files: read as NumPy reads them, and nothing more, whatever the file says."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from opsin.core.stored_arrays import SPARE, StoredArrays
from tests.conftest import write_zip
from tests.processes import peak_of

KINDS = st.one_of(
    arrays.integer_dtypes(endianness="?"), arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?"), arrays.boolean_dtypes(),
    arrays.unicode_string_dtypes(endianness="?"), arrays.byte_string_dtypes(),
)  # fmt: skip
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def npy(
    stated: str = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
    content: bytes = b"\1\2\3",
    version: bytes = b"\1\0",
) -> bytes:
    size = len(stated).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + stated.encode("latin-1") + content


@given(st.data())
def test_what_numpy_wrote_is_read_as_numpy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    wanted = data.draw(arrays.arrays(data.draw(KINDS), SHAPES))
    if data.draw(st.booleans()):
        wanted = np.asfortranarray(wanted)
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(path, a=wanted, b=np.arange(3))
    with np.load(path) as expected, StoredArrays(path) as stored:
        assert list(stored.members) == ["a", "b"]
        found = stored.read("a")
        assert stored.read("b").tolist() == [0, 1, 2]
        assert (found.dtype, found.shape) == (expected["a"].dtype, expected["a"].shape)
        assert found.tobytes() == expected["a"].tobytes()


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 28, 28), }"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(npy(HUGE, b""), "another size", id="10^15 rows"),
        pytest.param(npy(HUGE.replace("|u1", "<U0"), b""), "another size", id="no bytes a value"),
        pytest.param(npy(HUGE.replace("|u1", "|O"), b""), "no array of numbers", id="objects"),
        pytest.param(npy("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (3,), }"),
                     "no array of numbers", id="records"),
        pytest.param(npy("{'descr': '(9,)u1', 'fortran_order': False, 'shape': (3,), }"),
                     "no array of numbers", id="arrays of arrays"),
        pytest.param(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-3,), }"),
                     "no array of numbers", id="negative"),
        pytest.param(npy("(" * 9000 + ")" * 900), "no array of numbers", id="nested"),
        pytest.param(npy("-" * 9990 + "1"), "no array of numbers", id="signs"),
        pytest.param(npy("{" + "'descr': '|u1', " * 600 + "}"), "no array", id="long"),
        pytest.param(npy(HUGE.replace("1000000000000000", "9" * 5000)), "no array", id="digits"),
        pytest.param(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'1, ' * 90}3), }}"),
                     "no array of numbers", id="dimensions"),
        pytest.param(b"\x93NUMPY\2\0\xff\xff\xff\xff", "no array", id="4 GB of header"),
        pytest.param(npy()[:-1], "another size", id="cut"),
        pytest.param(b"x" * 100, "no array", id="no array"),
        pytest.param(b"", "no array", id="empty"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_cannot_be_are_refused_before_anything_is_made(
    tmp_path: Path, content: bytes, words: str, kind: int
) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": content, "b.npy": npy()}, kind)
    with StoredArrays(path) as stored:
        with pytest.raises(ValueError, match=words):
            stored.read("a")
        with pytest.raises(ValueError, match=words):
            stored.stated("a")
        assert stored.read("b").tolist() == [1, 2, 3]  # one damaged array is no other's business


def test_a_member_that_expands_to_gigabytes_is_refused(tmp_path: Path) -> None:
    count = SPARE + 1
    stated = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}"
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy(stated, bytes(count)), "b.npy": npy()})
    assert path.stat().st_size < 1_000_000

    def read() -> None:
        with StoredArrays(path) as stored:
            assert stored.stated("a").nbytes == count
            with pytest.raises(ValueError, match="save it unpacked"):
                stored.read("a")
            assert stored.read("b").tolist() == [1, 2, 3]

    assert peak_of(read) < 50 << 20


def test_what_is_read_in_all_is_bounded(tmp_path: Path) -> None:
    """Ten arrays may not take what one may not."""
    some: dict[str, Any] = {str(i): np.zeros(SPARE // 4, np.uint8) for i in range(5)}
    np.savez_compressed(tmp_path / "a.npz", **some)
    with StoredArrays(tmp_path / "a.npz") as stored:
        for name in "0123":
            stored.read(name)
        with pytest.raises(ValueError, match="expands to more"):
            stored.read("4")


def test_other_ways_of_packing_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy()}, zipfile.ZIP_LZMA)
    with StoredArrays(path) as stored, pytest.raises(ValueError, match="packed in a way"):
        stored.read("a")


def test_damage_in_the_content_is_found(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy(content=b"abc")}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    with StoredArrays(path) as stored, pytest.raises(ValueError, match="CRC"):
        stored.read("a")


@given(st.data())
def test_any_damage_is_one_of_two_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    np.savez_compressed(path, a=np.arange(6).reshape(2, 3), b=np.array(["x", "yz"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    try:
        with StoredArrays(path) as stored:
            for name in stored.members:
                stored.read(name)
    except (OSError, ValueError):
        return


@given(st.text("{}()[]'\",:0123456789L descrfotan_shpTueFlu1<>|-\\\n", max_size=120))
def test_any_text_as_a_header_is_an_array_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = write_zip(tmp_path_factory.mktemp("npz") / "a.npz", {"a.npy": npy(text)})
    with StoredArrays(path) as stored:
        try:
            stored.read("a")
        except ValueError:
            return
