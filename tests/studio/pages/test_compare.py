"""A comparison is in words and names, and refused without naming a place."""

import asyncio
from pathlib import Path

import pytest

import opsin
from opsin.report.side_by_side import ComparedPair, Comparison
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.pages.compare import _in_words, compared, verdict_on
from opsin.studio.words import opaque
from tests.made_runs import answers_right, write_run

A, B, OTHER = map(opaque, ("good", "better", "other"))


@pytest.fixture
def looking(studio: Studio, digits: opsin.Dataset, shapes: Path) -> Studio:
    runs = studio.settings.runs
    write_run(runs, "good", digits, answers_right(digits, 0.7))
    write_run(runs, "better", digits, answers_right(digits, 0.95, seed=1))
    others = opsin.load(shapes)
    write_run(runs, "other", others, answers_right(others, 0.9))
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
def test_a_winner_is_found_on_the_same_images(looking: Studio) -> None:
    assert asyncio.run(ask(looking, A, B)).pairs[0].better == "B"


def test_other_images_are_refused_in_one_line_of_names(looking: Studio) -> None:
    with pytest.raises(opsin.OpsinError, match="only better knows disc, square") as refused:
        asyncio.run(ask(looking, A, OTHER))
    for absent in (str(looking.settings.runs), "\n", "--"):
        assert absent not in str(refused.value)


@pytest.mark.parametrize(("file", "content"), [("report.json", "{"), ("predictions.npz", "")])
def test_damaged_files_are_said_without_paths(looking: Studio, file: str, content: str) -> None:
    damaged = looking.settings.runs / "better" / file
    damaged.write_text(content) if content else damaged.unlink()
    with pytest.raises(opsin.OpsinError, match="Files of Waste 4 are damaged or missing"):
        asyncio.run(ask(looking, A, B, names=("Waste 3", "Waste 4")))


def test_runs_that_are_gone_are_said_to_be(looking: Studio) -> None:
    with pytest.raises(NotThere):
        asyncio.run(compared(looking, [A, "0" * 16], "ab"))


def test_a_winner_is_named_only_if_there_is_one() -> None:
    def said(better: str | None, **more: int) -> tuple[str, str]:
        figures = {"low": -0.01, "high": 0.06, "p": 0.2, "difference": 4 / 153, "better": better}
        counts = {"images": 153, "both_right": 140, "only_first": 1, "only_second": 5}
        counts |= {"both_wrong": 7, "both_wrong_differently": 0} | more
        about = {"letters": ["A", "B"], "sentence": "", "disagreements": []}
        pair = {**figures, **counts, **about}
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
