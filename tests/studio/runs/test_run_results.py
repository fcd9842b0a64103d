"""What is known of a run without asking its classifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.data.dataset import Dataset
from opsin.studio.runs.run_answers import read_judged
from tests.made_runs import answers_right, write_run


def test_a_run_without_a_classifier_or_with_damaged_files_says_so(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    path = write_run(tmp_path, "run", digits, answers_right(digits, 0.6))
    directory = RunDirectory(path)
    with pytest.raises(RunError, match="none yet"):
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
