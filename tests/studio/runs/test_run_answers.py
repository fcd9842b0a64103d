"""A run's answers are found by cell, by confidence, and not where a file is damaged."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opsin.studio.runs.run_answers import RunAnswers


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
