"""P5 and P6 whose white is neither 255 nor 65,535: Pillow reads number by number in Python."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image
from PIL.PpmImagePlugin import PpmDecoder

# Numbers that are brought to bytes at a time.
_NUMBERS: Final = 1 << 20


class _PnmDecoder(PpmDecoder):
    def decode(self, buffer: object) -> tuple[int, int]:  # noqa: ARG002  it reads by itself
        maxval = self.args[-1]
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        kind = np.dtype(">u2" if maxval > 255 else np.uint8)
        content = self.fd.read(count * kind.itemsize)  # type: ignore[union-attr]
        values = np.frombuffer(content, kind, len(content) // kind.itemsize)
        most, dtype = (65535, "<i4") if self.mode == "I" else (255, "u1")
        raw = bytearray()
        for start in range(0, len(values), _NUMBERS):
            block = np.minimum(values[start : start + _NUMBERS], maxval)
            raw += np.rint(block / maxval * most).astype(dtype).tobytes()
        self.set_as_raw(bytes(raw), "I;32" if self.mode == "I" else self.mode)
        return -1, 0


Image.register_decoder("ppm", _PnmDecoder)
