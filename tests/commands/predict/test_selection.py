"""Conditions keep the rows they name, and those that name nothing are refused."""

from __future__ import annotations

import pytest

from opsin.commands.predict.rows import ResultRow
from opsin.commands.predict.selection import Selection
from opsin.core.errors import RecipeError

CLASSES = ("Bag", "Coat", "a=b")
SURE = ResultRow("1", "Bag", "Bag", 0.9)
STRANGE = ResultRow("2", "none of these", "Bag", 0.95)
UNSURE = ResultRow("3", "Coat", "Coat", 0.4)
ODD = ResultRow("4", "a=b", "a=b", 0.7)
BROKEN = ResultRow("5", error="no image")
ROWS = (SURE, STRANGE, UNSURE, ODD, BROKEN)


def kept(*where: str, least: float = 0.0) -> str:
    wanted = Selection(where, least, CLASSES)
    return "".join(row.image for row in ROWS if wanted.keeps(row))


def test_each_condition_keeps_what_it_names() -> None:
    assert kept() == "12345"
    assert kept("label=Bag") == "12"
    assert kept("answer=Bag") == "1"
    assert kept("answer=none of these") == "2"
    assert kept("answer=unreadable") == "5"
    assert kept("label=a=b") == "4"
    assert kept("label=Bag", "label=Coat") == "123"
    assert kept("label=Bag", "answer=Bag", "answer=Coat") == "1"
    assert kept(least=0.7) == "1245"  # a broken file has no confidence to be too low
    assert kept("label=Coat", least=0.7) == ""
    assert Selection("label=Bag", 0, CLASSES).where == ["label=Bag"]  # one may come by itself


def test_the_order_of_conditions_does_not_matter() -> None:
    one = Selection(["label=Coat", "label=Bag", "label=Coat"], 0, CLASSES)
    assert one.where == Selection(["label=Bag", "label=Coat"], 0, CLASSES).where


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("label=Bog", "one of: Bag, "),
        ("label=unreadable", "one of: "),
        ("label", "a condition label=CLASS"),
        ("class=Bag", "a condition label=CLASS"),
        ("", "a condition label=CLASS"),
        ("answer=none", "one of: none of these, "),
    ],
)
def test_conditions_that_cannot_work_are_refused(condition: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Selection([condition], 0, CLASSES)


def test_what_never_is_answered_cannot_be_asked_for() -> None:
    with pytest.raises(RecipeError, match="answer= and one of"):
        Selection(["answer=none of these"], 0, CLASSES, rejects=False)
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(RecipeError, match="between 0 and 1"):
            Selection([], least, CLASSES)
