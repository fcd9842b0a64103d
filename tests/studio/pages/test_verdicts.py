"""What the studio says of a classifier: one interval, honest about what judged it."""

from typing import Any

import pytest

from opsin.core.artifacts.run_report import Report
from opsin.core.format import span
from opsin.studio.pages.verdicts import in_short, judged_by, limits, weakest
from opsin.studio.runs.run_index import RunRow


def report(part: str = "out_of_fold", *, of: dict[str, Any] | None = None, **more: Any) -> Report:
    figures: dict[str, Any] = {"images": 120, "accuracy": 113 / 120, "low": 0.8836, "high": 0.9712}
    known = {"precision": 0.9, "recall": 0.9, "f1": 0.9, "count": 40}
    figures["classes"] = [{"name": name} | known for name in ("cardboard", "glass", "metal")]
    figures |= {"confusion": [[40, 0, 0], [1, 35, 4], [0, 2, 38]]} | (of or {})
    return Report.model_validate({"split": part, "figures": {part: figures}, **more})


def test_the_headline_counts_and_has_the_report_s_interval() -> None:
    assert in_short(report().judged) == "Right for 113 of 120 (88–97%)"
    many = {"images": 10_000, "accuracy": 0.9214, "low": 0.9160, "high": 0.9266}
    assert in_short(report("test", of=many).judged) == "Right for 9,214 of 10,000 (91.6–92.7%)"
    assert span(0.97, 1.0) == "97–100%"


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
    right = report(of={"confusion": [[40, 0, 0], [0, 40, 0], [0, 0, 0]]})
    assert weakest(right.judged) is None


def test_what_limits_the_verdict_is_said_and_nothing_else() -> None:
    assert limits(report()) == []
    earlier = {"images": 120, "accuracy": 0.9, "low": 0.8, "high": 0.95}
    corrected = {"labels": 9, "images": 120, "left_out": 1, "earlier": earlier}
    of = {"corrected": corrected, "few_groups": True, "groups": 12}
    text = " ".join(limits(report("test", of=of, looks=3, leaks={"exact": 1, "near": 1})))
    for words in (
        "judged 3 classifiers",
        "only 12 groups",
        "photograph has a near duplicate",
        "9 of 120 labels were corrected",
        "labels: right for 108 of 120",
        "1 photograph was left out",
    ):
        assert words in text
    assert not limits(report("out_of_fold", looks=3))


def test_a_card_has_the_interval_and_says_what_is_optimistic() -> None:
    def said(**known: Any) -> str:
        return in_short(RunRow(id="", folder="", **known))

    assert said() == ""
    assert said(accuracy=0.94, images=120) == "Right for 113 of 120"
    optimistic = said(accuracy=0.94, images=120, low=0.88, high=0.97, split="val")
    assert optimistic == "Right for 113 of 120 (88–97%), optimistic"
