"""Numbers, times and names as people read them."""

from __future__ import annotations

import time
import unicodedata
from typing import Final

from opsin.report.terminal import about, clock

__all__ = ["NAME_MOST", "about", "ago", "clock", "count", "day", "percent", "safe", "share", "size"]

#: Characters of a name that a page shows; whole names stand in the element's title.
NAME_MOST: Final = 200

_ISOLATE, _END = "\u2068", "\u2069"


def safe(text: str, most: int = NAME_MOST) -> str:
    """Return a user's text as one line that changes nothing around it.

    Control characters and the marks that turn the direction of text around are left out, what is
    too long is shortened in the middle, and right-to-left names are isolated from what follows
    (Unicode Standard Annex 9).

    Example:
        >>> safe("Ankle boot")
        'Ankle boot'
        >>> safe("a" * 300, most=7)
        'aaa…aaa'
    """
    # Other than half a million characters of a hostile name, no more is looked at than is shown.
    head, tail = text[: 4 * most], text[-4 * most :] if len(text) > 8 * most else text[4 * most :]
    clean = " ".join("".join(_kept(each) for each in head + tail).split())
    if len(clean) > most:
        half = (most - 1) // 2
        clean = f"{clean[:half]}…{clean[-half:]}" if half else clean[:most]
    turns = any(unicodedata.bidirectional(each) in {"R", "AL", "AN"} for each in clean)
    return f"{_ISOLATE}{clean}{_END}" if turns else clean


def _kept(character: str) -> str:
    """Return the character, a space for one that breaks lines, or nothing."""
    category = unicodedata.category(character)
    if category in {"Zl", "Zp"} or character in "\t\n\r\x0b\x0c\x85":
        return " "
    # Cf: invisible marks, those of direction among them; joiners make letters of some scripts.
    return (
        ""
        if category in {"Cc", "Cs"} or (category == "Cf" and character not in "\u200c\u200d")
        else character
    )


def count(number: float) -> str:
    """Return a number with thousands separators.

    Example:
        >>> count(70000)
        '70,000'
    """
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Return a number of bytes in the unit that fits.

    Example:
        >>> size(970_000), size(1_200_000_000)
        ('970 kB', '1.2 GB')
    """
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= least:
            value = number / least
            return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{number:.0f} B"


def ago(then: float, now: float | None = None) -> str:
    """Return how long ago a moment was, seconds since 1970.

    Example:
        >>> ago(1000, now=1330)
        '5 min ago'
    """
    seconds = (time.time() if now is None else now) - then
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h ago"
    if seconds < 14 * 86_400:
        days = int(seconds // 86_400)
        return "yesterday" if days == 1 else f"{days} days ago"
    return day(then)


def day(then: float) -> str:
    """Return a moment's date and time on this machine's clock.

    Example:
        >>> len(day(0))
        16
    """
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(then))


def share(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return an accuracy with the larger half of its 95% interval, as the report does.

    Example:
        >>> share(0.9214, 0.9160, 0.9266)
        '0.9214 ± 0.0054'
    """
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.4f}"
    return f"{value:.4f} ± {max(high - value, value - low):.4f}"


def percent(value: float) -> str:
    """Return one answer's probability.

    Example:
        >>> percent(0.991)
        '99.1%'
    """
    return f"{100 * value:.1f}%"
