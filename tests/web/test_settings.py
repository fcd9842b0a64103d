"""Settings are declared once, for the field and for its flag."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from opsin.core.errors import RecipeError
from opsin.web.settings import check_settings, setting, settings_of


@dataclass(frozen=True)
class Limits:
    queue: int = setting(8, "Images that may wait.", flag="--queue", least=1)
    seconds: float = setting(2.5, "Time to answer.", least=0, most=60)
    workers: int | None = setting(None, "Processes.", least=1)
    plain: int = 3


def test_each_declared_field_is_a_setting() -> None:
    known = settings_of(Limits)
    assert list(known) == ["queue", "seconds", "workers"]
    assert (known["workers"].kind, known["workers"].default) == (int, None)
    assert (known["queue"].flag, known["queue"].help) == ("--queue", "Images that may wait.")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(queue=0), "queue to be a whole number of at least 1; got 0"),
        (Limits(queue=1.5), "whole number"),  # type: ignore[arg-type]
        (Limits(seconds=61), "seconds to be a number between 0 and 60; got 61"),
        (Limits(seconds=float("nan")), "got nan"),
        (Limits(workers=0), "workers"),
        (Limits(queue=None), "got None"),  # type: ignore[arg-type]
    ],
)
def test_values_beyond_the_limits_are_refused(limits: Limits, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_settings(limits)


def test_values_within_the_limits_pass() -> None:
    check_settings(Limits())
    check_settings(Limits(queue=1, seconds=60, workers=2, plain=-1))
