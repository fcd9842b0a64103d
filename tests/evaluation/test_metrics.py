"""Figures that scikit-learn computes, intervals that cover, and pairs in their order."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from sklearn.metrics import auc, f1_score, log_loss, recall_score

from opsin.core.artifacts.run_report import (
    Accuracy,
    ConfusedPair,
    CorrectedLabels,
    PartFigures,
    Refused,
)
from opsin.evaluation.metric_table import METRICS, summary_of
from opsin.evaluation.metrics import ScoredAnswers, measure, measure_curves, widen
from opsin.evaluation.mistakes import (
    cells_of,
    confident_mistakes,
    least_confident_correct,
    typical_rows,
)
from opsin.report.terminal import over_classes

CLASSES = ("a", "b", "c")


def test_a_small_example_by_hand() -> None:
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2]], np.float32
    )
    figures = measure(probabilities, np.array([0, 1, 1, 1]), CLASSES)
    assert figures.accuracy == 0.75
    assert figures.confusion == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert figures.confused == [ConfusedPair(actual="b", predicted="a", count=1, of=3)]
    first = {key: getattr(figures.classes[0], key) for key in ("precision", "recall", "f1")}
    assert first == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert (figures.classes[0].count, figures.classes[0].answers) == (1, 2)
    absent = dict.fromkeys(("precision", "recall", "f1"))
    absent |= {f"{name}_interval": None for name in absent}
    plain = figures.classes[2].model_dump(exclude_unset=True)
    assert plain == {"name": "c", **absent, "count": 0, "answers": 0}
    assert over_classes(figures) == "over the 2 classes present"
    assert figures.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert figures.log_loss == pytest.approx(-np.log([0.8, 0.8, 0.3, 0.7]).mean(), rel=1e-5)
    assert figures.top5_accuracy is None
    assert figures.brier == pytest.approx(np.mean([0.06, 0.06, 0.86, 0.14]), rel=1e-5)
    assert [entry.count for entry in figures.reliability] == [1, 1, 2]
    # Sure by 0.6 and wrong; by 0.7 and right; twice by 0.8 and right.
    assert figures.calibration_error == pytest.approx((0.6 + 0.3 + 0.2 + 0.2) / 4, rel=1e-5)


@given(st.integers(0, 99), st.integers(6, 12), st.integers(1, 3))
def test_the_right_class_is_ranked_behind_its_equals(seed: int, classes: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.integers(0, levels + 1, (40, classes)).astype(np.float32) + 0.01
    labels = random.integers(0, classes, 40)
    ranks = [
        sum(other >= row[label] for other in row) - 1
        for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    found = METRICS[1].compute(ScoredAnswers(probabilities, labels))
    assert found is not None
    assert found[0] == np.mean([rank < 5 for rank in ranks])


@pytest.mark.parametrize("classes", [2, 7])
def test_means_are_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(classes)
    probabilities = random.dirichlet(np.ones(classes), 300).astype(np.float32)
    labels = random.integers(0, classes - 1, 300)  # the last class has no images
    figures = measure(probabilities, labels, [str(k) for k in range(classes)])
    answers, present = probabilities.argmax(axis=1), np.unique(labels)
    for average in ("macro", "weighted"):
        expected = f1_score(labels, answers, labels=present, average=average)
        assert getattr(figures, f"{average}_f1") == pytest.approx(expected)
    recall = recall_score(labels, answers, labels=present, average="macro")
    assert figures.balanced_accuracy == pytest.approx(recall)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    loss = log_loss(labels, exact, labels=list(range(classes)))
    assert figures.log_loss == pytest.approx(loss, rel=1e-5)


def ends_of(figures: PartFigures) -> dict[str, tuple[float, list[float]]]:
    """Return each figure that has an interval, with its ends."""
    values = dict(figures)
    found = {name: (values[name], ends) for name, ends in figures.intervals.items()}
    for entry in figures.classes:
        for key in ("precision", "recall", "f1"):
            if ends := getattr(entry, f"{key}_interval"):
                found[f"{entry.name} {key}"] = getattr(entry, key), ends
    assert figures.refused and figures.corrected
    earlier = figures.corrected.earlier
    found["the whole"] = figures.accuracy, [figures.low, figures.high]
    found["refused"] = figures.refused.share, [figures.refused.low, figures.refused.high]
    found["earlier"] = earlier.accuracy, [earlier.low, earlier.high]
    return found


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_out_of_fold_every_interval_is_a_quarter_wider(groups: NDArray[np.int64] | None) -> None:
    random = np.random.default_rng(4)
    probabilities = random.dirichlet([0.3] * 3 + [0.1], 60).astype(np.float32)
    labels = np.where(random.random(60) < 0.7, probabilities[:, :3].argmax(axis=1), 0)
    refused = Refused(images=60, share=0.05, low=0.02, high=0.14, count=3)
    earlier = Accuracy(images=60, accuracy=0.9, low=0.8, high=0.95)
    corrected = CorrectedLabels(labels=1, images=60, left_out=0, earlier=earlier)
    narrow = measure(probabilities, labels, (*CLASSES, "none there"), groups).model_copy(
        update={"refused": refused, "corrected": corrected}
    )
    wide = widen(narrow)
    before, after = ends_of(narrow), ends_of(wide)
    assert {"log_loss", "balanced_accuracy", "a recall"} <= set(before)
    for name, (value, ends) in before.items():
        most = np.inf if name in ("log_loss", "brier") else 1
        expected = np.clip(value + 1.25 * (np.array(ends) - value), 0, most)
        assert after[name][0] == value, name
        assert after[name][1] == pytest.approx(expected.tolist()), name
    assert wide.intervals["log_loss"][1] > 1 and wide.classes[3].recall_interval is None
    assert wide.reliability == narrow.reliability and wide.curves == narrow.curves


def test_mistakes_come_the_most_confident_first_and_right_answers_the_least_certain() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    mistaken, right = np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0])
    assert confident_mistakes(probabilities, mistaken).tolist() == [1, 3, 0]
    assert confident_mistakes(probabilities, mistaken, 1).tolist() == [1]
    assert least_confident_correct(probabilities, right).tolist() == [0, 2, 1]
    assert least_confident_correct(probabilities, right, 1).tolist() == [0]


@given(seed=st.integers(0, 99), count=st.integers(1, 400), classes=st.integers(2, 15))
def test_cells_hold_their_own_images(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), count).astype(np.float32)
    labels = random.integers(0, classes, count)
    answers = probabilities.argmax(axis=1)
    cells = cells_of(probabilities, labels)
    assert sum(cell.count for cell in cells) == count
    assert sum(len(cell.rows) for cell in cells) <= 600 + 2 * 120
    mistakes = [cell.count for cell in cells if cell.actual != cell.predicted]
    assert mistakes == sorted(mistakes, reverse=True)
    for cell in cells[:120]:
        assert 1 <= len(cell.rows) <= cell.count
        assert set(labels[cell.rows].tolist()) == {cell.actual}
        assert set(answers[cell.rows].tolist()) == {cell.predicted}


@given(total=st.integers(1, 10_000), count=st.integers(1, 30))
def test_typical_rows_are_spread_from_end_to_end(total: int, count: int) -> None:
    rows = typical_rows(total, count)
    assert len(rows) == min(total, count) == len(set(rows.tolist()))
    assert rows[0] == 0
    assert rows.max() < total


def test_balanced_accuracy_is_named_where_classes_are_uneven() -> None:
    answers = np.full((40, 2), 0.1, np.float32)
    answers[:, 0] = 0.9
    even, uneven = np.repeat([0, 1], [20, 20]), np.repeat([0, 1], [30, 10])
    assert "balanced accuracy" not in summary_of(measure(answers, even, ("a", "b")))
    assert "balanced accuracy 0.500" in summary_of(measure(answers, uneven, ("a", "b")))


def test_what_is_drawn_has_the_area_that_is_said() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 5000)
    scores = random.normal(size=(5000, 3))
    scores[np.arange(5000), labels] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    said = measure_curves(probabilities.astype(np.float32), labels, ["a", "b", "c"])
    for entry in said.classes:
        assert entry.roc is not None
        assert entry.precision_recall is not None
        across, up = entry.roc
        assert len(across) <= 60
        assert auc(across, up) == pytest.approx(entry.auroc, abs=2e-3)
        recall, precision = entry.precision_recall
        assert auc(recall, precision) == pytest.approx(entry.average_precision, abs=5e-3)


def test_a_class_without_images_has_no_area_and_many_classes_no_curves() -> None:
    probabilities = np.full((4, 30), 1 / 30, np.float32)
    said = measure_curves(probabilities, np.array([0, 0, 1, 1]), [str(k) for k in range(30)])
    without = {"name": "2", "auroc": None, "average_precision": None}
    assert said.classes[2].model_dump(mode="json", exclude_unset=True) == without
    assert "roc" not in said.classes[0].model_dump(mode="json", exclude_unset=True)
    assert said.macro_auroc == 0.5
    alone = measure_curves(np.ones((3, 2), np.float32), np.zeros(3, np.int64), ["a", "b"])
    assert alone.macro_auroc is None
