"""What is known of a run: its mistakes, the surest first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.data.dataset import Dataset
from opsin.errors import RunError
from opsin.run import RunDirectory
from opsin.studio.judged import MISTAKES, read_judged
from tests.made_runs import answers_right, write_run


def test_the_mistakes_are_all_wrong_and_the_surest_first(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    answers = answers_right(digits, 0.6)
    answers["test"] *= np.linspace(0.5, 1, len(answers["test"]))[:, None].astype(np.float32)
    path = write_run(tmp_path, "run", digits, answers, classifier=nearest_mean)
    judged = read_judged(RunDirectory(path))
    places = judged.mistakes()
    assert judged.part == "test"
    assert len(places) == MISTAKES
    assert np.array_equal(judged.rows, digits.split.test)
    said = judged.probabilities[places].argmax(axis=1)
    assert (said != digits.labels[digits.split.test[places]]).all()
    assert (np.diff(judged.probabilities[places].max(axis=1)) <= 0).all()


def test_a_run_without_a_classifier_or_with_damaged_files_says_so(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    path = write_run(tmp_path, "run", digits, answers_right(digits, 0.6))
    directory = RunDirectory(path)
    with pytest.raises(RunError, match="none yet"):
        read_judged(directory)
    directory.classifier.write_bytes(nearest_mean.read_bytes())
    directory.report.write_text('{"split": "train"}', encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        read_judged(directory)
