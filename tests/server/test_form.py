"""Forms: files are images, and hostile ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.server.form import Form, Upload
from opsin.server.predict_requests import TooLarge
from opsin.web.refusals import BadRequest

KIND = "multipart/form-data; boundary=cut"


def part(content: bytes = b"image", *headers: str, name: str = "a.png") -> bytes:
    lines = [f'Content-Disposition: form-data; name="image"; filename="{name}"', *headers]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return b"--cut\r\n" + head + b"\r\n" + content + b"\r\n"


def images(body: bytes, *, kind: str = KIND, most: int = 10, step: int = 0) -> list[Upload]:
    form = Form(kind, most)
    step = step or max(1, len(body))
    for start in range(0, len(body), step):
        form.write(body[start : start + step])
    return form.images()


END = b"--cut--\r\n"


def test_files() -> None:
    body = part(b"one") + part(b"two", "Content-Type: image/png", name="ä b.jpg") + END
    assert images(body) == [Upload("a.png", b"one"), Upload("ä b.jpg", b"two")]
    assert images(body, kind='multipart/form-data; boundary="cut"', step=1) == images(body)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4), st.integers(1, 50))
def test_any_content_comes_back(contents: list[bytes], step: int) -> None:
    if any(b"--cut" in content for content in contents):
        return
    body = b"".join(part(content) for content in contents) + END
    assert [upload.content for upload in images(body, step=step)] == contents


def test_too_many_parts() -> None:
    assert len(images(part() * 10 + END)) == 10
    form = Form(KIND, 10)
    with pytest.raises(TooLarge, match="at most 10"):
        form.write(part() * 11)


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""',
     "multipart/form-data; boundary*=cut", "multipart/form-data; boundary=" + "x" * 1000],
)  # fmt: skip
def test_no_boundary(kind: str) -> None:
    with pytest.raises(BadRequest):
        Form(kind, 10)


@pytest.mark.parametrize(
    "body",
    [
        b"", END, b"image", part(), part() + part()[:-5], part() + b"--cut",
        part()[:-2] + b"\r\n--cu", b"--other\r\n" + part() + END,
        b"--cut\r\n\r\nimage\r\n" + END,  # a part without headers
        b'--cut\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n' + END,
        part(b"cGljdHVyZQ==", "Content-Transfer-Encoding: base64") + END,
        part(b"", *[f"X-{number}: 1" for number in range(20)]) + END,
        part(b"", "X: " + "y" * 100_000) + END,
        part(name="a" * 10_000) + END,
        b"--cut\r\n" + b"X" * 100_000,
        b"--cut\r\n: empty\r\n\r\n" + END,
        b"--cut\r\nContent-Disposition\r\n\r\n" + END,
        part(b"", name="") + END,  # a field in which nothing was chosen
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1000])
def test_forms_that_are_none(body: bytes, step: int) -> None:
    with pytest.raises(BadRequest):
        images(body, step=step)


def test_a_form_inside_a_form_is_an_image_of_bytes() -> None:
    inner = b"--in\r\n\r\nx\r\n--in--\r\n"
    (upload,) = images(part(inner, "Content-Type: multipart/mixed; boundary=in") + END)
    assert upload.content == inner


def test_an_empty_file_has_a_name() -> None:
    assert images(part(b"") + END) == [Upload("a.png", b"")]


def test_what_comes_after_the_end_is_nothing() -> None:
    assert len(images(part() + END + part() + b"junk")) == 1


def test_a_path_for_a_name_is_only_a_name() -> None:
    (upload,) = images(part(name="../../etc/passwd") + END)
    assert upload.name == "../../etc/passwd"
