"""Images over which a worker may have died."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from enum import Enum
from typing import Final

# Images that are remembered; the oldest are forgotten first.
_MOST: Final = 256
# Bytes at either end by which an image is known again: this is done on the event loop.
_ENDS: Final = 4096


class QuarantineVerdict(Enum):
    """How an image may be computed."""

    FREE = 0
    ALONE = 1
    REFUSED = 2


class CrashQuarantine:
    """Remembers images that were being computed when a worker died.

    Any image of a batch may be the one, or none: then the system needed the memory. So each is
    computed alone when it comes again, which clears it, or proves it guilty.

    Example:
        >>> quarantine = CrashQuarantine()
        >>> quarantine.blame(b"image")
        >>> quarantine.verdict(b"image"), quarantine.verdict(b"other")
        (<QuarantineVerdict.ALONE: 1>, <QuarantineVerdict.FREE: 0>)
        >>> quarantine.blame(b"image")                 # once more in company proves nothing
        >>> quarantine.blame(b"image", alone=True)
        >>> quarantine.verdict(b"image")
        <QuarantineVerdict.REFUSED: 2>
    """

    def __init__(self) -> None:
        self._deaths: OrderedDict[bytes, int] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._deaths)

    def blame(self, image: bytes, *, alone: bool = False) -> None:
        """A worker died with this image.

        The same one may be several times in a batch, and in many batches: then it is no guiltier.

        Args:
            image: The image.
            alone: Whether it was all that the worker had.
        """
        mark = _mark(image)
        self._deaths[mark] = max(1, self._deaths.pop(mark, 0) + alone)
        if len(self._deaths) > _MOST:
            self._deaths.popitem(last=False)

    def clear(self, image: bytes) -> None:
        """A worker has answered this image."""
        self._deaths.pop(_mark(image), None)

    def verdict(self, image: bytes) -> QuarantineVerdict:
        """Return how an image that is sent now may be computed."""
        return QuarantineVerdict(
            min(self._deaths.get(_mark(image), 0), QuarantineVerdict.REFUSED.value)
        )


def _mark(image: bytes) -> bytes:
    size = len(image).to_bytes(8, "little")
    return hashlib.sha256(size + image[:_ENDS] + image[-_ENDS:]).digest()[:16]
