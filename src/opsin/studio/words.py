"""Names and sentences for display, and names for addresses."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata


def safe(text: str, most: int = 200) -> str:
    """Return a user's text as one line that is safe to embed."""
    # Long hostile names: look at the ends only.
    head, tail = text[: 4 * most], text[-4 * most :] if len(text) > 8 * most else text[4 * most :]
    clean = " ".join("".join(map(_kept, head + tail)).split())
    if len(clean) > most:
        half = (most - 1) // 2
        clean = f"{clean[:half]}…{clean[-half:]}" if half else clean[:most]
    turns = any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in clean)
    return f"\u2068{clean}\u2069" if turns else clean  # keeps its direction to itself


def _kept(character: str) -> str:
    if character.isspace():
        return " "
    # Cf: invisible marks, also of direction; joiners form letters of some scripts.
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs"}
    return "" if hidden and character not in "\u200c\u200d" else character


def opaque(text: str) -> str:
    """A name's id for URLs, the same after every start."""
    return hashlib.blake2s(os.fsencode(text), digest_size=8).hexdigest()


def of_photographs(text: str) -> str:
    """A sentence of Opsin about images, in the studio's word."""
    text = re.sub(r"\b([Aa])n image\b", r"\1 photograph", text)
    return re.sub(r"\bimage(s?)\b", r"photograph\1", text)
