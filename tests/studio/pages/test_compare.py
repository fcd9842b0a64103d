"""A comparison is made once, kept until a run changes, and refused without naming a place."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

pytest.importorskip("nicegui")

from opsin.core.errors import OpsinError, RecipeError
from opsin.data.dataset import Dataset, load
from opsin.report.side_by_side import ComparedPair, Comparison, DifferentAnswers
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.pages.compare import _in_words, compared, rows_of, verdict_on
from opsin.studio.runs.run_index import opaque
from tests.made_runs import answers_right, write_run
from tests.studio.datasets.test_corrections import opened

A, B, OTHER = map(opaque, ("good", "better", "other"))


@pytest.fixture
def looking(studio: Studio, digits: Dataset) -> Studio:
    runs = studio.settings.runs
    write_run(runs, "good", digits, answers_right(digits, 0.7))
    write_run(runs, "better", digits, answers_right(digits, 0.95, seed=1))
    few = load("digits", classes=["0", "1"])
    write_run(runs, "other", few, answers_right(few, 0.9))
    studio.runs.scan()
    return studio


async def ask(
    looking: Studio, *ids: str, names: tuple[str, ...] = ("good", "better")
) -> Comparison:
    """Compare while the queue runs."""
    asked = asyncio.create_task(compared(looking, ids, names[: len(ids)]))
    while not asked.done():
        looking.jobs.tick()
        await asyncio.sleep(0.05)
    return await asked


@pytest.mark.slow
def test_it_is_made_once_until_a_run_changes_and_the_clock_does_not_matter(looking: Studio) -> None:
    os.utime(looking.runs.get(B).report, (2**32, 2**32))
    said = asyncio.run(ask(looking, A, B))
    assert said.pairs[0].better == "B"
    assert asyncio.run(compared(looking, [A, B], ["good", "better"])) == said
    assert len(looking.jobs.jobs()) == 1
    os.utime(looking.runs.get(B).report, (0, 0))  # replaced by an older one
    asyncio.run(ask(looking, A, B))
    assert len(looking.jobs.jobs()) == 2


def test_other_images_are_refused_in_one_line_of_names(looking: Studio) -> None:
    for jobs in (1, 2):  # what failed is made anew the next time
        with pytest.raises(OpsinError, match="only good knows 2, 3, 4") as refused:
            asyncio.run(ask(looking, A, OTHER))
        assert str(looking.settings.runs) not in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "--" not in str(refused.value)
        assert len(looking.jobs.jobs()) == jobs


@pytest.mark.parametrize("ids", [[], [A], [A, B] * 6])
def test_two_to_ten_can_be_compared(looking: Studio, ids: list[str]) -> None:
    with pytest.raises(RecipeError, match="Two to 10 classifiers"):
        asyncio.run(compared(looking, ids, ids))


def test_runs_that_are_gone_are_said_to_be(looking: Studio) -> None:
    with pytest.raises(NotThere):
        asyncio.run(compared(looking, [A, "0" * 16], "ab"))


def test_a_winner_is_named_only_if_there_is_one() -> None:
    def said(better: str | None, **more: int) -> tuple[str, str]:
        pair = {"low": -0.01, "high": 0.06, "p": 0.2, "better": better, "images": 153,
                "both_right": 140, "only_first": 1, "only_second": 5, "both_wrong": 7,
                "both_wrong_differently": 0, "difference": 4 / 153, "letters": ["A", "B"],
                "sentence": "", "disagreements": []} | more  # fmt: skip
        return verdict_on(ComparedPair.model_validate(pair), "Waste 3", "Waste 4")

    points = "Waste 4 compared with Waste 3: +2.6 points (−1.0 to +6.0)."
    assert said(None) == ("No clear winner on 153 photographs", points)
    assert said("B")[0] == "Waste 4 is right more often: 5 photographs better, 1 worse"
    assert said("A")[0] == "Waste 3 is right more often: 1 photograph better, 5 worse"
    assert said("B", only_first=0)[0].endswith("5 photographs better, none worse")


def test_what_a_comparison_rests_on_is_said_in_names_and_not_of_paths() -> None:
    named = {"/runs/one": "My run", "/runs/one-2": "Waste 4"}
    note = "/runs/one-2 is judged by the labels of 9 images, as /runs/one, and each run chose"
    words = "Waste 4 is judged by the labels of 9 photographs, as My run, and each classifier chose"
    assert _in_words(note, named) == words


def image(here: Any, row: int, name: str | None = None) -> DifferentAnswers:
    return DifferentAnswers(
        digest=here.digest(row),
        name=here.name(row) if name is None else name,
        actual=here.classes[here.label(row)],
        answers=[],
    )


def test_of_exact_copies_each_is_shown_as_its_own() -> None:
    here = opened([7, 7, 7, 3], [0, 1, 1, 0], ["a", "b", "c", "d"])
    shown = [image(here, row) for row in (2, 0, 1)]
    assert rows_of(shown, here) == [2, 0, 1]
    # Files renamed since: classes tell, and no row is shown for two images.
    renamed = [image(here, row, f"old {row}") for row in (0, 1, 2)]
    assert rows_of(renamed, here) == [0, 1, 2]
    assert rows_of([*shown, image(here, 0)], here) == [2, 0, 1, None]
