"""The sections on weights and probes show everything, however large, and load nothing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from opsin.inspection.probes import Probe, Probes
from opsin.inspection.weights import WeightImages, WeightView, values_of
from opsin.report.figures.inspection_charts import (
    draw_norms,
    draw_probes,
    norms_title,
    probes_title,
)
from opsin.report.figures.style import save, styled
from opsin.report.inside.weight_sections import (
    matrix_sheet,
    probe_sections,
    tile_address,
    weight_sections,
)
from opsin.report.maps import PUOR
from opsin.report.templates import Section, render_page
from tests.made_epochs import made_epoch

RANDOM = np.random.default_rng(0)


def view(name: str, kind: Any, *shape: int) -> WeightView:
    weights = RANDOM.normal(size=shape).astype(np.float32)
    values = (values_of("weight", "weights", weights), values_of("bias", "biases", weights[:, 0]))
    return WeightView(
        name, "Some", 1234, 1234, values, WeightImages(kind, weights, 1.0, ("input",))
    )


def page(sections: Sequence[Section]) -> str:
    text = render_page("run", "Verdict", {}, sections)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert len(re.findall("<img ", text)) == len(re.findall(r'<img [^>]*alt="[^"]+"', text))
    assert text.count("<details") == text.count("</details>")
    return text


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_say_how_they_are_scaled(channels: int) -> None:
    text = page(weight_sections([view("conv1", "filters", 8, 3, 3, channels)], [], {}))
    assert text.count("<img ") == 8
    assert "a colour scale of its own" in text
    assert ("Mid grey is 0" in text) == (channels == 3)
    assert "They are fixed" not in text


def test_a_tile_is_exact() -> None:
    weights = np.array([[[1, 0, -1], [0.5, -0.5, 0]]], np.float32)
    image = opened(tile_address(weights, 1.0))
    assert np.asarray(image).tolist() == [[[255, 128, 0], [191, 64, 128]]]
    grey = opened(tile_address(np.array([[[-1.0], [0], [1], [9]]], np.float32), 1.0))
    colours = np.asarray(grey.convert("RGB"))[0]
    assert colours[[0, 2]].tolist() == PUOR[[0, 255]].tolist()
    assert colours[3].tolist() == colours[2].tolist()
    assert np.ptp(colours[1].astype(int)) < 8 and colours[1].min() > 240  # 0 has no colour


@given(st.integers(1, 3000), st.integers(1, 3000))
@example(2899, 1)
def test_a_matrix_of_any_size_keeps_its_strongest_number(rows: int, columns: int) -> None:
    matrix = np.zeros((rows, columns), np.float32)
    row, column = rows * 2 // 3, columns // 3
    matrix[row, column] = -5.0
    sheet, (down, across) = matrix_sheet(matrix, 1.0)
    image = opened(sheet.address).convert("RGB")
    assert max(image.size) <= 1024
    pixels = np.asarray(image)
    assert pixels[row // down, column // across].tolist() == PUOR[0].tolist()
    for labels, length in ((sheet.rows, sheet.height), (sheet.columns, sheet.width)):
        places = [place for place, _ in labels]
        assert all(0 < place < length for place in places) and labels[0][1] == "0"


def test_a_page_of_many_large_layers_stays_usable() -> None:
    views = [view(f"conv{n}", "kernels", 256, 128, 3, 3) for n in range(3)]
    views += [view("wide", "matrix", 4096, 1500), view("huge", "kernels", 512, 300, 3, 3)]
    text = page(weight_sections(views, [], {}))
    assert len(text) < 4_000_000
    assert text.count("Units 192 to 255") == 3
    assert "Each point is the strongest of 4×2 numbers" in text
    assert "Too many kernels to draw them weight by weight" in text


HISTORY = [
    made_epoch(n, norms={f"layer{k}": 3.0 + k * n / 10 for k in range(9)} | {"head": 5.0 - n})
    for n in range(1, 4)
]


def drawn(figure: Any, folder: Path) -> str:
    assert np.asarray(Image.open(save(figure, folder / "figure.png"))).std() > 1
    return save(figure, folder / "figure.svg").read_text(encoding="utf-8")


def test_norms_name_those_that_changed_most(tmp_path: Path) -> None:
    assert norms_title(HISTORY) == "head shrank most: the norm of its weights went from 4 to 2"
    with styled():
        svg = drawn(draw_norms(HISTORY), tmp_path)
    assert "layer8" in svg and "layer3  " not in svg and "4 other layers" in svg
    sections = weight_sections([view("head", "matrix", 3, 4)], HISTORY, {"norms": svg})
    assert sections[-1].anchor == "norms"
    assert page(sections).count('<th scope="row">layer') == 9
    same = [made_epoch(n, norms={"head": 2.0}) for n in (1, 2)]
    assert "hardly changed" in norms_title(same)
    with styled():
        drawn(draw_norms(same), tmp_path)


def probed(*accuracies: float, wide: float = 0.01) -> Probes:
    names = ["pixels", *(f"layer{n}" for n in range(1, len(accuracies) - 1)), "classifier"]
    probes = tuple(
        Probe(name, value, max(0.0, value - wide), min(1.0, value + wide), 9000, 100, "pooled",
              (3, 3))
        for name, value in zip(names, accuracies, strict=True)
    )  # fmt: skip
    return Probes(probes, fitted=4000, judged=2000, source="made")


@pytest.mark.parametrize(("accuracies", "title"), [
    ((0.5, 0.52, 0.8, 0.9, 0.9),
     "Classes come apart most between layer1 and layer2: 52.0% to 80.0%"),
    ((0.5, 0.515, 0.53, 0.545, 0.9),
     "Classes come apart little by little: 50.0% from the pixels, 54.5% from layer3"),
    ((0.5, 0.49, 0.51, 0.9), "No layer tells the classes apart clearly better than pixels: 50.0%"),
    ((0.5, 0.9), "No layer tells the classes apart clearly better than pixels: 50.0%"),
])  # fmt: skip
def test_the_title_says_where_the_classes_come_apart(
    accuracies: tuple[float, ...], title: str, tmp_path: Path
) -> None:
    made = probed(*accuracies)
    assert probes_title(made.probes) == title
    with styled():
        svg = drawn(draw_probes(made.probes), tmp_path)
    assert "the classifier itself" in svg
    (only,) = probe_sections(made, {"probes": svg})
    assert only.title == title and only.anchor == "probes"
    text = page([only])
    assert "means of 3×3 places" in text and "4,000 training images" in text
