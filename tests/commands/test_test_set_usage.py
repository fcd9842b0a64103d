"""Each look at a test set is counted, by its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.commands.test_set_usage import count_looks, key_of
from opsin.core.artifacts.records import DatasetRecord

pytestmark = pytest.mark.torch


def test_looks_are_counted_by_the_images(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": "mlp", "epochs": 1, "runs": tmp_path, "quiet": True}
    first = opsin.train("digits", **options)
    second = opsin.train("digits", seed=1, **options)
    other = opsin.train("digits", split_seed=5, **options)
    assert [run.report.looks for run in (first, second, other)] == [1, 2, 1]
    key = first.directory.read(DatasetRecord).test_set
    assert key is not None
    kept = first.directory.load_arrays(first.directory.split)
    assert key == key_of(kept["digests"], kept["test"])
    assert count_looks(first.directory, key) == 2
    assert count_looks(first.directory, None) == 0
