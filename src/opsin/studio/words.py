"""Names for display."""

from __future__ import annotations

import unicodedata
from typing import Final

#: Most characters of a shown name; titles have the whole name.
NAME_MOST: Final = 200

_ISOLATE, _END = "\u2068", "\u2069"


def safe(text: str, most: int = NAME_MOST) -> str:
    """Return a user's text as one line that is safe to embed."""
    # Long hostile names: look at the ends only.
    head, tail = text[: 4 * most], text[-4 * most :] if len(text) > 8 * most else text[4 * most :]
    clean = " ".join("".join(_kept(char) for char in head + tail).split())
    if len(clean) > most:
        half = (most - 1) // 2
        clean = f"{clean[:half]}…{clean[-half:]}" if half else clean[:most]
    turns = any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in clean)
    return f"{_ISOLATE}{clean}{_END}" if turns else clean


def _kept(character: str) -> str:
    category = unicodedata.category(character)
    if category in {"Zl", "Zp"} or character in "\t\n\r\x0b\x0c\x85":
        return " "
    # Cf: invisible marks, also of direction; joiners form letters of some scripts.
    return (
        ""
        if category in {"Cc", "Cs"} or (category == "Cf" and character not in "\u200c\u200d")
        else character
    )
