"""A comparison is made once, kept until a run changes, and refused without naming a place."""

from __future__ import annotations

import os
import time

import pytest

pytest.importorskip("nicegui")

from opsin.core.errors import OpsinError, RecipeError
from opsin.data.dataset import Dataset, load
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.runs.compared import Compared
from opsin.studio.runs.run_index import opaque
from tests.made_runs import answers_right, write_run

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


def compared_by(looking: Studio, ids: list[str]) -> Compared:
    return Compared(looking.runs, looking.jobs, ids)


def over(looking: Studio, job: Job) -> Job:
    while not job.over:
        looking.jobs.tick()
        job = looking.jobs.get(job.id)
        time.sleep(0.05)
    return job


@pytest.mark.slow
def test_it_is_made_once_and_kept(looking: Studio) -> None:
    compared = compared_by(looking, [A, B])
    assert compared.known() is None
    job = compared.start()
    assert compared.start().id == job.id
    said = compared.result(over(looking, job))
    assert said.pairs[0].better == "B"
    assert compared_by(looking, [A, B]).known() == said
    assert compared_by(looking, [B, A]).known() is None
    os.utime(looking.runs.get(B).report, (0, 0))  # replaced by an older one
    assert compared_by(looking, [A, B]).known() is None


def test_what_was_stopped_is_made_again_and_the_clock_does_not_matter(looking: Studio) -> None:
    os.utime(looking.runs.get(B).report, (2**32, 2**32))
    stopped = compared_by(looking, [A, B]).start()
    assert compared_by(looking, [A, B]).start() == stopped
    looking.jobs.stop(stopped.id)
    assert compared_by(looking, [A, B]).start().id != stopped.id


def test_other_images_are_refused_in_one_line_of_names(looking: Studio) -> None:
    compared = compared_by(looking, [A, OTHER])
    failed = over(looking, compared.start())
    with pytest.raises(OpsinError, match="only good knows 2, 3, 4") as refused:
        compared.result(failed)
    assert str(looking.settings.runs) not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert compared.known() is None
    assert compared.start().id != failed.id  # made anew the next time


@pytest.mark.parametrize("ids", [[], [A], [A, B] * 6])
def test_two_to_ten_can_be_compared(looking: Studio, ids: list[str]) -> None:
    with pytest.raises(RecipeError, match="Two to 10 classifiers"):
        compared_by(looking, ids)


def test_runs_that_are_gone_are_said_to_be(looking: Studio) -> None:
    with pytest.raises(NotThere):
        compared_by(looking, [A, "0" * 16])
