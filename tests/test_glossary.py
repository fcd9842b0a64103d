"""The glossary names what is there, and the code says what the glossary says."""

from __future__ import annotations

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import pytest

import opsin

ROOT = Path(__file__).parents[1]
SECTIONS = (
    (ROOT / "docs" / "understand" / "words-in-the-code.md")
    .read_text(encoding="utf-8")
    .split("\n## ")[1:]
)
ROWS = [
    row
    for section in SECTIONS
    for row in re.findall(r"^\| ([^|]+) \| .+ \| (`.+`) \|$", section, re.M)
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.partition("\n")[0])
def test_words_stand_in_the_order_of_the_alphabet(section: str) -> None:
    words = re.findall(r"^\| ([^|]+) \|", section, re.M)[1:]
    assert words and all(first < second for first, second in pairwise(words))


def test_a_word_is_explained_once() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) == len(set(words)) > 50


@pytest.mark.parametrize(("word", "homes"), ROWS, ids=[word for word, _ in ROWS])
def test_a_words_home_is_there(word: str, homes: str) -> None:
    for home in re.findall(r"`([^`]+)`", homes):
        if "." in home:
            assert importlib.util.find_spec(f"opsin.{home}"), home
        else:
            assert home in opsin.__all__, home
