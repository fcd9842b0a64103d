"""A run's answers are found by cell, by confidence, and not where a file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.data.dataset import Dataset
from opsin.studio.runs.run_answers import RunAnswers, read_judged
from tests.made_runs import answers_right, write_run


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


def test_a_run_without_a_classifier_or_with_damaged_files_says_so(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    path = write_run(tmp_path, "run", digits, answers_right(digits, 0.6))
    directory = RunDirectory(path)
    with pytest.raises(RunError, match="no classifier yet"):
        read_judged(directory)
    directory.classifier.write_bytes(nearest_mean.read_bytes())
    whole = directory.report.read_text(encoding="utf-8")
    for damaged in ('{"split": "train"}', '{"layers": []}', '{"split": "test", "layers": [1]}'):
        directory.report.write_text(damaged, encoding="utf-8")
        with pytest.raises(RunError):
            read_judged(directory)
    directory.report.write_text(whole, encoding="utf-8")
    directory.predictions.unlink()
    with pytest.raises(RunError):
        read_judged(directory)
