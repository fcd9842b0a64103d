"""Take the screenshots that the documentation shows, with Chromium.

    python scripts/screenshots.py

A studio of its own starts in an empty folder, with 7,000 images of Fashion-MNIST and a training
of twelve epochs; then a server shows the tutorials' page. It takes some minutes. Look at what was
taken before you commit it.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

import opsin

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.browser import chromium, resize  # noqa: E402
from tests.flows.test_studio_inside import drawn  # noqa: E402
from tests.flows.test_studio_train import last_epoch  # noqa: E402
from tests.made_studio import addresses  # noqa: E402
from tests.served import serving  # noqa: E402
from tests.studio_browser import one, send, shown, studio, until, wait_for  # noqa: E402

from opsin.studio.datasets.catalogue import Library  # noqa: E402
from opsin.studio.jobs.queue import Queue  # noqa: E402

IMAGES: Final = ROOT / "docs" / "images"
PAGE: Final = ROOT / "docs" / "learn" / "select-a-picture.html"
#: Pixels that a screenshot is wide in the end; it is taken larger.
_WIDTH: Final = 900
#: Seconds that a page, and a training, may take on a busy machine.
_PATIENCE: Final = 300
_TRAINING: Final = 1800


def write_source(folder: Path) -> Path:
    """Write a part of Fashion-MNIST, and an image to ask about: a test image on white paper."""
    data = opsin.load("fashion-mnist")
    train, test = data.split.train[:6000], data.split.test[:1000]
    file = folder / "clothes.npz"
    np.savez(file, images=data.images[train], labels=data.labels[train], classes=data.classes,
             test_images=data.images[test], test_labels=data.labels[test])  # fmt: skip
    boot = Image.fromarray(255 - data.images[test[0], :, :, 0])
    boot.resize((560, 560)).save(folder / "boot.png")
    return file


def take(browser: webdriver.Chrome, file: Path, ready: Callable[[], object]) -> None:
    """Wait until a page is ready, and write its screenshot."""
    until(browser, ready, _PATIENCE)
    image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    if image.width > _WIDTH:
        height = round(image.height * _WIDTH / image.width)
        image = image.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file.relative_to(ROOT), flush=True)


def in_sight(browser: webdriver.Chrome, selector: str) -> bool:
    """Tell whether the images that a selector finds in the window have arrived."""
    script = (
        "const all = [...document.querySelectorAll(arguments[0])].filter("
        "(image) => image.getBoundingClientRect().top < innerHeight);"
        "return all.length > 0 && all.every((image) => image.complete && image.naturalWidth > 0)"
    )
    return bool(browser.execute_script(script, selector))


def of_studio(folder: Path, source: Path, browser: webdriver.Chrome) -> Path:
    """Take those of the studio; return the run that it shows."""
    the_set = Library(folder / "home", Queue(folder / "home")).add_source(str(source)).id
    words = ["train", source, "--model", "resnet", "--epochs", "12", "--runs", folder / "runs"]
    with studio(folder) as running:
        training = subprocess.Popen([sys.executable, "-m", "opsin", *map(str, words), "--quiet"])
        wait_for(lambda: next(running.runs.glob("*/recipe.json"), None), _PATIENCE)
        run = next(running.runs.iterdir())
        page = {
            name: running.address + address
            for name, address in addresses(run.name, run.name, the_set).items()
        }

        browser.get(page["Runs"])  # where a run appears that was started elsewhere
        until(browser, lambda: run.name in shown(browser), _PATIENCE)
        browser.get(page["A run, live"])
        until(browser, lambda: last_epoch(browser) >= 5, _TRAINING)
        take(browser, IMAGES / "studio-run.png", lambda: (
            "images/s" in one(browser, ".op-work").text))  # fmt: skip
        assert training.wait(_TRAINING) == 0

        browser.get(page["A set"])
        until(browser, lambda: "under different labels" in shown(browser), _PATIENCE)
        take(browser, IMAGES / "studio-set.png", lambda: in_sight(browser, ".op-gallery img"))

        resize(browser, 1400, 1400)  # much is on these pages
        browser.get(page["Inside"])
        take(browser, IMAGES / "studio-inside.png", lambda: drawn(browser, ".maps img"))

        resize(browser, 1200, 1150)
        browser.get(page["Try"])
        send(browser, folder / "boot.png")
        take(browser, IMAGES / "studio-try.png", lambda: (
            drawn(browser, ".op-tried img") and in_sight(browser, ".op-gallery img")))  # fmt: skip
    return run


def of_own_page(folder: Path, run: Path, browser: webdriver.Chrome) -> None:
    """Take that of the tutorial's page of thirty lines."""
    resize(browser, 560, 800)
    with serving(run, "--page", PAGE, folder=folder) as server:
        browser.get(f"{server.url}/")
        browser.find_element(By.CSS_SELECTOR, "input").send_keys(str(folder / "boot.png"))
        take(browser, IMAGES / "learn" / "an-interface-page.png",
             lambda: "sure" in one(browser, "#label").text)  # fmt: skip


def main() -> None:
    """Take all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_source(folder)
        with chromium(folder / "profile") as browser:
            resize(browser, 1200, 860)
            run = of_studio(folder, source, browser)
            of_own_page(folder, run, browser)


if __name__ == "__main__":
    main()
