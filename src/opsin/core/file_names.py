"""Names for files and folders: legal on every system, and not yet in use."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from typing import Final

#: Characters that Windows lets no name hold.
RESERVED: Final = '/\\:*?"<>|'
# Those, and what a URL's rules keep for themselves.
_TAKEN: Final = re.compile(f"[{re.escape(RESERVED)}%]")
# Devices of Windows, which no file may be called after, whatever its suffix.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.I)
# Bytes of the longest legal name, its number included; systems take 255, some tools add to that.
_LONGEST: Final = 120
# Bytes of a name that is kept as it came, before it gets a number.
_LONGEST_NUMBERED: Final = 200


def legal_name(name: str) -> str:
    """A name as near to ``name`` as every file system allows; letters of any script stay."""
    text = unicodedata.normalize("NFC", name)
    text = _TAKEN.sub("-", "".join(c if c.isprintable() else "-" for c in text)).strip(" .")
    if is_device(text):
        text = f"_{text}"
    stem, suffix = os.path.splitext(text)  # noqa: PTH122  a Path would take "." apart
    if len(suffix.encode()) > 20:  # no suffix then, but a sentence
        stem, suffix = text, ""
    stem = stem.encode()[: _LONGEST - len(suffix.encode())].decode("utf-8", "ignore")
    return stem.rstrip(" .") + suffix or "_"


def is_device(name: str) -> bool:
    """Tell whether Windows would take a name for a device, whatever its suffix."""
    return _DEVICE.match(name) is not None


def free_name(name: str, used: Callable[[str], bool]) -> str:
    """``name``, or ``name`` with a number before its suffix, that is not used."""
    if not used(name):
        return name
    folder, slash, plain = name.rpartition("/")
    stem, suffix = os.path.splitext(plain)  # noqa: PTH122  a Path would take "." apart
    encoded = os.fsencode(stem)
    short = stem if len(encoded) <= _LONGEST_NUMBERED else os.fsdecode(encoded[:_LONGEST_NUMBERED])

    def numbered(number: int) -> str:
        return f"{folder}{slash}{short}-{number}{suffix}"

    low, high = 1, 2
    while used(numbered(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if used(numbered(middle)) else (low, middle)
    return numbered(high)


class NamesInUse:
    """Gives a name a number where another like it, in any case, is in use."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        # The next number to try, so that a million equal names take a million steps.
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """``name``, or ``name`` with a number; it counts as used from now on."""
        alike, free = _alike(name), name
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        while _alike(free) in self._used:
            number = self._next.get(alike, 2)
            self._next[alike] = number + 1
            free = f"{stem}-{number}{suffix}"
        self._used.add(_alike(free))
        return free


def _alike(name: str) -> str:
    """A key of all names that some system takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
