"""Uploads go on where they stopped, stay within their limits, and become sources."""

import asyncio
import os
import resource
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import AsyncMock

import httpx
import pytest

from opsin.core.errors import SourceError
from opsin.studio.datasets.uploads import PART_MOST, SentFile, Uploads, UploadTooLarge, add_routes
from opsin.studio.errors import new_api
from opsin.web.refusals import BadRequest
from tests.studio.made_jobs import put
from tests.web.made_requests import scope_of

pytestmark = pytest.mark.anyio

KEY, BATCH = "0123456789abcdef", "00000000000000ba"


@pytest.fixture
def client(uploads: Uploads) -> httpx.AsyncClient:
    api = new_api()
    add_routes(api, uploads)
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://studio")


async def test_parts_are_joined_at_offsets(client: httpx.AsyncClient, uploads: Uploads) -> None:
    assert (await client.get(f"/uploads/{KEY}")).json() == {"offset": 0}
    for offset, part in ((0, b"first "), (6, b"second")):
        reply = await client.put(f"/uploads/{KEY}?offset={offset}", content=part)
        assert reply.json() == {"offset": offset + len(part)}
    for wrong in (0, 5, 13, 10**12):
        reply = await client.put(f"/uploads/{KEY}?offset={wrong}", content=b"x")
        assert (reply.status_code, reply.json()) == (409, {"offset": 12})
    assert (await client.get(f"/uploads/{KEY}")).json() == {"offset": 12}
    assert uploads.take(KEY) == b"first second"
    assert uploads.offset(KEY) == 0


@pytest.mark.parametrize(
    "key",
    ["", "..", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "../../../etc/pass"],
)
def test_nothing_but_a_key_is_a_key(uploads: Uploads, client: httpx.AsyncClient, key: str) -> None:
    for ask in (uploads.offset, uploads.path, uploads.take, uploads.drop):
        with pytest.raises(BadRequest):
            ask(key)
    if key and "." not in key:  # else the address is another one
        for method in ("GET", "PUT", "DELETE"):
            reply = asyncio.run(client.request(method, f"/uploads/{key}?offset=0", content=b"x"))
            assert (reply.status_code, reply.json()["error"]["kind"]) == (400, "BadRequest")


async def test_too_much_is_refused_on_its_way(client: httpx.AsyncClient, uploads: Uploads) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 50_000_000:
            taken += 1 << 19
            yield bytes(1 << 19)

    reply = await client.put(f"/uploads/{KEY}?offset=0", content=endless())
    assert reply.status_code == 413
    assert "may have 3.00 MB" in reply.json()["error"]["message"]
    assert taken < 6_000_000
    assert 0 < uploads.offset(KEY) <= 3_000_000
    uploads.drop(KEY)
    # Where the size is stated, nothing of it is taken.
    taken = 47_000_000
    stated = {"content-length": "3000001"}
    reply = await client.put(f"/uploads/{BATCH}?offset=0", content=endless(), headers=stated)
    assert reply.status_code == 413
    assert uploads.offset(BATCH) == 0


