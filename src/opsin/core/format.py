"""Numbers and times as text, for terminal, report and studio."""

from __future__ import annotations

import math
import re
import time
from typing import Any, Final

from opsin.core.errors import RecipeError

_NUMBER: Final = r"([0-9]+(?:[.][0-9]+)?)"
_TIME: Final = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s)?")

# From this width of an interval on, whole percents say enough.
_WIDE: Final = 0.03


def clock(seconds: float) -> str:
    """Return a time as 0:12 or 1:04:09."""
    # To the millisecond first, so that 2:02.5 rounds the same on every machine.
    whole = round(round(seconds, 3))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def about(seconds: float) -> str:
    """Return an estimated time with few digits."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ago(then: float, now: float | None = None) -> str:
    """Return how long ago a timestamp was, in words."""
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
    """Return a timestamp as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(then))


def count(number: float) -> str:
    """Return a number with thousands separators."""
    return f"{number:,.0f}"


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun, singular or plural."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def grey_or_colour(channels: int) -> str:
    """Return the word for images of 1 or 3 channels."""
    return "grey" if channels == 1 else "colour"


def decimals(largest: float) -> int:
    """Return the decimals that give the largest number three digits, 2 to 6."""
    digits = 2 - math.floor(math.log10(abs(largest))) if largest else 0
    return min(6, max(2, digits))


def short_count(number: float) -> str:
    """Return a count in short form: 1.23 M."""
    for unit, least in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        value = number / least
        if value >= 0.9995:
            return f"{value:.3g} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return str(number)


def millions(number: int) -> str:
    """Return a count of operations, in millions from one million on."""
    return f"{number / 1e6:.1f} M" if number >= 1_000_000 else f"{number:,}"


def file_size(size: float) -> str:
    """Return a number of bytes: megabytes with three digits, other units below and above."""
    if size < 1_000:
        return f"{max(size, 0):.0f} B"
    if size < 10_000:
        return f"{size / 1e3:.1f} kB"
    if size < 1e9:
        places = 2 if size < 1e7 else 1 if size < 1e8 else 0
        return f"{size / 1e6:.{places}f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e12 else f"{size / 1e12:,.1f} TB"


def speed(per_second: float) -> str:
    """Return images a second with significant digits."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def with_interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return a share with the larger half of its 95% interval."""
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.4f}"
    return f"{value:.4f} ± {max(high - value, value - low):.4f}"


def right_count(figures: Any) -> str:
    """Return how many of some images got the right answer: ``113 of 120``."""
    images = figures.images or 0
    return f"{round((figures.accuracy or 0.0) * images):,} of {images:,}"


def span(low: float, high: float, value: float | None = None) -> str:
    """Return an interval in percent, after its value, with as many digits as it is worth."""
    digits = 0 if high - low >= _WIDE else 1
    before = "" if value is None else f"{value:.{digits}%}, "
    return f"{before}{100 * low:.{digits}f}–{100 * high:.{digits}f}%"


def in_groups(groups: int | None, *, few: bool) -> str:
    """Say how many groups the images form; ``""`` without groups."""
    if groups is None:
        return ""
    return f" in {counted(groups, 'group')}{', which are few: the interval is rough' * few}"


def repeats(rows: int) -> str:
    """Say how many rows of a table repeat an image."""
    return f"{counted(rows, 'row repeats', 'rows repeat')} an image; each image counts once"


def plus_minus(figures: Any) -> str:
    """Return the ``accuracy`` of some figures with its interval from ``low`` to ``high``."""
    return with_interval(figures.accuracy, figures.low, figures.high)


def seconds_of(text: str | float) -> float:
    """Read a time: ``10m``, ``90s``, ``1h30m`` or a number of seconds."""
    plain = str(text).strip().lower()
    match = _TIME.fullmatch(f"{plain}s" if re.fullmatch(_NUMBER, plain) else plain)
    hours, minutes, seconds = map(float, match.groups("0")) if match else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < math.inf:
        raise RecipeError(f"A time is such as 10m, 90s, 1h30m or 600, not {text!r}")
    return total
