"""The settings of a prediction server."""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field

from opsin.core.errors import RecipeError
from opsin.core.platform import DEVICE_WORDS, DEVICES
from opsin.web.addresses import AddressSettings, is_loopback

#: Most pixels of an image that workers decode; the settings may allow less.
MAX_PIXELS: Final = 50_000_000


class ServerSettings(AddressSettings):
    """A server's address, access and limits.

    Each field is an option of ``opsin serve``; see its help.

    Raises:
        RecipeError: A value is out of its range, or an address other than this machine's own is
            to be listened on without a token.

    Example:
        >>> ServerSettings(port=9000).loopback
        True
    """

    port: int = Field(8000, ge=0, le=65_535)
    workers: int | None = Field(None, ge=1)
    device: str = "auto"
    queue: int = Field(256, ge=1)
    batch: int = Field(16, ge=1)
    deadline: float = Field(30.0, ge=0.001, le=86_400)
    max_bytes: int = Field(20_000_000, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MAX_PIXELS)
    top: int = Field(5, ge=1)
    page: str | None = None
    access_log: bool = False

    def model_post_init(self, _: object) -> None:
        """Check what field types cannot express."""
        super().model_post_init(_)
        if not re.fullmatch(DEVICES, self.device):
            raise RecipeError(f"The device must be {DEVICE_WORDS}, not {self.device!r}")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)
