"""Routes of photographs in their original form: thumbnails and large images."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NamedTuple

from fastapi import FastAPI
from PIL import Image
from starlette.responses import Response

from opsin.core.errors import ImageError
from opsin.data.images import open_apart
from opsin.studio.datasets.decoded_dataset import png_of
from opsin.studio.datasets.photo_contents import Contents
from opsin.studio.threads import IMAGES, ComputedOnce

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: Longest sides of thumbnails, for screens of two pixels a point, and of large images.
SMALL: Final = 320
LARGE: Final = 2560
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


class _Picture(NamedTuple):
    content: bytes
    kind: str

    def reply(self) -> Response:
        return Response(self.content, headers=_FOREVER, media_type=self.kind)


def add_routes(api: FastAPI, studio: Studio) -> None:
    """Serve the photographs of datasets, by opaque names."""
    albums, thumbnails = studio.albums, ComputedOnce[tuple[str, str], _Picture](_THUMBNAILS)

    async def picture(set_id: str, token: str, side: int) -> _Picture:
        contents = await albums.contents(set_id)
        return await IMAGES.run(_scaled, contents, token, side)

    @api.get("/thumbnails/{set_id}/{token}")
    async def thumbnail(set_id: str, token: str) -> Response:
        studio.sets.get(set_id)
        try:
            image = await thumbnails.get((set_id, token), lambda: picture(set_id, token, SMALL))
        except ImageError:
            return Response(_UNREADABLE, headers=_NOW, media_type="image/svg+xml")
        return image.reply()

    @api.get("/originals/{set_id}/{token}")
    async def original(set_id: str, token: str) -> Response:
        return (await picture(set_id, token, LARGE)).reply()


def _scaled(contents: Contents, token: str, side: int) -> _Picture:
    """An image in its original aspect, no side longer than ``side``; opened in the sandbox."""
    pixels, _ = open_apart(contents.original(token), "The photograph", side=side)
    if max(pixels.shape[:2]) <= _PIXELS:
        return _Picture(png_of(pixels), "image/png")
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=80 if side == SMALL else 92)
    return _Picture(file.getvalue(), "image/jpeg")
