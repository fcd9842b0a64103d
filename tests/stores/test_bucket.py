"""A bucket, read and written over a connection that fails."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from opsin.core.errors import SourceError, StorageError
from opsin.stores import bucket as module
from opsin.stores.bucket import open_bucket
from opsin.stores.stored_object import UNKNOWN_SIZE, StoredObject
from tests.object_store import BUCKET, Fault, ObjectStore


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 100 kB."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    return path


def test_what_is_written_is_read(store: ObjectStore, file: Path) -> None:
    bucket, content = open_bucket(BUCKET), file.read_bytes()
    made = bucket.write("a/b", file, None, digest(content))
    assert bucket.find("a/b") == made
    assert bucket.content(made) == content
    assert bucket.content(made, 10) == content[:10]
    told = store.client.head_object(Bucket=BUCKET, Key="a/b")
    assert told["Metadata"] == {"sha256": digest(content)}
    assert bucket.find("a") is None
    with pytest.raises(FileNotFoundError):
        bucket.content(StoredObject(BUCKET, "a", UNKNOWN_SIZE, ""))


@pytest.mark.parametrize("size", [100_000, 6_000_000])
def test_nothing_that_appeared_meanwhile_is_replaced(
    store: ObjectStore, file: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(module, "_PART", 5 << 20)  # the smallest that stores take
    bucket, content = open_bucket(BUCKET), os.urandom(size)
    file.write_bytes(content)
    store.put("key", b"of another")
    there = bucket.find("key")
    with pytest.raises(StorageError, match="another one was written to s3://photos/key meanwhile"):
        bucket.write("key", file, None, digest(content))
    store.put("key", b"of a third")
    if size < module._PART:  # moto does not compare, where parts are joined
        with pytest.raises(StorageError, match="meanwhile"):
            bucket.write("key", file, there, digest(content))
    assert store.content("key") == b"of a third"
    assert store.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    assert bucket.write("key", file, bucket.find("key"), digest(content)).size == size
    assert store.content("key") == content


def test_an_answer_that_got_lost_is_no_other_command(store: ObjectStore, file: Path) -> None:
    # What is sent again finds what was sent before.
    content = file.read_bytes()
    first = open_bucket(BUCKET).write("key", file, None, digest(content))
    assert open_bucket(BUCKET).write("key", file, None, digest(content)) == first


def test_a_large_file_goes_on_where_it_broke_off(
    store: ObjectStore, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT", 0)
    store.put("large", file.read_bytes())
    wanted = open_bucket(BUCKET).find("large")
    assert wanted is not None
    store.faults = [Fault("cut", part="large", times=10)]  # each piece is half of what is left
    open_bucket(BUCKET).fetch(wanted, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    store.faults = [Fault("cut", part="large", times=1)]
    store.client.put_object(Bucket=BUCKET, Key="large", Body=b"another" * 10_000)
    store.faults[0].spare = 0
    with pytest.raises(SourceError):
        open_bucket(BUCKET).fetch(wanted, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    store.client.delete_object(Bucket=BUCKET, Key="large")
    with pytest.raises(SourceError, match="s3://photos/large is gone"):
        open_bucket(BUCKET).fetch(wanted, tmp_path / "second")


def test_a_store_that_falls_silent(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.2)
    store.put("key", b"content")
    store.faults = [Fault("kept back")]
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:\d+ did not \(ReadTimeout\)"):
        module.Bucket(BUCKET).content(StoredObject(BUCKET, "key", 7, '"1"'))


def test_one_that_trickles(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", -1)
    store.put("key", b"content")
    with pytest.raises(SourceError, match="comes too slowly"):
        open_bucket(BUCKET).content(StoredObject(BUCKET, "key", 7, '"1"'))


def test_credentials_that_were_renewed_count(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_bucket(BUCKET)
    assert open_bucket(BUCKET) is one
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    assert open_bucket(BUCKET) is not one
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    store.put("key", b"content")
    assert [each.key for each in open_bucket(BUCKET).objects()] == ["key"]  # not signed
