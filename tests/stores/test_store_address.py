"""Addresses on a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.core.errors import RecipeError
from opsin.stores.store_address import StoreAddress, is_stored


@pytest.mark.parametrize(
    ("written", "bucket", "key"),
    [
        ("s3://b/a/c.csv", "b", "a/c.csv"),
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        (Path("s3://b/a"), "b", "a"),  # which leaves one slash
        ("gs://b/a/c.csv", "b", "a/c.csv"),
        ("az://container/a", "container", "a"),
    ],
)
def test_addresses(written: str | Path, bucket: str, key: str) -> None:
    assert is_stored(written)
    address = StoreAddress.read(written)
    assert (address.bucket, address.key) == (bucket, key)
    assert StoreAddress.read(str(address)) == address


@pytest.mark.parametrize(
    "written",
    ["s3://", "s3:///a", "abfs://b/a", "photos", "gs://b//a", "s3://Not a bucket/x", "az://b/./a",
     "gs://b/a//", "gs://b/a\nb", "az://b/a\udcff"],
)  # fmt: skip
def test_others_are_refused(written: str) -> None:
    with pytest.raises(RecipeError):
        StoreAddress.read(written)


def test_folders_are_none() -> None:
    assert not any(map(is_stored, ["photos", "./s3", "s3", "s3/x", "https://b/a", "hf:a/b"]))
