"""Routes of photographs in their original form: thumbnails and large images."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from PIL import Image
from starlette.responses import Response

from opsin.core.errors import ImageError
from opsin.data.images import open_apart
from opsin.studio.datasets.decoded_dataset import png_of
from opsin.studio.threads import IMAGES, ComputedOnce

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Longest sides of thumbnails, for screens of two pixels a point, and of large images.
_SMALL: Final = 320
_LARGE: Final = 2560
# Smaller images are sent without loss.
_PIXELS: Final = 96
# Thumbnails in memory: 15 kB each.
_THUMBNAILS: Final = 2000
# An address has the state of its content, which so never changes.
_FOREVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
_NOW: Final = {"cache-control": "no-store"}
_UNREADABLE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 160"><path d="M0 0H160V160H0Z" '
    'fill="#8883"/><path d="M60 60L100 100M100 60L60 100" stroke="#888" stroke-width="6"/></svg>'
)


_Picture = tuple[bytes, str]  # content and media type


def add_routes(api: FastAPI, studio: Studio) -> None:
    """Serve the photographs of datasets, by opaque names."""
    thumbnails = ComputedOnce[tuple[str, str], _Picture](_THUMBNAILS)

    async def picture(set_id: str, token: str, side: int) -> _Picture:
        content = await studio.albums.original(set_id, token)
        return await IMAGES.run(_scaled, content, side)

    @api.get("/thumbnails/{set_id}/{token}")
    async def thumbnail(set_id: str, token: str) -> Response:
        studio.sets.get(set_id)
        try:
            image = await thumbnails.get((set_id, token), lambda: picture(set_id, token, _SMALL))
        except ImageError:
            return Response(_UNREADABLE, headers=_NOW, media_type="image/svg+xml")
        return Response(image[0], headers=_FOREVER, media_type=image[1])

    @api.get("/originals/{set_id}/{token}")
    async def original(set_id: str, token: str) -> Response:
        content, kind = await picture(set_id, token, _LARGE)
        return Response(content, headers=_FOREVER, media_type=kind)


def _scaled(content: bytes, side: int) -> _Picture:
    """An image in its original aspect, no side longer than ``side``; opened in the sandbox."""
    pixels, _ = open_apart(content, "The photograph", side=side)
    if max(pixels.shape[:2]) <= _PIXELS:
        return png_of(pixels), "image/png"
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=80 if side == _SMALL else 92)
    return file.getvalue(), "image/jpeg"
