"""Names with a number, where the plain one is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

# With its number a name must not become longer than systems allow, in bytes.
_LONGEST: Final = 200


def free_name(name: str, used: Callable[[str], bool]) -> str:
    """Return ``name``, or ``name`` with a number before its suffix, that is not used.

    The number is found by doubling and halving, so a million equal names take a million times
    twenty looks.

    Args:
        name: The wish; folders before it stay.
        used: Tells of a name whether it is.

    Example:
        >>> free_name("cat/1.png", {"cat/1.png", "cat/1-2.png"}.__contains__)
        'cat/1-3.png'
    """

    def numbered(number: int) -> str:
        return f"{folder}{short}-{number}{suffix}"

    if not used(name):
        return name
    folder, slash, plain = name.rpartition("/")
    folder += slash
    stem, suffix = os.path.splitext(plain)  # noqa: PTH122  a Path would take "." apart
    encoded = os.fsencode(stem)
    short = stem if len(encoded) <= _LONGEST else os.fsdecode(encoded[:_LONGEST])
    low, high = 1, 2
    while used(numbered(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if used(numbered(middle)) else (low, middle)
    return numbered(high)
