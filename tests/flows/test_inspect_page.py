"""The pages of `opsin inspect` in a real browser: whole, narrow and wide, and asking nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin

pytest.importorskip("selenium")
from selenium import webdriver

from tests.browser import check_page, needs_chromium
from tests.conftest import without_drawing

pytestmark = [pytest.mark.torch, needs_chromium]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every kind of page, of a network with maps, in colour, with names that need care."""
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    images = random.integers(0, 120, (300, 16, 16, 3), np.uint8)
    labels = np.arange(300) % 3
    images[labels == 1, 4:12, 4:12] += 100
    images[labels == 2, :6] += 100
    classes = ["a", "<img src=x onerror=alert(1)>, a very long class name indeed", "漢字"]
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "made up.npz", images=images, labels=labels, classes=np.array(classes))
    with without_drawing():
        run = opsin.train(folder / "made up.npz", model="resnet", hidden=(8, 16), epochs=2,
                          runs=folder, quiet=True)  # fmt: skip
    layer = "stage2.gelu"
    found = [
        opsin.inspect(run),
        opsin.inspect(run, images[1], explain=True),
        opsin.inspect(run, layers=[layer], ablate=True, label="漢字"),
    ]
    return [each.page for each in found if each.page is not None]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_and_nothing_goes_wrong(
    pages: list[Path], browser: webdriver.Chrome, width: int
) -> None:
    for page in pages:
        assert check_page(browser, page, width)
