"""What the process does that opens strangers' images; `opsin.data.sandboxed_decoding` asks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image
from PIL.PpmImagePlugin import PpmDecoder, PpmPlainDecoder

from opsin.core.child_process import Header, whole
from opsin.core.metadata import Preparation
from opsin.data import formats, images

# Each thread would reserve memory that this process may not have.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Bytes of rows that are handed over at a time: Pillow holds what it converts twice.
_PIECE: Final = 8 << 20


def decode(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Do what `opsin.core.sandbox` is asked with a file's bytes: prepare, open, read its header."""
    content, name = whole(body), header["name"]
    if header["do"] == "prepare":
        preparation = Preparation.model_validate(header["preparation"])
        pixels, *rest = images.prepare_here(content, preparation, name, match=header["match"])
        return {"rest": rest}, [pixels.tobytes()]
    if header["do"] == "read_header":
        return {"seen": images.read_header_here(content, name)}, []
    return _open(content, name, header["side"])


def _open(content: bytes, name: str, side: int | None) -> tuple[Header, Sequence[bytes]]:
    with images.explained(name):
        opened = formats.open_header(content, name)
        said: Header = {"format": opened.format, "orientation": formats.orientation_of(opened)}
    with images.open_here(content, None, name) as upright:
        image = upright.image
        if side is not None:
            image.thumbnail((side, side))
        said["shape"] = [image.height, image.width, len(image.getbands())]
        said["size"] = [upright.width, upright.height]
        step = max(1, _PIECE // (image.width * len(image.getbands())))
        return said, [
            np.asarray(image.crop((0, top, image.width, min(top + step, image.height)))).tobytes()
            for top in range(0, image.height, step)
        ]


# PNM: Pillow reads text and unusual depths number by number in Python.
# Numbers that are brought to bytes at a time.
_BLOCK: Final = 1 << 20
# Digits of the longest number, as Pillow has it.
_TOO_LONG: Final = re.compile(rb"\d{11}")
_COMMENT: Final = re.compile(rb"#[^\r\n]*")
_BITS: Final = bytes.maketrans(b"01", b"\xff\x00")
_SPACES: Final = b" \t\n\r\f\v"


class _TextDecoder(PpmPlainDecoder):
    """P1, P2 and P3."""

    def _text(self) -> bytes:
        text: bytes = self.fd.read()  # type: ignore[union-attr]
        return _COMMENT.sub(b"", text) if b"#" in text else text

    def _decode_bitonal(self) -> bytearray:
        bits = self._text().translate(None, _SPACES)[: self.state.xsize * self.state.ysize]
        if bits.translate(None, b"01"):
            raise ValueError("Invalid token for this mode")
        return bytearray(bits.translate(_BITS))

    def _decode_blocks(self, maxval: int) -> bytearray:
        text = self._text()
        if text.translate(None, _SPACES + b"0123456789") or _TOO_LONG.search(text):
            raise ValueError("Invalid token")
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        # Any whitespace counts, and without any text there is no number.
        numbers = np.fromstring(text, np.int64, sep=" ")[:count] if text.strip() else np.zeros(0)
        if numbers.max(initial=0) > maxval:
            raise ValueError("Channel value too large for this mode")
        return _scaled(numbers, maxval, self.mode)


class _BinaryDecoder(PpmDecoder):
    """P5 and P6 whose white is neither 255 nor 65,535."""

    def decode(self, buffer: object) -> tuple[int, int]:  # noqa: ARG002  it reads by itself
        """Take the rest of the file as the image."""
        maxval = self.args[-1]
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        kind = np.dtype(">u2" if maxval > 255 else np.uint8)
        content = self.fd.read(count * kind.itemsize)  # type: ignore[union-attr]
        values = np.frombuffer(content, kind, len(content) // kind.itemsize)
        raw = _scaled(np.minimum(values, maxval), maxval, self.mode)
        self.set_as_raw(bytes(raw), "I;32" if self.mode == "I" else self.mode)
        return -1, 0


def _scaled(numbers: NDArray[Any], maxval: int, mode: str) -> bytearray:
    """Bring numbers from 0 … ``maxval`` to what Pillow's mode holds."""
    most, kind = (65535, "<i4") if mode == "I" else (255, "u1")
    data = bytearray()
    for start in range(0, len(numbers), _BLOCK):
        block = numbers[start : start + _BLOCK]
        data += np.rint(block / maxval * most).astype(kind).tobytes()
    return data


Image.register_decoder("ppm", _BinaryDecoder)
Image.register_decoder("ppm_plain", _TextDecoder)
