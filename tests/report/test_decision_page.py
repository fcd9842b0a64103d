"""The page says why, marks what not to trust, and draws what decides."""

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.inspection.decision import (
    Decision,
    DeletionCurves,
    FaithfulnessVerdict,
    HeatMap,
    RandomBaseline,
)
from opsin.inspection.neighbours import Neighbour
from opsin.inspection.occlusion import Counterfactual
from opsin.report.inside.decision_sections import METHODS, counterfactual_words, decision_sections
from opsin.report.templates import render_page

SHARES = np.linspace(0, 1, 6, dtype=np.float32)
WRONG_NAME = "<b>bag</b> & 袋"


def level(*heights: float) -> NDArray[np.float32]:
    """Return curves that lie at these heights, which are the areas below them."""
    return np.repeat(np.array(heights, np.float32)[:, None], len(SHARES), axis=1)


def heat_map(
    method: str = "occlusion",
    *,
    trusted: bool = True,
    random: bool = True,
    size: tuple[int, int] = (12, 16),
) -> HeatMap:
    heat = np.random.default_rng(0).random(size, np.float32) - np.float32(0.2)
    reasons = () if trusted else ("no better than chance",)
    sanity, likeness = (True, 0.21) if random else (None, None)
    (hidden,), (shown,) = level(0.12), level(0.87)
    return HeatMap(
        method=method,
        heat=heat,
        random_heat=-heat if random else None,
        curves=DeletionCurves(SHARES, hidden, shown),
        # Of two, the standard deviation is the distance over the root of 2.
        by_chance=RandomBaseline(SHARES, level(0.375, 0.445), level(0.39, 0.47)),
        verdict=FaithfulnessVerdict(trusted, trusted, sanity, likeness, reasons),
        notes=("A note <of> it.",),
    )


def made(
    *maps: HeatMap, channels: int = 1, target: int = 0, notes: tuple[str, ...] = ()
) -> Decision:
    return Decision(
        pixels=np.random.default_rng(1).integers(0, 256, (12, 16, channels), np.uint8),
        classes=("boot", "sneaker", WRONG_NAME),
        label=("boot", "sneaker", WRONG_NAME)[target],
        probability=(0.991, 0.006, 0.003)[target],
        answer="boot",
        fill=np.zeros(channels, np.uint8),
        maps=maps or (heat_map(),),
        counterfactual=None,
        notes=notes,
    )


def changed(decision: Decision, box: tuple[int, int, int, int] | None) -> Decision:
    hidden = np.arange(12 * 16).reshape(12, 16) < 60
    found = Counterfactual(
        hidden,
        box,
        decision.pixels // 2,
        before="boot",
        before_probability=0.991,
        after="sneaker",
        after_probability=0.61,
    )
    return replace(decision, counterfactual=found)


def neighbour(label: int, *, same: bool = False) -> Neighbour:
    pixels = np.zeros((12, 16, 1), np.uint8)
    return Neighbour(0, f"train/{label}<i>.png", label, f"class {label}", 0.987, same, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_method_is_shown_with_its_verdict_and_its_paper(channels: int) -> None:
    maps = [heat_map(name, trusted=name == "occlusion") for name in METHODS]
    sections = decision_sections(made(*maps, channels=channels))
    page = render_page("boot.png", "Ankle boot", {}, sections)
    assert sections[0].title == "Why boot? One of four heat maps can be trusted"
    for method in METHODS.values():
        assert method.title in page and html.escape(method.source) in page
    assert page.count("Not to be trusted: no better than chance") == 3
    assert page.count("Passes both checks") == 1
    assert page.count("area 0.12, by chance 0.41 ± 0.05") == 8  # seen, and read aloud
    assert page.count("rank correlation 0.21") == 4
    assert "A note &lt;of&gt; it." in page
    assert "http" not in re.sub(r"data:[^\"')]*", "", page)


def test_the_part_that_decides_is_outlined_and_told() -> None:
    decision = changed(made(), (3, 4, 12, 13))
    assert (
        counterfactual_words(decision)
        == "Hiding this 9×9 patch turns boot (99%) into sneaker (61%)"
    )
    page = decision_sections(decision)[1].html
    assert "top: 25.0%; left: 25.0%; height: 75.0%; width: 56.25%" in page
    together = changed(made(), None)
    assert counterfactual_words(together).startswith("Hiding these 31% of the image turns")
    assert "<i style" not in decision_sections(together)[1].html


@pytest.mark.parametrize("actual", [None, 0, 1])
def test_neighbours_are_coloured_by_the_right_class_where_it_is_known(actual: int | None) -> None:
    given = [neighbour(0), neighbour(0, same=True), neighbour(1)]
    found = decision_sections(made(), given, actual=actual)[2]
    assert found.title == "2 of the 3 training images most like it are boot"
    right, wrong = found.html.count('class="right"'), found.html.count('class="wrong"')
    assert (right, wrong) == {None: (0, 0), 0: (2, 1), 1: (1, 2)}[actual]
    assert found.html.count("the very image") == 1 and found.html.count("0.987") == 2
    assert "train/1&lt;i&gt;.png" in found.html
