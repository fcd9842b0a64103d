"""PNM decoders for Pillow; its own read text and unusual depths number by number in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PpmImagePlugin import PpmDecoder, PpmPlainDecoder

# Bytes that become numbers at a time.
_BLOCK: Final = 1 << 20
# Digits of the longest number, as Pillow has it.
_DIGITS: Final = 10
_SPACES: Final = b" \t\n\r\f\v"
_IS_SPACE: Final = np.isin(np.arange(256), list(_SPACES))
_IS_DIGIT: Final = np.isin(np.arange(256), list(b"0123456789"))
_BITS: Final = bytes.maketrans(b"01", b"\xff\x00")


def register() -> None:
    """Let Pillow use these decoders, in the whole process."""
    Image.register_decoder("ppm", _BinaryDecoder)
    Image.register_decoder("ppm_plain", _TextDecoder)


class _TextDecoder(PpmPlainDecoder):
    """P1, P2 and P3."""

    def _text(self) -> bytes:
        text: bytes = self.fd.read()  # type: ignore[union-attr]
        return b"".join(_without_comments(text)) if b"#" in text else text

    def _decode_bitonal(self) -> bytearray:
        bits = self._text().translate(None, _SPACES)[: self.state.xsize * self.state.ysize]
        if bits.translate(None, b"01"):
            raise ValueError("Invalid token for this mode")
        return bytearray(bits.translate(_BITS))

    def _decode_blocks(self, maxval: int) -> bytearray:
        bands = Image.getmodebands(self.mode)
        return _scaled(
            _numbers(self._text()), self.state.xsize * self.state.ysize * bands, maxval, self.mode
        )


class _BinaryDecoder(PpmDecoder):
    """P5 and P6 whose white is neither 255 nor 65,535."""

    def decode(self, buffer: object) -> tuple[int, int]:  # noqa: ARG002  it reads by itself
        """Take the rest of the file as the image."""
        maxval = self.args[-1]
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        kind = np.dtype(">u2" if maxval > 255 else np.uint8)
        content = self.fd.read(count * kind.itemsize)  # type: ignore[union-attr]
        values = np.frombuffer(content, kind, len(content) // kind.itemsize)
        step = _BLOCK // kind.itemsize
        blocks = (
            np.minimum(values[start : start + step], maxval)
            for start in range(0, len(values), step)
        )
        raw = _scaled(blocks, count, maxval, self.mode)
        self.set_as_raw(bytes(raw), "I;32" if self.mode == "I" else self.mode)
        return -1, 0


def _without_comments(text: bytes) -> Iterator[bytes]:
    """Yield a text without what stands between ``#`` and the end of its line."""
    inside = False
    for start in range(0, len(text), _BLOCK):
        block = np.frombuffer(text, np.uint8, min(_BLOCK, len(text) - start), start)
        place = np.arange(len(block))
        mark = np.maximum.accumulate(np.where(block == ord("#"), place, -1))
        ended = (block == ord("\n")) | (block == ord("\r"))
        line = np.maximum.accumulate(np.where(ended, place, -1))
        comment = (mark > line) | (inside & (line < 0))
        inside = bool(comment[-1])
        yield block[~comment].tobytes()


def _numbers(text: bytes) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of a text, block by block."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        while end < len(text) and not _IS_SPACE[text[end]]:  # not through a number
            end += 1
            if end > start + _BLOCK + _DIGITS:
                raise ValueError("Token too long")
        block = np.frombuffer(text, np.uint8, end - start, start)
        digit = _IS_DIGIT[block]
        if not (digit | _IS_SPACE[block]).all():
            raise ValueError("Invalid token")
        edges = np.diff(digit.astype(np.int8), prepend=0, append=0)
        ends = np.flatnonzero(edges == -1)
        lengths = ends - np.flatnonzero(edges == 1)
        longest = int(lengths.max(initial=0))
        if longest > _DIGITS:
            raise ValueError("Token too long")
        values = np.zeros(len(ends), np.int64)
        for place in range(longest):
            has = lengths > place
            values[has] += (block[ends[has] - 1 - place].astype(np.int64) - ord("0")) * 10**place
        yield values
        start = end


def _scaled(blocks: Iterable[NDArray[np.integer]], count: int, maxval: int, mode: str) -> bytearray:
    """Bring the first ``count`` numbers from 0 … ``maxval`` to what Pillow's mode holds."""
    most, kind = (65535, "<i4") if mode == "I" else (255, "u1")
    data = bytearray()
    for block in blocks:
        values = block[:count]
        if values.max(initial=0) > maxval:
            raise ValueError("Channel value too large for this mode")
        data += np.rint(values / maxval * most).astype(kind).tobytes()
        count -= len(values)
        if not count:
            break
    return data
