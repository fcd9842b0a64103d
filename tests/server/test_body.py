"""Bodies become images, and nothing else: limits hold while they arrive."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from opsin.server.body import Body, MemoryBudget, images_of_json, read_images
from opsin.server.form import Upload
from opsin.server.http_errors import SlowRequest, WrongMediaType
from opsin.server.predict_requests import Overloaded, TooLarge
from opsin.server.server_settings import ServerSettings
from opsin.web.refusals import BadRequest, RequestError

SMALL = ServerSettings(max_bytes=1000, max_parts=3, deadline=60)
HURRIED = dataclasses.replace(SMALL, deadline=0.2)


class Pieces:
    """A body that arrives in pieces, and counts how many were taken."""

    def __init__(self, *pieces: bytes, more: bool = False, endless: bool = False) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._more, self._endless, self._left = more, endless, len(pieces)
        self.taken = 0

    async def __call__(self) -> dict[str, Any]:
        self.taken += 1
        if self._endless:
            return {"type": "http.request", "body": b"x" * 100, "more_body": True}
        piece = next(self._pieces, None)
        if piece is None:  # nothing comes any more
            await asyncio.sleep(60)
        self._left -= 1
        return {
            "type": "http.request", "body": piece, "more_body": self._more or self._left > 0,
        }  # fmt: skip


def read(
    receive: Any,
    kind: str | None = "image/png",
    *headers: tuple[bytes, bytes],
    settings: ServerSettings = SMALL,
    budget: MemoryBudget | None = None,
) -> list[Upload]:
    given = [*headers] if kind is None else [(b"content-type", kind.encode()), *headers]
    budget = budget or MemoryBudget.of(settings)
    before = budget.left

    async def work() -> list[Upload]:
        with Body({"headers": given}, receive, settings, budget) as body:
            return await read_images(body, settings)

    try:
        return asyncio.run(work())
    finally:
        assert budget.left == before, "room was not given back"


@pytest.mark.parametrize(
    "kind", ["image/png", "IMAGE/JPEG", "image/x-anything; q=1", "application/octet-stream", None]
)
def test_raw(kind: str | None) -> None:
    (upload,) = read(Pieces(b"ab", b"", b"c"), kind)
    assert upload.content == b"abc"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "video/mp4", "images/png",
             "multipart/mixed; boundary=x", "application/json5"],
)  # fmt: skip
def test_other_kinds(kind: str) -> None:
    with pytest.raises(WrongMediaType):
        read(Pieces(b"abc"), kind)


def test_compressed_bodies() -> None:
    for coding in (b"gzip", b"br", b"identity, gzip"):
        with pytest.raises(WrongMediaType, match="compressed"):
            read(Pieces(b"abc"), "image/png", (b"content-encoding", coding))
    assert read(Pieces(b"abc"), "image/png", (b"content-encoding", b"identity"))


def test_an_empty_body() -> None:
    for kind in ("image/png", "application/json", "multipart/form-data; boundary=x"):
        with pytest.raises(BadRequest):
            read(Pieces(b""), kind)


@pytest.mark.parametrize("kind", ["image/png", "application/json"])
def test_too_many_bytes_are_not_read(kind: str) -> None:
    body = Pieces(endless=True)
    with pytest.raises(TooLarge, match="1,000 bytes"):
        read(body, kind)
    assert body.taken == 11  # the piece that was too much, and none after it
    form = Pieces(endless=True)
    with pytest.raises(RequestError):
        read(form, "multipart/form-data; boundary=x")
    assert form.taken <= 11
    stated = Pieces(endless=True)
    with pytest.raises(TooLarge, match="it has 1,001"):
        read(stated, kind, (b"content-length", b"1001"))
    assert stated.taken == 0
    assert read(Pieces(b"x" * 1000), "image/png", (b"content-length", b"1000"))


def test_a_slow_body() -> None:
    for kind in ("image/png", "application/json", "multipart/form-data; boundary=x"):
        with pytest.raises(SlowRequest):
            read(Pieces(b"--x\r\n", more=True), kind, settings=HURRIED)


def test_a_client_that_goes() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        read(gone)


def test_room_is_shared() -> None:
    budget = MemoryBudget(1500)
    budget.take(600)
    with pytest.raises(Overloaded) as caught:
        read(Pieces(b"x" * 500, b"x" * 450), budget=budget)
    assert caught.value.retry_after >= 1
    assert read(Pieces(b"x" * 900), budget=budget)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_json() -> None:
    text = base64.b64encode(b"image").decode()
    (one,) = read(Pieces(as_json({"image": text})), "application/json; charset=utf-8")
    assert one == Upload("image", b"image")
    many = images_of_json(as_json({"images": [text, f"data:image/png;base64,{text}"]}), 2)
    assert [upload.content for upload in many] == [b"image", b"image"]
    assert [upload.name for upload in many] == ["images[0]", "images[1]"]
    with pytest.raises(TooLarge):
        images_of_json(as_json({"images": [text] * 3}), 2)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe\xfa", b"1" * 5000, b"[" * 100_000,
        b'{"image": ' * 50_000, b"[]," * 100_000, b'{"image": 1}', b'{"image": null}',
        b'{"image": {}}', b'{"images": "aGk="}', b'{"images": []}', b'{"images": [1]}',
        b'{"images": [["aGk="]]}', b'{"image": "aGk=", "images": []}', b'{"photo": "aGk="}',
        b'{"image": "aGk"}', b'{"image": "aG k="}', b'{"image": "aGk=\\n"}', b'{"image": "a"}',
        b'{"image": "aGk=aGk="}', b'{"image": "\xc3\xa4\xc3\xa4=="}', b'{"image": "-_-_"}',
        b'{"image": "data:image/png,aGk="}', b'{"image": "https://example.org/x.png"}',
        b'{"image": "file:///etc/passwd"}', b'{"image": NaN}', b'{"image": 1e999999}',
        b'{"image": "\\ud800"}',
    ],
)  # fmt: skip
def test_json_that_is_none(body: bytes) -> None:
    with pytest.raises((BadRequest, TooLarge)) as caught:
        images_of_json(body, 1000)
    assert len(str(caught.value)) < 400


def test_json_that_would_grow_is_not_parsed() -> None:
    with pytest.raises(TooLarge):
        images_of_json(b'{"images": [' + b"[]," * 2001 + b"[]]}", 1000)


@given(st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["image", "images", "x"]), x)))  # fmt: skip
def test_any_json(value: object) -> None:
    try:
        uploads = images_of_json(as_json(value), 2)
    except (BadRequest, TooLarge):
        return
    assert isinstance(value, dict)
    assert 1 <= len(uploads) <= 2


@given(st.binary(max_size=200), st.sampled_from(
    ["image/png", "application/json", "multipart/form-data; boundary=x", "multipart/form-data",
     "", ";", "multipart/form-data; boundary=" + "x" * 300]))  # fmt: skip
def test_any_body(content: bytes, kind: str) -> None:
    for pieces in ([content], [bytes([byte]) for byte in content] or [b""]):
        try:
            uploads = read(Pieces(*pieces), kind)
        except RequestError:
            continue
        assert uploads


def test_what_bodies_leave_behind_is_collected_now_and_then() -> None:
    class Held:
        """Holds itself, as an error with a traceback does."""

    held = Held()
    held.itself = held  # type: ignore[attr-defined]
    seen, budget = weakref.ref(held), MemoryBudget(1_000_000_000)
    gc.disable()
    try:
        del held
        budget.give(255_000_000)
        assert seen() is not None
        budget.give(1_000_000)
        assert seen() is None
    finally:
        gc.enable()
