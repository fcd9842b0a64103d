"""A studio that has one run, whose classifier needs no PyTorch."""

from pathlib import Path

import pytest

from opsin.data.dataset import Dataset
from opsin.studio.context import Studio
from tests.made_runs import answers_right, write_run


@pytest.fixture
def looking(studio: Studio, digits: Dataset, nearest_mean: Path) -> Studio:
    right = answers_right(digits, 0.9)
    write_run(studio.settings.runs, "means", digits, right, classifier=nearest_mean)
    return studio
