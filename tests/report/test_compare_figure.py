"""Comparisons are drawn whole, whatever the runs are called and however many they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.report.figures.comparison_figures import Curve, draw_together
from opsin.report.figures.style import save, styled
from tests.made_epochs import made_epoch

LETTERS = "ABCDEFGHIJ"


def curve(place: int, epochs: int, value: float = 0.8) -> Curve:
    events = [
        made_epoch(n, val_accuracy=value - 0.3 / n, val_loss=1 / n) for n in range(1, epochs + 1)
    ]
    return Curve(LETTERS[place], "logistic", events)


@pytest.mark.parametrize("count", [2, 10])
def test_every_curve_is_named_at_its_end_and_no_name_covers_another(
    count: int, tmp_path: Path
) -> None:
    with styled():
        figure = draw_together([curve(place, 1 + 3 * place) for place in range(count)])
        png = save(figure, tmp_path / "a.png")
        svg = save(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert np.asarray(Image.open(png).convert("L")).std() > 1
    for axes in figure.axes:
        assert len(axes.lines) == count == len(axes.texts)
        places = sorted(text.get_position()[1] for text in axes.texts)
        assert min(np.diff(places)) > 0.05
        assert -0.1 <= places[0] <= places[-1] <= 1.001
        styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(styles) == count
    assert all(f">{LETTERS[place]} logi" in svg for place in range(count))
    assert f"Lowest validation loss: {LETTERS[count - 1]}," in svg
