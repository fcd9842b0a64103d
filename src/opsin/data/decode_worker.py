"""The worker of `opsin.data.images`: it opens untrusted images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import AvifImagePlugin

from opsin.core.child_process import Header, whole
from opsin.core.metadata import Preparation
from opsin.data import formats, images

# Each thread would reserve memory beyond this process's limit.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Bytes of rows per piece: Pillow keeps two copies of what it converts.
_PIECE: Final = 8 << 20


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
