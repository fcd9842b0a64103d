"""Arrays on the disk take their place beforehand."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.data import cache


def test_a_new_array_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new.npy"
    cache.new_array(file, np.uint8, (1000, 64, 64))
    array = np.load(file)
    assert array.shape == (1000, 64, 64)
    assert not array.any()
    assert file.stat().st_blocks * 512 >= array.nbytes
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    cache.new_array(tmp_path / "new.npy", np.int32, (10, 3))
    assert np.array_equal(np.load(tmp_path / "new.npy"), np.zeros((10, 3), np.int32))


def test_arrays_are_computed_once_unless_their_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    numbers, rows = iter(range(20)), np.arange(20)

    def number(key: str) -> int:
        return cache.kept_arrays(
            "kind",
            key,
            lambda: {"at": np.array([next(numbers)])},
            lambda it: int(rows[it["at"]][0]),
        )

    assert [number(key) for key in ("a", "a", "b")] == [0, 0, 1]
    file = tmp_path / "kind" / "a.npz"
    file.write_bytes(b"PK\3\4 no more")
    assert number("a") == 2
    for place, value in ((6, 1), (8, 99), (60, 255)):  # encrypted, packed in no known way, damaged
        np.savez_compressed(file, allow_pickle=False, at=np.arange(4))
        content = bytearray(file.read_bytes())
        listed = content.index(b"PK\1\2") + 2 if place < 10 else 0
        content[place] = content[place + listed] = value
        file.write_bytes(content)
        before = number("a")
        assert number("a") == before
    for other in ({"at": np.array([99])}, {"by": np.array([0])}):
        np.savez(file, allow_pickle=False, **other)
        assert number("a") == number("a")
        assert np.load(file)["at"] < 20


@given(data=st.binary(min_size=48, max_size=48))
def test_the_digest_is_of_shape_and_pixels(data: bytes) -> None:
    images = np.frombuffer(data, np.uint8).reshape(2, 4, 2, 3)
    digests = cache.digest_rows(images)
    assert np.array_equal(
        digests, cache.digest_rows(images.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3))
    )
    other = cache.digest_rows(images.reshape(2, 2, 4, 3))
    assert not np.array_equal(digests[0], other[0])
    assert np.array_equal(digests[0], digests[1]) == np.array_equal(images[0], images[1])


@given(st.lists(st.binary()), st.lists(st.binary()), st.data())
def test_names_are_a_set(before: list[bytes], after: list[bytes], data: st.DataObject) -> None:
    names = cache.NameSet()
    known = set(before)
    assert sum(map(names.add, before)) == len(known)
    for name in [*after, *data.draw(st.lists(st.sampled_from([*before, *after, b"a"])))]:
        assert names.add(name) == (name not in known)
        known.add(name)
        assert name in names
    assert (b"b" in names) == (b"b" in known)
