"""Images as the files of a form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from opsin.server.predict_requests import TooLarge
from opsin.web.refusals import BadRequest

# A part of a form has three headers, and a file name is no novel.
_PART_HEADERS: Final = 8
_PART_HEADER_SIZE: Final = 4096
_PLAIN: Final = (b"binary", b"8bit", b"7bit")


@dataclass(frozen=True)
class Upload:
    """An image as it was sent.

    Args:
        name: What its answer is called: the file's name where the client gave one.
        content: The file's bytes.
    """

    name: str
    content: bytes = field(repr=False)


def too_many(most: int) -> TooLarge:
    """Return the error that there are more images than allowed."""
    return TooLarge(f"at most {most:,} images", "there are more", "Send them in several requests.")


class Form:
    """A ``multipart/form-data`` body on its way in (RFC 7578): each file is an image.

    Args:
        content_type: The request's, with the boundary.
        most: Parts it may have.

    Raises:
        BadRequest: There is no usable boundary.
    """

    def __init__(self, content_type: str, most: int) -> None:
        self._most = most
        self._parts: list[Upload] = []
        self._name: str | None = None
        self._pieces: list[bytes] = []
        self._header = self._value = b""
        self._count, self._ended = 0, False
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise self._wrong("Content-Type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
                max_header_count=_PART_HEADERS,
                max_header_size=_PART_HEADER_SIZE,
            )
        except FormParserError:
            raise self._wrong("its boundary is too long") from None

    def write(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            BadRequest: It is no form.
            TooLarge: There are too many parts.
        """
        try:
            self._parser.write(piece)
        except FormParserError:
            raise self._wrong("the body is no such form") from None

    def images(self) -> list[Upload]:
        """Return what was sent, once all of it is there.

        Raises:
            BadRequest: The form is cut short, or holds no image.
        """
        if not self._ended:
            raise self._wrong("the body ends before the form does")
        if not self._parts:
            raise self._wrong("it holds none")
        return self._parts

    def _begin(self) -> None:
        self._count += 1
        if self._count > self._most:
            raise too_many(self._most)
        self._name, self._pieces = None, []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        header, value = self._header.lower(), self._value
        self._header = self._value = b""
        if header == b"content-disposition":
            name = parse_options_header(value)[1].get(b"filename")
            self._name = None if name is None else name.decode("utf-8", "replace")
        elif header == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN:
            raise self._wrong("a part has a Content-Transfer-Encoding")

    def _on_headers(self) -> None:
        if self._name is None:
            raise self._wrong("a part is no file; options such as top belong behind the ? instead")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        content = b"".join(self._pieces)
        self._pieces = []
        if content or self._name:  # else: a page's file field in which nothing was chosen
            self._parts.append(Upload(self._name or f"image {self._count}", content))

    def _finish(self) -> None:
        self._ended = True

    @staticmethod
    def _wrong(received: str) -> BadRequest:
        return BadRequest(
            "images as the files of a form (multipart/form-data)",
            received,
            "With curl: -F image=@boot.png, once for each image.",
        )
