"""The chart of image rates holds every measurement, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.report.figures.bench_figure import draw_rates
from opsin.report.figures.style import save, styled
from opsin.report.image_rate import ImageRate, Work


def rate(work: Work, name: str, value: float, device: str = "cpu") -> ImageRate:
    return ImageRate(work, name, "x", (32, 32, 3), device, (value, 0.9 * value, 1.2 * value))


RATES = [
    rate("reading", "JPEG 500×400", 640),
    rate("training", "cnn", 820),
    rate("training", "cnn", 91234, "cuda"),
    rate("prediction", "a" * 90 + "$x_{", 0.04),
    rate("prediction", "resnet", 4100),
]


@pytest.mark.parametrize("rates", [RATES, RATES[:1], RATES[3:4]])
def test_every_rate_is_drawn_with_its_figure(rates: list[ImageRate], tmp_path: Path) -> None:
    with styled():
        figure = draw_rates(rates, "The finding", "CPU · 2 threads · " + "a long line " * 30)
        png = save(figure, tmp_path / "a.png")
        svg = save(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert np.asarray(Image.open(png).convert("L")).std() > 1
    for each in rates:
        value = each.median
        assert (f"{value:,.0f}" if value >= 10 else f"{value:.2g}") in svg
        assert each.work.capitalize() in svg
    assert "The finding" in svg
    panels = figure.axes
    assert len(panels) == len({each.work for each in rates})
    assert len({panel.get_xlim() for panel in panels}) == 1
    low, high = panels[0].get_xlim()
    assert all(low < each.low and each.high < high for each in rates)


def test_devices_share_a_line_and_are_told_apart() -> None:
    with styled():
        figure = draw_rates(RATES[1:3], "t", "m")
        alone = draw_rates(RATES[1:2], "t", "m")
    (axes,) = figure.axes
    assert len(axes.get_yticks()) == 1
    assert len({line.get_color() for line in axes.lines}) == 2
    assert {text.get_text() for text in figure.texts} >= {"cpu", "cuda"}
    assert "cpu" not in {text.get_text() for text in alone.texts}


def test_the_same_rates_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a.svg", "b.svg"):
        with styled():
            files.append(save(draw_rates(RATES, "t", "m"), tmp_path / name).read_bytes())
    assert files[0] == files[1]
