"""The figures of failures show what was found, whatever it is and however it is called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from PIL import Image

from opsin.core.artifacts.run_report import Slices
from opsin.evaluation.embedding_map import map_embedding
from opsin.evaluation.robustness import robustness
from opsin.evaluation.slices import slice_accuracy
from opsin.report.figures.failure_figures import draw_map, draw_robustness, draw_slices
from opsin.report.figures.style import WRONG, save, styled
from tests.conftest import shape_image


def drawn(figure: Figure, folder: Path) -> list[str]:
    """Write a figure in both formats, see that nothing is cut, and return its texts."""
    save(figure, folder / "figure.svg")
    assert np.asarray(Image.open(save(figure, folder / "figure.png"))).std() > 1
    for text in (figure._suptitle, figure._supxlabel):  # type: ignore[attr-defined]
        if text is not None:
            assert text.get_window_extent().x1 <= figure.bbox.x1
    everything = [" ".join(text.get_text().split()) for text in figure.texts]
    for axes in figure.axes:
        everything += [axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]
        everything += [label.get_text() for label in axes.get_yticklabels()]
    return everything


def sliced(count: int = 1000, **columns: list[str]) -> Slices:
    random = np.random.default_rng(0)
    light = random.uniform(0, 255, count)
    right = random.random(count) < np.where(light < 51, 0.6, 0.95)
    labels = np.arange(count) % 3
    traits = {"brightness": light, "contrast": random.random(count)}
    return slice_accuracy(right, traits, columns, labels=labels)


def test_slices_are_drawn_and_the_weak_one_is_red(tmp_path: Path) -> None:
    places = [f"place {k % 20} <$_{{" for k in range(1000)]
    with styled():
        figure = draw_slices(sliced(place=places))
        texts = drawn(figure, tmp_path)
    assert any(text.startswith("Weakest: brightness 0") for text in texts)
    assert len(figure.axes) == 3
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [same_color(dot.get_color(), WRONG) for dot in dots] == [True, *[False] * 4]
    # Of twenty places the twelve worst, in their order.
    assert len([line for line in figure.axes[2].lines if line.get_marker() == "o"]) == 12


@pytest.mark.parametrize("fragile", [False, True])
def test_robustness_is_drawn_with_its_finding(tmp_path: Path, fragile: bool) -> None:
    images = np.stack([shape_image("disc", seed) for seed in range(60)])
    labels = np.zeros(60, np.int64)

    def answer(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
        # Fragile: any fine detail turns the answer over.
        detail = np.abs(np.diff(pixels.astype(float), axis=1)).mean(axis=(1, 2, 3))
        wrong = detail > 25 if fragile else np.zeros(len(pixels), bool)
        return np.stack([~wrong, wrong], axis=1).astype(np.float32)

    found = robustness(answer, images, labels, np.arange(60))
    with styled():
        figure = draw_robustness(found)
        texts = drawn(figure, tmp_path)
    expected = "Noise costs most: " if fragile else "None of these disturbances is shown"
    assert any(text.startswith(expected) for text in texts)
    assert len(figure.axes) == 6
    for axes, kind in zip(figure.axes, found.kinds, strict=True):
        values = next(line.get_ydata() for line in axes.lines if line.get_marker() == "o")
        levels = [level.accuracy for level in kind.levels]
        assert np.allclose(np.asarray(values, float), [found.accuracy, *levels])


@pytest.mark.parametrize("classes", [2, 8, 30])
def test_the_map_rings_mistakes_and_names_classes(tmp_path: Path, classes: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(28) % classes
    embedding = (9 * np.eye(30)[labels] + random.normal(size=(28, 30))).astype(np.float32)
    answers = labels.copy()
    answers[:5] = (labels[:5] + 1) % classes
    names = [f"class {k} $x_{{" for k in range(classes)]
    found = map_embedding(embedding, labels, answers, [""] * 28, names)
    with styled():
        figure = draw_map(found)
        texts = drawn(figure, tmp_path)
    (axes,) = figure.axes
    rings = axes.collections[-1]
    assert len(np.asarray(rings.get_offsets())) == 5
    assert same_color(np.asarray(rings.get_edgecolor())[0], WRONG)
    assert any("5 mistakes" in text for text in texts)
    assert set(names) & set(texts) == (set(names) if classes <= 20 else set())
