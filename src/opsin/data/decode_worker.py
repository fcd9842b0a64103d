"""The worker of `opsin.data.sandboxed_decoding`: it opens untrusted images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import AvifImagePlugin, Image
from PIL.PpmImagePlugin import PpmDecoder

from opsin.core.child_process import Header, whole
from opsin.core.metadata import Preparation
from opsin.data import formats, images

# Each thread would reserve memory beyond this process's limit.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Bytes of rows per piece: Pillow keeps two copies of what it converts.
_PIECE: Final = 8 << 20
# Numbers of a PNM that are brought to bytes at a time.
_NUMBERS: Final = 1 << 20


def decode(header: Header, body: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Prepare a file, open it, or read its header, as `opsin.core.sandbox` asks."""
    content, name = whole(body), header["name"]
    if header["do"] == "prepare":
        preparation = Preparation.model_validate(header["preparation"])
        pixels, *rest = images.prepare_here(content, preparation, name, match=header["match"])
        return {"rest": rest}, [pixels.tobytes()]
    if header["do"] == "read_header":
        return {"seen": images.read_header_here(content, name)}, []
    with images.explained(name):
        kind = formats.open_header(content, name).format
    with images.open_here(content, None, name) as upright:
        image = upright.image
        if header["side"] is not None:
            image.thumbnail((header["side"], header["side"]))
        shape = (image.height, image.width, len(image.getbands()))
        step = max(1, _PIECE // (image.width * shape[2]))
        return {"format": kind, "shape": shape}, [
            np.asarray(image.crop((0, top, image.width, min(top + step, image.height)))).tobytes()
            for top in range(0, image.height, step)
        ]


class _PnmDecoder(PpmDecoder):
    """P5 and P6 whose white is neither 255 nor 65,535: Pillow reads number by number in Python."""

    def decode(self, buffer: object) -> tuple[int, int]:  # noqa: ARG002  it reads by itself
        """Take the rest of the file as the image."""
        maxval = self.args[-1]
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        kind = np.dtype(">u2" if maxval > 255 else np.uint8)
        content = self.fd.read(count * kind.itemsize)  # type: ignore[union-attr]
        values = np.frombuffer(content, kind, len(content) // kind.itemsize)
        most, own = (65535, "<i4") if self.mode == "I" else (255, "u1")
        raw = bytearray()
        for start in range(0, len(values), _NUMBERS):
            block = np.minimum(values[start : start + _NUMBERS], maxval)
            raw += np.rint(block / maxval * most).astype(own).tobytes()
        self.set_as_raw(bytes(raw), "I;32" if self.mode == "I" else self.mode)
        return -1, 0


Image.register_decoder("ppm", _PnmDecoder)
