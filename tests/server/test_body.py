"""Bodies become images, and nothing else: limits hold while they arrive."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.requests import ClientDisconnect, Request

from opsin.server import ServerSettings
from opsin.server.body import MemoryBudget, Upload, images_of_json, read_images, while_connected
from opsin.server.errors import Overloaded, SlowRequest, TooLarge, WrongMediaType
from opsin.web.refusals import BadRequest, RequestError

SMALL = ServerSettings(max_bytes=1000, deadline=60)
HURRIED = ServerSettings(max_bytes=1000, deadline=0.2)
ROOMY = ServerSettings(max_bytes=1_000_000)
FORM = "multipart/form-data; boundary=cut"


class Pieces:
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
        return {"type": "http.request", "body": piece, "more_body": self._more or self._left > 0}


def read(
    receive: Any,
    kind: str | None = "image/png",
    *headers: tuple[bytes, bytes],
    settings: ServerSettings = SMALL,
    budget: MemoryBudget | None = None,
) -> list[Upload]:
    given = [*headers] if kind is None else [(b"content-type", kind.encode()), *headers]
    budget = budget or MemoryBudget(25 * settings.max_bytes)
    before = budget.left

    async def work() -> list[Upload]:
        request = Request({"type": "http", "headers": given}, receive)
        with budget.lend() as take:
            return await read_images(request, settings, take, 3)

    try:
        return asyncio.run(work())
    finally:
        assert budget.left == before, "room was not given back"


@pytest.mark.parametrize(
    "kind", ["image/png", "IMAGE/JPEG", "image/x-anything; q=1", "application/octet-stream", None]
)
def test_raw(kind: str | None) -> None:
    (upload,) = read(Pieces(b"ab", b"", b"c"), kind, (b"content-encoding", b"identity"))
    assert upload.content == b"abc"


@pytest.mark.parametrize(
    ("kind", "coding"),
    [("text/plain", b""), ("application/x-www-form-urlencoded", b""), ("images/png", b""),
     ("multipart/mixed; boundary=x", b""), ("application/json5", b""), ("image/png", b"gzip"),
     ("image/png", b"identity, gzip")],
)  # fmt: skip
def test_other_kinds(kind: str, coding: bytes) -> None:
    with pytest.raises(WrongMediaType):
        read(Pieces(b"abc"), kind, (b"content-encoding", coding))


@pytest.mark.parametrize("kind", ["image/png", "application/json", FORM])
def test_empty_slow_and_broken_off_bodies(kind: str) -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(BadRequest):
        read(Pieces(b""), kind)
    with pytest.raises(SlowRequest):
        read(Pieces(b"--cut\r\n", more=True), kind, settings=HURRIED)
    with pytest.raises(ClientDisconnect):
        read(gone, kind)


@pytest.mark.parametrize("kind", ["image/png", "application/json", FORM])
def test_too_many_bytes_are_not_read(kind: str) -> None:
    body = Pieces(endless=True)
    with pytest.raises(RequestError):
        read(body, kind)
    assert body.taken <= 11  # the piece that was too much, and none after it
    stated = Pieces(endless=True)
    with pytest.raises(TooLarge, match="has 1,001"):
        read(stated, kind, (b"content-length", b"1001"))
    assert stated.taken == 0


def test_room_is_shared() -> None:
    budget = MemoryBudget(1500)
    with budget.lend() as take:
        take(600)
        with pytest.raises(Overloaded):
            read(Pieces(b"x" * 500, b"x" * 450), budget=budget)
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
        b'{"images": [["aGk="]]}', b'{"image": "aGk=", "images": ["aGk="]}', b'{"photo": "aGk="}',
        b'{"image": "aGk"}', b'{"image": "aG k="}', b'{"image": "aGk=\\n"}', b'{"image": "a"}',
        b'{"image": "aGk=aGk="}', b'{"image": "\xc3\xa4\xc3\xa4=="}', b'{"image": "-_-_"}',
        b'{"image": "data:image/png,aGk="}', b'{"image": "https://example.org/x.png"}',
        b'{"image": "file:///etc/passwd"}', b'{"image": NaN}', b'{"image": 1e999999}',
        b'{"image": "\\ud800"}', b'{"images": [' + b"[]," * 2001 + b"[]]}",
    ],
)  # fmt: skip
def test_json_that_is_none(body: bytes) -> None:
    with pytest.raises((BadRequest, TooLarge)) as caught:
        images_of_json(body, 1000)
    assert len(str(caught.value)) < 400


@given(
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["image", "images", "x"]), x),
    )
)
def test_any_json(value: object) -> None:
    try:
        uploads = images_of_json(as_json(value), 2)
    except (BadRequest, TooLarge):
        return
    assert isinstance(value, dict)
    assert 1 <= len(uploads) <= 2


def part(content: bytes = b"image", *headers: str, name: str = "a.png") -> bytes:
    lines = [f'Content-Disposition: form-data; name="image"; filename="{name}"', *headers]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return b"--cut\r\n" + head + b"\r\n" + content + b"\r\n"


END = b"--cut--\r\n"


def test_files_of_a_form() -> None:
    body = part(b"one") + part(b"two", "Content-Type: image/png", name="ä b.jpg") + END
    wanted = [Upload("a.png", b"one"), Upload("ä b.jpg", b"two")]
    assert read(Pieces(body), FORM) == wanted
    assert read(Pieces(*(bytes([each]) for each in body)), FORM) == wanted
    assert read(Pieces(part(b"") + END), FORM) == [Upload("a.png", b"")]
    with pytest.raises(TooLarge, match="At most 3"):
        read(Pieces(part() * 4 + END), FORM, settings=ROOMY)


def test_a_large_file_of_a_form_comes_upon_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    content = bytes(1_500_000)
    settings = ServerSettings(max_bytes=2_000_000)
    (upload,) = read(Pieces(part(content) + END), FORM, settings=settings)
    assert upload.content == content


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=3), st.integers(1, 50))
def test_any_content_comes_back(contents: list[bytes], step: int) -> None:
    if any(b"--cut" in content for content in contents):
        return
    body = b"".join(part(content) for content in contents) + END
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    assert [upload.content for upload in read(Pieces(*pieces), FORM)] == contents


@pytest.mark.parametrize(
    "body",
    [
        END, b"image", part(), part() + part()[:-5], part() + b"--cut",
        part()[:-2] + b"\r\n--cu", b"--other\r\n" + part() + END,
        b"--cut\r\n\r\nimage\r\n" + END,  # a part without headers
        b'--cut\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n' + END,
        part(b"", *[f"X-{number}: 1" for number in range(20)]) + END,
        part(b"", "X: " + "y" * 100_000) + END,
        b"--cut\r\n" + b"X" * 100_000,
        b"--cut\r\n: empty\r\n\r\n" + END,
        part(b"", name="") + END,  # a field in which nothing was chosen
    ],
)  # fmt: skip
def test_forms_that_are_none(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(Pieces(body), FORM, settings=ROOMY)
    for boundary in ("", "; boundary=", "; boundary=" + "x" * 1000):
        with pytest.raises(BadRequest):
            read(Pieces(body), f"multipart/form-data{boundary}", settings=ROOMY)


def test_work_ends_once_the_client_has_gone() -> None:
    messages = iter(["http.request", "http.disconnect"])

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def main() -> None:
        # Who is answered at once is not looked for, and who is cancelled by others stays cancelled.
        assert await while_connected(receive, asyncio.sleep(0, "done")) == "done"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await while_connected(receive, asyncio.sleep(60))
        async with asyncio.timeout(30) as limit:
            with pytest.raises(ClientDisconnect):
                await while_connected(receive, asyncio.sleep(60))
            assert not limit.expired()

    asyncio.run(main())
