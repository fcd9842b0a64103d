"""Figures can be drawn for any names and any number of classes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color
from numpy.typing import NDArray
from PIL import Image

from opsin.core.artifacts.run_report import MapFigures, PartFigures, Slices
from opsin.evaluation.embedding_map import map_embedding
from opsin.evaluation.metrics import measure
from opsin.evaluation.robustness import robustness
from opsin.evaluation.slices import slice_accuracy
from opsin.report.figures import (
    dataset_figures as data_figures,
    failure_figures,
    run_figures,
    style,
)
from opsin.report.figures.comparison_figures import Curve, draw_together
from opsin.report.figures.run_figures import ShownAnswer
from tests.made_runs import made_epoch

HOSTILE = ["<img src=x onerror=alert(1)>", "$x_{", "漢字", "مرحبا\u202eabc", "a" * 300, "\\frac{1}"]


def answers(names: list[str], count: int = 4) -> list[ShownAnswer]:
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        shares = random.dirichlet(np.ones(len(names)) / 3)
        made.append(
            ShownAnswer(
                pixels=random.integers(0, 256, (9, 7, 1 + 2 * (number % 2)), np.uint8),
                name=f"test/{names[0]}/{number}",
                actual=names[number % len(names)],
                probabilities=dict(zip(names, map(float, shares), strict=True)),
            )
        )
    return made


def figures_for(names: list[str], count: int = 200) -> PartFigures:
    random = np.random.default_rng(1)
    shares = random.dirichlet(np.ones(len(names)), count).astype(np.float32)
    return measure(shares, random.integers(0, len(names), count), names)


def by_brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    share = pixels.mean(axis=(1, 2, 3)) / 255
    return np.stack([share, 1 - share], axis=1).astype(np.float32)


HISTORY = [
    made_epoch(n, train_loss=1 / n, val_loss=1.1 / n, val_accuracy=0.4 + n / 10) for n in (1, 2)
]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["a", "b"], marks=pytest.mark.slow),
        HOSTILE,
        pytest.param([f"class {n}" for n in range(100)], marks=pytest.mark.slow),
    ],
)
def test_every_figure_is_drawn(names: list[str], tmp_path: Path) -> None:
    figures = figures_for(names)
    images = np.random.default_rng(0).integers(0, 256, (60, 9, 7, 3), np.uint8)
    labels = np.arange(60) % len(names)
    means = data_figures.class_means(images, labels, np.arange(60), len(names))
    counts = {name: {"train": 3, "val": 1, "test": n} for n, name in enumerate(names)}
    with style.styled():
        drawn = {
            "curves": run_figures.draw_curves(HISTORY),
            "confusion": run_figures.draw_confusion(figures),
            "answers": run_figures.draw_answers(answers(names), "Some"),
            "none": run_figures.draw_answers([], "No mistakes"),
            "calibration": run_figures.draw_reliability(figures),
            "answer": run_figures.draw_answer(answers(names)[0]),
            "heat": data_figures.draw_heat_map(images[0], names[0]),
            "grid": data_figures.draw_grid(list(images[:25]), names[:2] * 12 + names[:1], "25"),
            "means": data_figures.draw_means(means, names),
            "sizes": data_figures.draw_class_sizes(counts),
            "slices": failure_figures.draw_slices(sliced(names)),
            "map": failure_figures.draw_map(mapped(names)),
            "together": draw_together([Curve(name, "logistic", HISTORY) for name in names[:2]]),
            "disturbed": failure_figures.draw_robustness(
                robustness(by_brightness, images, labels % 2, np.arange(60))
            ),
        }
        if figures.curves.classes[0].roc:  # of a hundred classes there are none
            drawn["areas"] = run_figures.draw_curves_of_classes(figures)
        for name, figure in drawn.items():
            png = style.save(figure, tmp_path / f"{name}.png")
            assert np.asarray(Image.open(png).convert("L")).std() > 1, f"{name} is empty"
            svg = style.save(figure, tmp_path / f"{name}.svg").read_text(encoding="utf-8")
            assert "<img" not in svg
        assert drawn["sizes"].axes[0].get_xlim()[1] > min(60, len(names)) + 3  # for its number


def test_right_is_blue_and_wrong_is_red() -> None:
    right = ShownAnswer(np.zeros((2, 2, 1), np.uint8), "p", "a", {"a": 0.9, "b": 0.06, "c": 0.04})
    wrong = ShownAnswer(right.pixels, "p", "b", right.probabilities)
    assert [right.kind_of(name) for name in "abc"] == ["right", "other", "other"]
    assert [wrong.kind_of(name) for name in "abc"] == ["wrong", "right", "other"]
    assert wrong.caption() == "a 90% (is b)"
    assert run_figures._COLOURS["right"] == style.RIGHT == "#2166ac"
    assert run_figures._COLOURS["wrong"] == style.WRONG == "#b2182b"


def test_the_same_figure_gives_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        with style.styled():
            figure = run_figures.draw_curves(HISTORY)
            files.append(style.save(figure, tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert files[2] == files[3]


def mapped(names: list[str], mistakes: int = 5) -> MapFigures:
    """A map of 60 images, the first of them mistakes."""
    labels = np.arange(60) % len(names)
    noise = np.random.default_rng(0).normal(size=(60, 100)).astype(np.float32)
    answered = np.where(np.arange(60) < mistakes, (labels + 1) % len(names), labels)
    return map_embedding(
        9 * np.eye(100, dtype=np.float32)[labels] + noise, labels, answered, [""] * 60, names
    )


def sliced(places: list[str]) -> Slices:
    """Slices of 1,000 images, of which the dark ones are recognised less often."""
    random = np.random.default_rng(0)
    light = random.uniform(0, 255, 1000)
    right = random.random(1000) < np.where(light < 51, 0.6, 0.95)
    columns = {"place": [places[row % len(places)] for row in range(1000)]}
    return slice_accuracy(right, {"brightness": light}, columns, labels=np.arange(1000) % 3)


def test_what_is_weak_or_wrong_is_red() -> None:
    with style.styled():
        slices, places = failure_figures.draw_slices(sliced([f"place {k}" for k in range(20)])).axes
        (embedded,) = failure_figures.draw_map(mapped(["a", "b"])).axes
    dots = [line for line in slices.lines if line.get_marker() == "o"]
    assert [same_color(dot.get_color(), style.WRONG) for dot in dots] == [True, *[False] * 4]
    # Of twenty places the twelve worst.
    assert sum(line.get_marker() == "o" for line in places.lines) == 12
    rings = embedded.collections[-1]
    assert len(np.asarray(rings.get_offsets())) == 5
    assert same_color(np.asarray(rings.get_edgecolor())[0], style.WRONG)
