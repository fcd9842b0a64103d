"""JSON of strangers: an object, or a ValueError; never much memory."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from opsin.core.stored_json import MOST, read_json, read_json_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_json_comes_back(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    with (tmp_path / "a.json").open("rb") as file:
        assert read_json(file) == value


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"NaN", b"[Infinity]", b"[1e999]", b"\xff", b"[" * 100_000, b'{"a":' * 100_000,
     b"1" * 5_000, b"[],"  * (MOST // 4), b'"a",' * (MOST // 8), b"1," * (MOST // 2 - 1)],
    ids=range(12),
)  # fmt: skip
def test_what_is_none_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with (tmp_path / "a.json").open("rb") as file, pytest.raises(ValueError, match=r"."):
        read_json(file)


@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_five_gigabytes_are_not_begun_with(tmp_path: Path, read: object) -> None:
    (tmp_path / "a.json").touch()
    os.truncate(tmp_path / "a.json", 5 << 30)
    with (tmp_path / "a.json").open("rb") as file, pytest.raises(ValueError, match="longer than"):
        read(file)  # type: ignore[operator]