def test_one_request_is_no_whole_upload(client: httpx.AsyncClient, uploads: Uploads) -> None:
    uploads._most_bytes = 1 << 40

    async def more() -> AsyncIterator[bytes]:
        for _ in range(PART_MOST // (1 << 22) + 1):
            yield bytes(1 << 22)

    assert asyncio.run(client.put(f"/uploads/{KEY}?offset=0", content=more())).status_code == 413


async def test_two_windows_send_the_same_file(client: httpx.AsyncClient, uploads: Uploads) -> None:
    content = os.urandom(300_000)

    async def send() -> None:
        offset = 0
        while offset < len(content):
            part = content[offset : offset + 50_000]
            reply = await client.put(f"/uploads/{KEY}?offset={offset}", content=part)
            assert reply.status_code in {200, 409}
            offset = reply.json()["offset"]

    await asyncio.gather(send(), send(), send())
    assert uploads.take(KEY) == content


async def test_of_a_request_that_breaks_off_the_beginning_is_kept(uploads: Uploads) -> None:
    add_routes(api := new_api(), uploads)
    part = {"type": "http.request", "body": b"beginning", "more_body": True}
    scope = scope_of([], path=f"/uploads/{KEY}", method="PUT", query=b"offset=0")
    await api(scope, AsyncMock(side_effect=[part, {"type": "http.disconnect"}]), AsyncMock())
    assert uploads.offset(KEY) == len(b"beginning")


@pytest.mark.skipif(os.name == "nt", reason="needs limits of processes")
def test_of_an_upload_that_the_disk_refuses_nothing_is_kept(
    client: httpx.AsyncClient, uploads: Uploads, tmp_path: Path
) -> None:
    async def send(size: int, offset: int = 0) -> httpx.Response:
        return await client.put(f"/uploads/{KEY}?offset={offset}", content=bytes(size))

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, old[1]))
    try:
        assert asyncio.run(send(1_000_000)).json() == {"offset": 1_000_000}
        reply = asyncio.run(send(1_000_000, 1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert reply.status_code == 507
    error = reply.json()["error"]
    assert "The disk is full" in error["message"]
    assert "Free some space" in error["advice"]
    assert str(tmp_path) not in reply.text
    assert list((tmp_path / "home" / "uploads").iterdir()) == []
    assert uploads.append(KEY, 0, bytes(3_000_000)) == 3_000_000  # its bytes are given back


def test_what_nobody_goes_on_with_is_swept(uploads: Uploads) -> None:
    uploads.append(KEY, 0, b"old")
    uploads.append("1" * 16, 0, b"new")
    then = time.time() - 90_000
    os.utime(uploads.path(KEY), (then, then))
    uploads.sweep()
    assert uploads.offset(KEY) == 0
    assert uploads.offset("1" * 16) == 3
    assert uploads.append("2" * 16, 0, bytes(2_999_997)) == 2_999_997


def test_nobody_waits_for_a_slow_archive(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(file: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        raise SourceError(f"{file} is none")

    monkeypatch.setattr("opsin.studio.datasets.uploads.unpack_archive", slow)
    archive, image = put(uploads, "a.zip", b"x", 1), put(uploads, "1.png", b"x", 2)
    with ThreadPoolExecutor(2) as windows:
        try:
            first = windows.submit(uploads.finish, [archive], tmp_path / "first")
            assert begun.wait(30)
            with pytest.raises(SourceError, match="Another window"):
                windows.submit(uploads.finish, [archive, image], tmp_path / "2").result(10)
            windows.submit(uploads.finish, [image], tmp_path / "third").result(10)
        finally:
            go_on.set()
        assert isinstance(first.exception(), SourceError)
    with pytest.raises(SourceError, match="not arrived whole"):  # and no window has it
        uploads.finish([archive], tmp_path / "first")


def test_space_is_counted_and_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Path] = []

    def measure(home: Path) -> int:
        measured.append(home)
        return 5

    monkeypatch.setattr("opsin.studio.datasets.uploads.size_of", measure)
    uploads = Uploads(tmp_path / "home", most_bytes=1000, most_files=3, most_disk=1300)
    keys = [f"{number:016x}" for number in range(6)]
    for _ in range(20):
        for key in keys[:3]:
            uploads.append(key, 0, bytes(300))
        for refused in (keys[0], 300), (keys[3], 0):
            with pytest.raises(UploadTooLarge):
                uploads.append(*refused, bytes(200))
        with ThreadPoolExecutor(6) as windows:
            list(windows.map(uploads.drop, keys[:3] * 2))
    files = [SentFile(key=key, name="1.png", path="", size=300) for key in keys[:3]]
    for key in keys[:3]:
        uploads.append(key, 0, bytes(300))
    uploads.finish(files, tmp_path / "home" / "new")
    with pytest.raises(UploadTooLarge, match="The studio may keep"):  # 905 are used
        uploads.append(KEY, 0, bytes(500))
    uploads.append(KEY, 0, bytes(300))
    assert len(measured) == 1


def test_of_what_is_refused_nothing_unusable_stays(uploads: Uploads, tmp_path: Path) -> None:
    names = {"0" * 16: "../1.png", "1" * 16: "notes.txt", "2" * 16: "2.png"}
    files = [SentFile(key=key, name=name, path=name, size=3) for key, name in names.items()]
    for key in names:
        uploads.append(key, 0, b"abc")
    with pytest.raises(SourceError, match="leads out"):
        uploads.finish(files, tmp_path / "new")
    assert [uploads.offset(key) for key in names] == [3, 0, 3]
    uploads.append("1" * 16, 0, b"abc")
    with pytest.raises(SourceError, match="No photographs"):
        uploads.finish(files[1:2], tmp_path / "new")
    assert uploads.offset("1" * 16) == 0


def test_two_windows_that_add_to_one_set_lose_no_image(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "home", most_bytes=3_000_000, most_files=1000)
    into = tmp_path / "images"
    (into / "cat").mkdir(parents=True)

    def send(window: int) -> None:
        files = [
            put(uploads, "1.png", f"{at}".encode(), at, "cat/1.png")
            for at in range(30 * window, 30 * (window + 1))
        ]
        uploads.finish(files, into)

    with ThreadPoolExecutor(4) as windows:
        list(windows.map(send, range(4)))
    assert len({file.read_bytes() for file in into.rglob("*.png")}) == 4 * 30
