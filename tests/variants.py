"""Cases of one kind: a few are tried by `make test`, all of them by `make test-all`."""

from collections.abc import Iterable
from typing import Any

import pytest


def a_few(cases: Iterable[Any], count: int) -> list[Any]:
    """Mark all but ``count`` cases, which lie evenly among them, as slow.

    A case is a value, or a tuple of the values of several parameters.
    """
    every = list(cases)
    step = max(1, len(every) // count)
    kept = set(range(0, len(every), step)[:count])
    return [case if number in kept else _slow(case) for number, case in enumerate(every)]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
