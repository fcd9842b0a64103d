"""Names and progress for display."""

from __future__ import annotations

import unicodedata
from typing import Final

from opsin.core.artifacts.records import RunStatus
from opsin.core.events import epoch_of
from opsin.core.format import clock, count

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


def progress_in_words(status: RunStatus, *, full: bool = False) -> str:
    """Describe a training's current work, its progress and the remaining time."""
    doing, unit = status.doing or "", safe(status.unit, 30)
    epoch = epoch_of(doing)
    doing = f"Epoch {count(epoch[0])} of {count(epoch[1])}" if epoch else safe(doing, 60)
    words = [doing[:1].upper() + doing[1:]]
    if status.total > 0 and (full or not epoch):
        words.append(f"{count(status.done)} of {count(status.total)} {unit}".strip())
    if full and status.speed:
        words.append(f"{count(status.speed)} {unit}/s")
    if epoch and status.share is not None:
        words.append(f"{100 * status.share:.0f}% of all")
    if status.left is not None:
        words.append(f"about {clock(status.left)} left")
    return " · ".join(words)
