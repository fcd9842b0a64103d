"""The network is drawn whole, however deep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from opsin.inspection.summary import LayerRow
from opsin.onnx_files.onnx_graph import ReceptiveField
from opsin.report.figures.network_figures import draw_network
from opsin.report.figures.style import save, styled
from opsin.report.inside.network_sections import network_section
from opsin.report.templates import render_page

MAPS = (3, 16, 16)


def square(side: int) -> ReceptiveField:
    """Return a receptive field around its place."""
    return ReceptiveField(side, side, (1, 1), (-(side // 2), -(side // 2)))


def layer(
    name: str, kind: str, shape: tuple[int, ...], parents: tuple[str, ...], **more: Any
) -> LayerRow:
    counts = {"parameters": 0, "trainable": 0, "multiply_adds": 0, "receptive_field": None}
    return LayerRow(name=name, kind=kind, shape=shape, parents=parents, **counts | more)


def chain(count: int) -> list[LayerRow]:
    """Return a residual network of so many layers, in blocks of four."""
    rows = [layer("input", "Normalise", MAPS, ("images",), receptive_field=square(1))]
    while len(rows) < count - 1:
        block, before = len(rows) // 4, rows[-1].name
        for part, kind in (("conv", "Conv 3×3 same"), ("norm", "BatchNorm"), ("act", "GELU")):
            counts = {"parameters": 30, "trainable": 20} if part == "conv" else {}
            name, seen = f"block{block}.{part}", square(2 * block + 3)
            rows.append(layer(name, kind, MAPS, (rows[-1].name,), receptive_field=seen, **counts))
        name, parents = f"block{block}.add", (before, rows[-1].name)
        rows.append(layer(name, "Add", MAPS, parents, receptive_field=rows[-1].receptive_field))
    del rows[count - 1 :]
    rows.append(layer("head", "Dense", (10,), (rows[-1].name,), parameters=99, trainable=99))
    return rows


@pytest.mark.parametrize("count", [2, 30, 200])
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
        name = f"group{number // 3}.layer{number}"
        rows.append(layer(name, "Something new", (2, 4, 4), tuple(sorted(parents))))
    with styled():
        figure = draw_network(rows)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sum(text == "Something new" for text in texts) == count


def test_the_page_has_all_layers_and_their_sums(tmp_path: Path) -> None:
    rows = chain(50)
    rows[-1] = rows[-1].model_copy(update={"kind": "<b>Dense"})
    with styled():
        figure = draw_network(rows)
        png, svg = (save(figure, tmp_path / f"network.{kind}") for kind in ("png", "svg"))
    assert np.asarray(Image.open(png).convert("L")).std() > 1
    part = network_section(rows, svg.read_text(encoding="utf-8"))
    assert part.title == "50 layers hold 459 parameters"
    page = render_page("run", "A network", {"Layers": "50"}, [part])
    assert all(f'<th scope="row">{row.name}</th>' in page for row in rows)
    assert "&lt;b&gt;Dense" in page and "<b>Dense" not in page  # shown, not obeyed
    assert ">459<" in page and "339 trainable, 120 not" in page
    assert "<td>5×5</td>" in page and "<td>whole image</td>" in page
    assert page.count("<svg") == 1 and page.count('role="img" aria-label="') == 1
    assert "http" not in page.split("<svg")[0]
