"""The sections on weights show everything, however large, and load nothing."""

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import example, given, strategies as st
from PIL import Image

from opsin.inspection.weights import WeightImages, WeightView, values_of
from opsin.report.inside.network_sections import matrix_sheet, tile_address, weight_sections
from opsin.report.maps import PALETTES
from opsin.report.templates import Section, render_page

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


def test_a_tile_is_exact() -> None:
    weights = np.array([[[1, 0, -1], [0.5, -0.5, 0]]], np.float32)
    image = opened(tile_address(weights, 1.0))
    assert np.asarray(image).tolist() == [[[255, 128, 0], [191, 64, 128]]]
    grey = opened(tile_address(np.array([[[-1.0], [0], [1], [9]]], np.float32), 1.0))
    colours = np.asarray(grey.convert("RGB"))[0]
    assert colours[[0, 2]].tolist() == PALETTES["PuOr"][[0, 255]].tolist()
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
    assert pixels[row // down, column // across].tolist() == PALETTES["PuOr"][0].tolist()
    for labels, length in ((sheet.rows, sheet.height), (sheet.columns, sheet.width)):
        places = [place for place, _ in labels]
        assert all(0 < place < length for place in places) and labels[0][1] == "0"


def test_a_page_of_many_large_layers_stays_usable() -> None:
    views = [view(f"conv{n}", "kernels", 256, 128, 3, 3) for n in range(3)]
    views += [view("wide", "matrix", 4096, 1500), view("huge", "kernels", 512, 300, 3, 3)]
    text = page(weight_sections(views))
    assert len(text) < 4_000_000
    assert text.count("Units 192 to 255") == 3
    assert "Each point is the strongest of 4×2 numbers" in text
    assert "Too many kernels to draw them weight by weight" in text
