"""The network is drawn whole, however deep, and so is what its layers see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from opsin.inspection.summary import LayerRow
from opsin.onnx_files.onnx_graph import ReceptiveField
from opsin.report.figures.network_figures import (
    draw_network,
    draw_receptive_fields,
)
from opsin.report.figures.style import save, styled
from opsin.report.inside.network_sections import network_sections
from opsin.report.templates import render_page


def square(side: int) -> ReceptiveField:
    """Return a receptive field around its place."""
    return ReceptiveField(side, side, (1, 1), (-(side // 2), -(side // 2)))


def layer(
    name: str,
    kind: str,
    shape: tuple[int, ...],
    parents: tuple[str, ...],
    parameters: int = 0,
    trainable: int = 0,
    multiply_adds: int = 0,
    seconds: float | None = None,
    receptive_field: ReceptiveField | None = None,
) -> LayerRow:
    return LayerRow(
        name=name, kind=kind, shape=shape, parents=parents, parameters=parameters,
        trainable=trainable, multiply_adds=multiply_adds, seconds=seconds, share=None,
        receptive_field=receptive_field,
    )  # fmt: skip


def chain(count: int, *, timed: bool = True) -> list[LayerRow]:
    """Return a residual network of so many layers, in blocks of four."""
    rows = [layer("input", "Normalise", (3, 16, 16), ("images",), receptive_field=square(1))]
    while len(rows) < count - 1:
        block, before = len(rows) // 4, rows[-1].name
        for part, kind in (("conv", "Conv 3×3 same"), ("norm", "BatchNorm"), ("act", "GELU")):
            rows.append(layer(f"block{block}.{part}", kind, (3, 16, 16), (rows[-1].name,),
                              30 * (part == "conv"), 20 * (part == "conv"), 600, 1e-4,
                              receptive_field=square(2 * block + 3)))  # fmt: skip
        rows.append(layer(f"block{block}.add", "Add", (3, 16, 16), (before, rows[-1].name),
                          receptive_field=rows[-1].receptive_field))  # fmt: skip
    del rows[count - 1 :]
    rows.append(layer("head", "Dense", (10,), (rows[-1].name,), 99, 99, 99, 3e-4))
    whole = sum(row.seconds or 0 for row in rows)
    if not timed:
        return [row.model_copy(update={"seconds": None}) for row in rows]
    return [row.model_copy(update={"share": (row.seconds or 0) / whole}) for row in rows]


def drawings(rows: Sequence[LayerRow], folder: Path, side: int = 16) -> dict[str, str]:
    """Draw both figures, as PNG too, and return them as a page gets them."""
    pixels = np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3)
    with styled():
        figures = {
            "network": draw_network(rows),
            "receptive-fields": draw_receptive_fields(rows, pixels),
        }
        for name, figure in figures.items():
            for kind in ("png", "svg"):
                save(figure, folder / f"{name}.{kind}")
    return {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in figures}


@pytest.mark.parametrize("count", [2, 8, 30, 80, 200])
def test_every_layer_has_its_box_and_none_covers_another(count: int, tmp_path: Path) -> None:
    rows = chain(count)
    with styled():
        figure = draw_network(rows)
        svg = save(figure, tmp_path / "network.svg").read_text(encoding="utf-8")
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    assert width < 11 and height < 2 + 0.45 * count
    shapes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    boxes = [patch.get_bbox() for patch in shapes]
    assert len(boxes) == count
    corners = np.array([box.extents for box in boxes])
    assert corners.min() > 0 and corners[:, 2].max() < width and corners[:, 3].max() < height
    places = corners[:, :2]
    apart = np.abs(places[:, None] - places[None])
    close = (apart[..., 0] < 1.5) & (apart[..., 1] < 0.25)
    assert close.sum() == count
    assert svg.count(">Dense<") == 1 and "pixels 16×16×3" in svg and "10 labels" in svg
    curves = sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches)
    assert curves == sum(len(row.parents) == 2 for row in rows)


@settings(max_examples=12)
@given(st.integers(2, 70), st.data())
def test_any_graph_is_drawn(count: int, data: st.DataObject) -> None:
    rows = []
    for number in range(count):
        before = [f"group{i // 3}.layer{i}" for i in range(number)] + ["images"]
        parents = data.draw(st.sets(st.sampled_from(before), min_size=1, max_size=3))
        rows.append(layer(f"group{number // 3}.layer{number}", "Something new", (2, 4, 4),
                          tuple(sorted(parents)), number))  # fmt: skip
    with styled():
        figure = draw_network(rows)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sum(text == "Something new" for text in texts) == count


def test_the_part_that_is_seen_is_framed_and_the_rest_faded() -> None:
    rows = chain(10)
    pixels = np.zeros((16, 16, 1), np.uint8)
    with styled():
        (axes,) = draw_receptive_fields(rows, pixels).axes
    drawn = [np.asarray(image.get_array()) for image in axes.images]
    assert [int((each == 0).sum()) for each in drawn] == [1, 9, 25, 256]
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    scale = frames[-1].get_height() / 16
    heights = [round(patch.get_height() / scale) for patch in frames]
    assert heights == [1, 3, 5, 16]
    words = {text.get_text() for text in axes.texts}
    assert {"1×1 pixels", "3×3 pixels", "5×5 pixels", "whole image"} <= words
    assert "block0.conv\nto block0.add" in words


@pytest.mark.parametrize("timed", [True, False])
def test_the_page_has_all_layers_their_sums_and_both_figures(timed: bool, tmp_path: Path) -> None:
    rows = chain(50, timed=timed)
    rows[-1] = rows[-1].model_copy(update={"kind": "<b>Dense"})
    drawn = drawings(rows, tmp_path)
    for name in drawn:
        assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).std() > 1
    sections = network_sections(rows, drawn)
    assert [each.anchor for each in sections] == ["network", "receptive-fields"]
    assert sections[0].title == "50 layers hold 459 parameters"
    page = render_page("run", "A network", {"Layers": "50"}, sections)
    assert all(f'<th scope="row">{row.name}</th>' in page for row in rows)
    assert "&lt;b&gt;Dense" in page and "<b>Dense" not in page  # shown, not obeyed
    assert ">459<" in page and "339 trainable, 120 not" in page
    assert ("Time</th>" in page) == timed
    assert page.count("<svg") == 2 and page.count('role="img" aria-label="') == 2
    assert "What is a receptive field?" in page and "http" not in page.split("<svg")[0]
