"""File and folder names: legal on every system, and free."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from typing import Final

#: Characters that Windows forbids in names.
RESERVED: Final = '/\\:*?"<>|'
# Those, and the escape character of URLs.
_TAKEN: Final = re.compile(f"[{re.escape(RESERVED)}%]")
# Windows's device names, which are reserved with any suffix.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.I)
# Most bytes of a legal name with its number; systems take 255, but some tools append.
_LONGEST: Final = 120
# Most bytes of a name that is otherwise kept, before it gets a number.
_LONGEST_NUMBERED: Final = 200


def legal_name(name: str) -> str:
    """The name closest to ``name`` that every file system allows, in any script."""
    text = unicodedata.normalize("NFC", name)
    text = _TAKEN.sub("-", "".join(c if c.isprintable() else "-" for c in text)).strip(" .")
    if is_device(text):
        text = f"_{text}"
    stem, suffix = os.path.splitext(text)  # noqa: PTH122  a Path would take "." apart
    if len(suffix.encode()) > 20:  # a sentence, not a suffix
        stem, suffix = text, ""
    stem = stem.encode()[: _LONGEST - len(suffix.encode())].decode("utf-8", "ignore")
    return stem.rstrip(" .") + suffix or "_"


def is_device(name: str) -> bool:
    """Whether Windows reserves a name for a device, with any suffix."""
    return _DEVICE.match(name) is not None


def free_name(name: str, used: Callable[[str], bool]) -> str:
    """``name``, with a number before its suffix if it is used."""
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
    """Numbers names that are already in use, ignoring case."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        # The next number to try: linear time for many equal names.
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """``name``, with a number if it is in use; marks the result as used."""
        alike, free = _alike(name), name
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        while _alike(free) in self._used:
            number = self._next.get(alike, 2)
            self._next[alike] = number + 1
            free = f"{stem}-{number}{suffix}"
        self._used.add(_alike(free))
        return free


def _alike(name: str) -> str:
    """A key that is equal for names that some system treats as one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
