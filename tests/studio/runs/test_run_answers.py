"""A run's answers are found by cell, by confidence, and not where a file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.studio.runs.run_answers import RunAnswers, read_answers


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 1, width=32))))
def test_every_answer_is_in_one_cell_and_in_order(given: list[tuple[int, int, float]]) -> None:
    labels, answered, sure = (np.array([each[k] for each in given]) for k in range(3))
    answers = RunAnswers(np.arange(len(given)), labels, answered, sure)
    cells = [answers.of_cell(i, j) for i in range(4) for j in range(4)]
    assert sorted(place for cell in cells for place in cell) == list(range(len(given)))
    wrong, unsure = answers.mistakes(), answers.least_sure()
    assert sorted(wrong + unsure) == list(range(len(given)))
    assert all(labels[place] != answered[place] for place in wrong)
    assert [sure[place] for place in wrong] == sorted((sure[p] for p in wrong), reverse=True)
    assert [sure[place] for place in unsure] == sorted(sure[p] for p in unsure)


def test_answers_are_read_as_they_were_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    kept = {
        "test_rows": np.array([5, 9]), "test_labels": np.array([0, 1]),
        "test_probabilities": np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    }  # fmt: skip
    run.save_arrays(run.predictions, **kept)
    answers = read_answers(run, "test")
    assert answers.answers.tolist() == [0, 0]
    assert answers.confidence.tolist() == [0.75, 0.5]
    assert answers.right.tolist() == [True, False]
    with pytest.raises(RunError, match="val images"):
        read_answers(run, "val")
    run.save_arrays(run.predictions, **kept | {"test_labels": np.array([0])})
    with pytest.raises(RunError, match="lacks"):
        read_answers(run, "test")
    run.predictions.write_bytes(b"no archive")
    with pytest.raises(RunError):
        read_answers(run, "test")
