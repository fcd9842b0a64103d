"""A bucket, read and written over a connection that fails."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.core.errors import RecipeError, SourceError, StorageError
from opsin.stores import bucket as module
from opsin.stores.bucket import (
    UNKNOWN_SIZE,
    Bucket,
    Store,
    StoreAddress,
    StoredObject,
    is_stored,
    open_bucket,
)
from tests.object_store import BUCKET, Fault, ObjectStore
from tests.processes import python


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    return path


@pytest.fixture(params=["s3", "gs"])
def kind(request: pytest.FixtureRequest) -> Store:
    found: Store = request.param
    return found


@pytest.fixture
def bucket(store: ObjectStore, kind: Store) -> Bucket:
    assert store.address
    return opened(kind)


def opened(kind: Store = "s3") -> Bucket:
    return open_bucket(StoreAddress(BUCKET, "", kind))


def test_what_was_sent_is_read(store: ObjectStore, bucket: Bucket, kind: Store, file: Path) -> None:
    content = file.read_bytes()
    made = bucket.write("a/b", file, None, digest(content))
    assert bucket.find("a/b") == made
    assert bucket.content(made) == content
    assert bucket.content(made, 10) == content[:10]
    told = store.client.head_object(Bucket=BUCKET, Key="a/b")
    assert told["Metadata"] == {"sha256": digest(content)}
    assert bucket.find("a") is None
    with pytest.raises(FileNotFoundError):
        bucket.content(StoredObject(BUCKET, "a", UNKNOWN_SIZE, "", kind))
    file.write_bytes(content)
    # What is sent again, as its answer got lost, finds what was sent before.
    assert bucket.write("a/b", file, None, digest(content)) == made
    file.write_bytes(b"")
    assert bucket.write("empty", file, None, digest(b"")).size == 0
    assert bucket.find("empty") is not None


def test_what_is_listed(store: ObjectStore, bucket: Bucket, kind: Store) -> None:
    keys = ["a/1.png", "a/7 loose é+&%41#.png", "a/b/2.png", "ab/3.png", "top"]
    for key in keys:
        store.put(key, key.encode())
    found = list(bucket.objects())
    assert [each.key for each in found] == sorted(keys, key=str.encode)
    assert [each.key for each in bucket.objects("a/")] == [each.key for each in found[:3]]
    assert all(bucket.content(each) == each.key.encode() for each in found)
    assert all(bucket.find(each.key) == each for each in found)
    assert str(found[0].address) == f"{kind}://{BUCKET}/a/1.png"


def test_nothing_is_replaced(store: ObjectStore, bucket: Bucket, kind: Store, file: Path) -> None:
    content = file.read_bytes()
    store.put("key", b"of another")
    there = bucket.find("key")
    with pytest.raises(
        StorageError, match=rf"Another object was written to {kind}://photos/key meanwhile"
    ):
        bucket.write("key", file, None, digest(content))
    store.put("key", b"of a third")
    with pytest.raises(StorageError, match="meanwhile"):
        bucket.write("key", file, there, digest(content))
    assert store.content("key") == b"of a third"
    assert bucket.write("key", file, bucket.find("key"), digest(content)).size == len(content)
    assert store.content("key") == content


def test_a_large_file_goes_on_where_it_broke_off(
    store: ObjectStore, bucket: Bucket, kind: Store, file: Path, tmp_path: Path
) -> None:
    store.put("large", file.read_bytes())
    wanted = bucket.find("large")
    assert wanted is not None
    store.faults = [Fault("cut", part="large", times=4)]  # each piece is half of what is left
    bucket.fetch(wanted, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    store.faults = [Fault("cut", part="large")]
    with pytest.raises(SourceError, match="broke off again and again"):
        bucket.fetch(wanted, tmp_path / "second")
    store.faults = []
    store.client.delete_object(Bucket=BUCKET, Key="large")
    with pytest.raises(SourceError, match=f"{kind}://photos/large is gone"):
        bucket.fetch(wanted, tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GOOGLE_BASE_URL", "localhost:9000", "GOOGLE_BASE_URL is no address"),
        ("GOOGLE_BASE_URL", "http://h:99999", "GOOGLE_BASE_URL is no address"),
        ("GOOGLE_BASE_URL", f"http://h:{'9' * 5000}", "GOOGLE_BASE_URL is no address"),
        ("GOOGLE_BASE_URL", "http://a b", "GOOGLE_BASE_URL is no address"),
        ("GOOGLE_BASE_URL", "http://me:secret@h", "GOOGLE_BASE_URL is no address"),
        ("GOOGLE_SKIP_SIGNATURE", "maybe", "cannot be used"),
        ("GOOGLE_BEARER_TOKEN", "token\n", "cannot be used"),
    ],
)
def test_settings_that_cannot_work(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", store.address)
    monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=said):
        opened("gs").find("key")


def test_ctrl_c_ends_a_call_that_waits(store: ObjectStore) -> None:
    store.faults = [Fault("kept back", method="HEAD")]
    wait = (
        "from opsin.stores.bucket import open_bucket\n"
        "from opsin.stores.bucket import StoreAddress\n"
        "open_bucket(StoreAddress.read('gs://photos/key')).find('key')\n"
    )
    with subprocess.Popen([sys.executable, "-c", wait], stderr=subprocess.PIPE) as process:
        assert store.waiting.wait(60)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=20)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not copied here")
def test_a_copied_process_does_not_wait_for_ever(store: ObjectStore) -> None:
    store.put("key", b"content")
    asks = (
        "import os; from opsin.stores.bucket import open_bucket\n"
        "from opsin.stores.bucket import StoreAddress\n"
        "find = open_bucket(StoreAddress.read('gs://photos/key')).find\nassert find('key')\n"
        "if child := os.fork(): os.waitpid(child, 0)\nelse: find('key')\n"
    )
    assert "(fork)" in python("-W", "ignore", "-c", asks, check=False).stderr


def test_one_that_trickles(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1)
    store.put("key", b"content")
    with pytest.raises(SourceError, match="comes too slowly"):
        opened().content(StoredObject(BUCKET, "key", 7, '"1"'))


def test_renewed_credentials_count(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one = opened()
    assert opened() is one
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    assert opened() is not one
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    store.put("key", b"content")
    assert [each.key for each in opened().objects()] == ["key"]


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
