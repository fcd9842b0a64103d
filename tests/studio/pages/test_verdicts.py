"""What the studio says of a classifier: one interval, honest about what judged it."""

from __future__ import annotations

from typing import Any

import pytest

from opsin.core.artifacts.run_report import PartFigures, Report
from opsin.report.side_by_side import Comparison
from opsin.studio.pages.verdicts import (
    compared_headline,
    compared_notes,
    confidence_of,
    headline,
    in_short,
    judged_by,
    span,
    warnings,
    weakest,
)
from opsin.studio.runs.run_index import RunRow


def report(part: str = "out_of_fold", *, of: dict[str, Any] | None = None, **more: Any) -> Report:
    figures = {
        "images": 120, "accuracy": 113 / 120, "low": 0.8836, "high": 0.9712,
        "classes": [{"name": name, "precision": 0.9, "recall": 0.9, "f1": 0.9, "count": 40}
                    for name in ("cardboard", "glass", "metal")],
        "confusion": [[40, 0, 0], [1, 35, 4], [0, 2, 38]],
    } | (of or {})  # fmt: skip
    return Report.model_validate({"split": part, "figures": {part: figures}, **more})


def test_the_headline_counts_and_has_the_report_s_interval() -> None:
    assert headline(report()) == "Right for 113 of 120 (88–97%)"
    many = {"images": 10_000, "accuracy": 0.9214, "low": 0.9160, "high": 0.9266}
    assert headline(report("test", of=many)) == "Right for 9,214 of 10,000 (91.6–92.7%)"
    assert span(0.97, 1.0) == "97–100%"
    assert confidence_of(0.9999) == ">99%"


@pytest.mark.parametrize(
    ("part", "training", "words"),
    [
        ("out_of_fold", {}, "had not seen it"),
        ("test", {}, "had never seen them"),
        ("val", {}, "optimistic"),
        ("test", {"elsewhere": True}, "is not known"),
    ],
)
def test_it_says_which_photographs_judge(part: str, training: dict[str, bool], words: str) -> None:
    assert words in judged_by(report(part, training=training))


def test_the_weakest_class_is_named_with_what_it_is_taken_for() -> None:
    worst = weakest(report().judged)
    assert worst == (1, "Weakest: glass, 35 of 40 right, 4 times taken for metal")
    right = PartFigures.model_validate(
        {"accuracy": 1, "low": 0.9, "high": 1, "confusion": [[3, 0], [0, 0]],
         "classes": [{"name": n, "precision": 1, "recall": 1, "f1": 1, "count": 3} for n in "ab"]}
    )  # fmt: skip
    assert weakest(right) is None


def test_what_limits_the_verdict_is_said_and_nothing_else() -> None:
    assert warnings(report()) == []
    earlier = {"images": 120, "accuracy": 0.9, "low": 0.8, "high": 0.95}
    corrected = {"labels": 9, "images": 120, "left_out": 1, "earlier": earlier}
    lines = warnings(
        report("test", of={"corrected": corrected, "few_groups": True, "groups": 12},
               looks=3, leaks={"exact": 1, "near": 1})
    )  # fmt: skip
    text = " ".join(lines)
    for words in ("judged 3 classifiers", "only 12 groups", "2 test photographs have a copy",
                  "9 labels were corrected", "right for 108 of 120", "left out"):  # fmt: skip
        assert words in text
    assert not warnings(report("out_of_fold", looks=3))


def comparison(
    better: str | None, *, reported: dict[str, Any] | None = None, **more: int
) -> Comparison:
    run = {"images": 153, "accuracy": 0.9, "low": 0.8, "high": 0.95, "run": "r", "model": "m",
           "source": "s", "bytes": 1, "parameters": 1, "seconds": 1.0, "parity": None,
           "best": []}  # fmt: skip
    pair = {"low": -0.01, "high": 0.06, "p": 0.2, "better": better, "images": 153,
            "both_right": 140, "only_first": 1, "only_second": 5, "both_wrong": 7,
            "both_wrong_differently": 0, "difference": 4 / 153, "letters": ["A", "B"],
            "sentence": "", "disagreements": []} | more  # fmt: skip
    return Comparison.model_validate(
        {"part": "out_of_fold", "images": 153, "headline": "", "remarks": [], "pairs": [pair],
         "runs": [run | {"letter": "A", "rescored": 9 if reported else 0, "reported": reported},
                  run | {"letter": "B", "rescored": 0, "reported": None}],
         "notes": ["r is judged by the corrected labels: 9"] if reported else []}
    )  # fmt: skip


def test_a_comparison_names_a_winner_only_if_there_is_one() -> None:
    def said(better: str | None) -> list[str]:
        return compared_headline(comparison(better).pairs[0], "Waste 3", "Waste 4")

    assert said(None)[0] == "No clear winner on 153 photographs"
    assert said("B")[0] == "Waste 4 is right more often: 5 photographs better, 1 worse"
    assert said("A")[0] == "Waste 3 is right more often: 1 photograph better, 5 worse"
    assert said(None)[1] == (
        "Both are right for 140 of 153 photographs, only Waste 4 for 5, only Waste 3 for 1, "
        "neither for 7. Waste 4 compared with Waste 3: +2.6 points (−1.0 to +6.0)."
    )
    same = comparison(None, only_first=0, only_second=0, both_right=146).pairs[0]
    assert compared_headline(same, "Waste 3", "Waste 4") == [
        "No clear winner on 153 photographs", "Both are right for the same 146 of 153 photographs.",
    ]  # fmt: skip


def test_a_corrected_measure_is_told_apart_from_a_better_classifier() -> None:
    assert compared_notes(comparison(None), ["Waste 3", "Waste 4"]) == []
    before = {"images": 153, "accuracy": 0.8, "low": 0.7, "high": 0.9}
    [line] = compared_notes(comparison("B", reported=before), ["Waste 3", "Waste 4"])
    assert "9 labels were corrected after Waste 3 was tested" in line
    assert "it was right for 122 of 153" in line
    assert "it is right for 138 of 153" in line


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, ""),
        ({"accuracy": 0.94, "images": 120}, "Right for 113 of 120"),
        (
            {"accuracy": 0.94, "images": 120, "low": 0.88, "high": 0.97, "split": "test"},
            "Right for 113 of 120 (88–97%)",
        ),
        (
            {"accuracy": 0.94, "images": 120, "low": 0.88, "high": 0.97, "split": "val"},
            "Right for 113 of 120 (88–97%), optimistic",
        ),
    ],
)
def test_a_card_has_the_interval_and_says_what_is_optimistic(
    known: dict[str, Any], words: str
) -> None:
    assert in_short(RunRow(id="", folder="", **known)) == words
