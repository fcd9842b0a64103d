"""Photographs that were answered wrong are counted, and old and new compared, in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui")

from opsin.report.side_by_side import Comparison
from opsin.studio.pages.try_corrections import in_sentences, newer_images


def comparison(better: str | None, before: float, after: float, **of_old: Any) -> Comparison:
    figures = {"images": 100, "low": 0.0, "high": 1.0}
    row = {
        "model": "cnn", "source": "photos", "bytes": 1, "parameters": 1, "seconds": 1.0,
        "parity": 0.0, "best": [], "rescored": 0, "reported": None,
    }  # fmt: skip
    pair = {
        "low": 0.0, "high": 0.0, "p": 1.0, "p_adjusted": 1.0, "better": better, "images": 100,
        "groups": None, "both_right": 1, "only_first": 0, "only_second": 0, "both_wrong": 0,
        "both_wrong_differently": 0, "difference": 0.0, "letters": ["A", "B"], "sentence": "",
        "disagreements": [],
    }  # fmt: skip
    runs = [
        row | figures | {"letter": "A", "run": "a", "accuracy": before} | of_old,
        row | figures | {"letter": "B", "run": "b", "accuracy": after},
    ]
    return Comparison.model_validate({
        "part": "out_of_fold", "images": 100, "headline": "", "runs": runs, "pairs": [pair],
        "remarks": [],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("better", "begins"),
    [
        ("B", "Waste 2 is better: "),
        ("A", "Waste 2 is worse: "),
        (None, "No clear winner: Waste 2 is "),
    ],
)
def test_old_and_new_are_compared_in_one_sentence(better: str | None, begins: str) -> None:
    [sentence] = in_sentences(comparison(better, 0.9, 0.93), "Waste 1", "Waste 2")
    assert sentence == f"{begins}right for 93 of the same 100 photographs, Waste 1 for 90."


def test_corrections_of_the_measure_are_told_apart() -> None:
    reported = {"images": 100, "accuracy": 0.87, "low": 0.0, "high": 1.0}
    found = comparison(None, 0.9, 0.93, rescored=3, reported=reported)
    _, sentence = in_sentences(found, "Waste 1", "Waste 2")
    assert sentence.startswith("3 labels of these were corrected since Waste 1 was measured")
    assert sentence.endswith("it was right for 87 of 100.")


def test_photographs_that_came_since_are_counted(tmp_path: Path) -> None:
    assert newer_images(tmp_path / "gone", 0) == (0, 0)
    for number, name in enumerate(("cat/a.png", "cat/b.jpg", "dog/c.png", ".trash/d.png", "e.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (number, number))
    (tmp_path / "cat" / "notes.txt").write_text("")
    assert newer_images(tmp_path, 0.5) == (2, 3)
    assert newer_images(tmp_path, 9) == (0, 3)
