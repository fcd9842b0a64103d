"""What the process does that opens strangers' images; `opsin.data.sandboxed_decoding` asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import AvifImagePlugin, Image

from opsin.core.framing import Header, whole
from opsin.core.metadata import Preparation
from opsin.data import formats, images, pnm

Answer = tuple[Header, Sequence[bytes]]

# Each thread would reserve memory that this process may not have.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pnm.register()
# Bytes of rows that are handed over at a time: Pillow holds what it converts twice.
_PIECE: Final = 8 << 20


def decode(header: Header, body: memoryview) -> Answer:
    """Open an image: `opsin.core.sandbox` runs this.

    Args:
        header: ``do``: what is asked; ``name``: what to call the image in an error; what else it
            takes.
        body: The file's bytes.

    Raises:
        ImageError: It cannot be read.
    """
    return _ASKED[header["do"]](whole(body), header)


def _open(content: bytes, asked: Header) -> Answer:
    name, side = asked["name"], asked["side"]
    with images.explained(name):
        header = formats.open_header(content, name)
        kind, orientation = header.format, formats.orientation_of(header)
    with images.open_here(content, None, name) as upright:
        image = upright.image
        if side is not None:
            image.thumbnail((side, side))
        said = {
            "shape": [image.height, image.width, len(image.getbands())],
            "size": [upright.width, upright.height],
            "format": kind,
            "orientation": orientation,
        }
        return said, _rows(image)


def _prepare(content: bytes, asked: Header) -> Answer:
    preparation = Preparation.model_validate(asked["preparation"])
    pixels, *rest = images.prepare_here(content, preparation, asked["name"], match=asked["match"])
    return {"rest": rest}, [pixels.tobytes()]


def _read_header(content: bytes, asked: Header) -> Answer:
    return {"seen": images.read_header_here(content, asked["name"])}, []


def _rows(image: Image.Image) -> list[bytes]:
    """Return an image's pixels in pieces, row by row."""
    step = max(1, _PIECE // (image.width * len(image.getbands())))
    tops = range(0, image.height, step)
    return [
        np.asarray(image.crop((0, top, image.width, min(top + step, image.height)))).tobytes()
        for top in tops
    ]


_ASKED: Final[dict[str, Callable[[bytes, Header], Answer]]] = {
    "open": _open,
    "prepare": _prepare,
    "read_header": _read_header,
}
