"""The page shows every unit of every layer, in true colours, and nothing in a name runs."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from opsin.inspection.activity import Activity, ActivityRecord
from opsin.inspection.layers import LayerView, view_of
from opsin.onnx_files.onnx_graph import ReceptiveField
from opsin.report.inside.layer_sections import PAGE, layer_sections
from opsin.report.maps import PALETTES
from opsin.report.templates import render_page
from tests.made_classifier import made_layer
from tests.report.test_figures import HOSTILE

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
FIELD = ReceptiveField(5, 5, (2, 2), (-1, -1))


def view(name: str, kind: str, values: NDArray[np.float32]) -> LayerView:
    return view_of(made_layer(name, kind, values.shape), values)


def maps(units: int, kind: str = "ReLU", name: str = "relu1") -> LayerView:
    values = np.random.default_rng(units).standard_normal((units, 6, 8), np.float32)
    return view(name, kind, np.maximum(values, 0) if kind == "ReLU" else values)


def shown(
    views: list[LayerView],
    names: list[str] | None = None,
    activity: Activity | None = None,
    pixels: NDArray[np.uint8] = PIXELS,
) -> str:
    bars = [(name, 1 / (place + 2)) for place, name in enumerate(names or ["a", "b"])]
    fields = {each.layer.name: FIELD for each in views if each.values.ndim == 3}
    sections = layer_sections(views, activity, pixels, bars, fields)
    return render_page("boot.png", "a, 50%", {}, sections)


def sprites(html: str) -> list[tuple[list[list[float]], NDArray[np.uint8]]]:
    """Return each page of maps: what the script is told of its units, and the image."""
    found = []
    for anchor, address in re.findall(
        r"#(layer\d+-\d+) i\{background-image:url\(data:image/png;base64,([^)]*)\)", html
    ):
        (told,) = re.findall(rf'id="{anchor}" data-units="([^"]*)"', html)
        with Image.open(io.BytesIO(base64.b64decode(address))) as image:
            assert image.mode == "P"
            found.append((json.loads(told), np.asarray(image.convert("RGB"))))
    return found


@pytest.mark.parametrize("kind", ["ReLU", "Conv 3×3 same"])
@pytest.mark.parametrize("units", [1, 5, 64, 130])
def test_every_map_is_there_in_its_colours_the_strongest_first(units: int, kind: str) -> None:
    layer = maps(units, kind)
    html = shown([layer])
    pages = sprites(html)
    assert [len(told) for told, _ in pages] == [
        min(PAGE, units - start) for start in range(0, units, PAGE)
    ]
    order = [int(entry[0]) for told, _ in pages for entry in told]
    assert order == layer.order.tolist()
    assert re.findall(r"<i></i><b>(\d+)</b>", html) == [str(unit) for unit in order]
    sizes = np.abs(layer.values[layer.values != 0])
    reach = float(np.quantile(sizes, 0.995)) if sizes.size > 200 else float(sizes.max())
    low = 0.0 if kind == "ReLU" else -reach
    palette = PALETTES["viridis" if kind == "ReLU" else "PuOr"]
    reach = min(reach, max(layer.maximum, -layer.minimum))
    shares = np.clip((layer.values - low) / (reach - low), 0, 1)
    expected = palette[np.rint(255 * shares).astype(int)]
    for told, image in pages:
        columns = min(8, len(told))
        for place, (unit, lowest, highest, strongest) in enumerate(told):
            top, left = place // columns * 6, place % columns * 8
            tile = image[top : top + 6, left : left + 8]
            assert np.abs(tile.astype(int) - expected[int(unit)]).max() <= 2
            own = layer.values[int(unit)]
            assert lowest == pytest.approx(own.min(), rel=0.01)
            assert highest == pytest.approx(own.max(), rel=0.01)
            assert np.abs(own).max() == np.abs(own.ravel()[int(strongest)])


def test_a_thousand_classes_are_all_there_and_names_do_not_run() -> None:
    names = [*HOSTILE, *(f"class {number}" for number in range(1000))]
    dense = view("<img src=x>", "<img src=x>", np.ones(2, np.float32))
    html = shown([maps(3, name="<img src=x>"), dense], names)
    assert html.count("<dt>") >= len(names)
    assert "<img src=x" not in html
    assert html.count("<script") == 1


def test_nothing_is_loaded_and_every_image_has_a_text() -> None:
    html = shown([maps(70), view("dense", "Dense", np.ones(3, np.float32))])
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', html) == []
    assert set(re.findall(r"url\((.{10})", html)) == {"data:image"}
    assert re.findall(r"<(?:img|svg)(?![^>]*(?:alt=|aria-label=))", html) == []
    anchors = set(re.findall(r'id="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= anchors


def test_dead_and_saturated_units_are_marked_in_words() -> None:
    values = np.random.default_rng(0).random((50, 4, 6, 8), np.float32)
    values[:, 2] = 0
    ends = np.full((50, 3, 6, 8), 0.999, np.float32)
    ends[::2] *= -1
    ends[:, 1:] *= 0.5
    layers = [view("relu1", "ReLU", values[0]), view("tanh1", "Tanh", ends[0])]
    record = ActivityRecord([each.layer for each in layers])
    record.add({"relu1": values, "tanh1": ends})
    html = shown(layers, activity=record.result())
    assert "1 of 4 units is dead: 2." in html
    assert "1 of 3 units is saturated: 0." in html
    assert re.findall(r"<b>(\d+)</b> [^<]* <em>(\w+)</em>", html) == [
        ("2", "dead"),
        ("0", "saturated"),
    ]
    assert "found over 50 training images" in html
    assert "dead units cannot be told" in shown(layers)


@pytest.mark.slow
def test_a_map_is_enlarged_by_keyboard_and_says_what_it_sees(tmp_path: Path) -> None:
    pytest.importorskip("selenium")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    from tests.browser import CHROMIUM, DRIVER, chromium, console, requests_beyond, resize

    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Debian's chromium and chromium-driver")

    page = tmp_path / "boot.html"
    layer = maps(70, "Conv 3×3 same", "conv1")
    page.write_text(shown([layer, maps(3)]), "utf-8")
    with chromium(tmp_path / "profile") as browser:
        console(browser, "performance")
        resize(browser, 400)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 400
        assert (
            browser.execute_script(
                "return [...document.querySelectorAll('.layers-maps button')]"
                ".filter(button => button.tabIndex === 0).length"
            )
            == 3
        )
        browser.find_element(By.CSS_SELECTOR, "#layer0-0 button").send_keys(Keys.ARROW_RIGHT)
        second = browser.switch_to.active_element
        assert second.text.startswith(str(layer.order[1]))
        second.send_keys(Keys.ENTER)
        said = browser.find_element(By.CSS_SELECTOR, ".layers-said")
        title = browser.find_element(By.ID, "layers-title")
        assert title.text == f"conv1, unit {layer.order[1]}"
        own = layer.values[layer.order[1]]
        y, x = divmod(int(np.abs(own).argmax()), 8)
        rows = f"rows {max(2 * y - 1, 0)} to {min(2 * y + 3, 11)}"
        columns = f"columns {max(2 * x - 1, 0)} to {min(2 * x + 3, 15)}"
        assert f"Row {y}, column {x} of 6 × 8" in said.text
        assert f"{rows}, {columns} of the image" in said.text
        stage = browser.find_element(By.CSS_SELECTOR, ".layers-stage")
        step = (Keys.ARROW_UP, -1) if y else (Keys.ARROW_DOWN, 1)
        stage.send_keys(step[0])
        assert f"Row {y + step[1]}, column {x}" in said.text
        told = re.findall(r"(?:about|at least|at most) (−?[\d.]+)", said.text)
        scale = max(abs(layer.minimum), layer.maximum)
        assert abs(float(told[0].replace("−", "-")) - own[y + step[1], x]) < 0.02 * scale
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not browser.execute_script("return document.querySelector('dialog').open")
        assert browser.switch_to.active_element == second
        assert console(browser, "browser") == []
        assert requests_beyond(browser, page.as_uri()) == []
