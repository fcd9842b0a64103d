"""How long it takes in the studio from photographs in a zip to the first answer.

    python -m benchmarks.first_answer trashnet mobilenet.onnx --classes glass,paper --images 30

Chromium does what a person would: sends a zip with so many images of each class, chooses a
pretrained network and brings its file, starts the training, and gives the classifier an image that
it has not seen. Nobody waits between two clicks, so this is the time of the machine alone. Each
repeat has a studio and a cache of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException
from tests.browser import chromium, resize
from tests.studio_browser import StudioProcess, button, choose, one, shown, studio, until

import opsin
from opsin.data.dataset import Dataset

_WAIT = 600.0


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="images with labels")
    parser.add_argument("network", type=Path, help="an ONNX file")
    parser.add_argument("--pixels", default="-1..1", help="words of a choice of the studio's form")
    parser.add_argument(
        "--classes", help="the classes that are told apart (default: the first two)"
    )
    parser.add_argument("--images", type=int, default=30, help="of each class")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    data = opsin.load(given.source, size=(256, 256), channels=3)
    classes = given.classes.split(",") if given.classes else list(data.classes[:2])
    found: dict[str, list[float]] = {}
    for repeat in range(given.repeats):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.environ["OPSIN_CACHE"] = str(Path(folder, "cache"))
            unseen = _pack(data, classes, given.images, repeat, Path(folder))
            with studio(Path(folder)) as running, chromium(Path(folder, "profile")) as browser:
                resize(browser, 1200)
                times = _story(running, browser, given.network, given.pixels, unseen)
        for name, seconds in times.items():
            found.setdefault(name, []).append(seconds)
    for name, each in found.items():
        print(f"{name:32} {statistics.median(each):6.1f} s  ({min(each):.1f} to {max(each):.1f})")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _pack(data: Dataset, classes: list[str], count: int, seed: int, folder: Path) -> Path:
    """Write ``photos.zip`` with a folder a class, and return another image."""
    random = np.random.default_rng(seed)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name in classes:
            rows = random.permutation(np.flatnonzero(data.labels == data.classes.index(name)))
            for place, row in enumerate(rows[: count + 1]):
                file = folder / f"{name}-{place}.jpg"
                Image.fromarray(np.asarray(data.images[row])).save(file, quality=92)
                if place < count:
                    archive.write(file, f"{name}/{place}.jpg")
    return file


def _unfolded(browser: webdriver.Chrome) -> bool:
    """Click on the place for a network's file; what moves over it at first is waited for."""
    with contextlib.suppress(ElementClickInterceptedException):
        one(browser, ".op-more").click()
        return True
    return False


def _story(
    running: StudioProcess, browser: webdriver.Chrome, network: Path, pixels: str, unseen: Path
) -> dict[str, float]:
    """Go the whole way, and return how long it took until each place."""
    browser.get(f"{running.address}/data")
    until(browser, lambda: one(browser, "input[type=file]"))
    began = time.perf_counter()
    one(browser, "input[type=file]").send_keys(str(running.folder / "photos.zip"))
    until(browser, lambda: button(browser, "Train with these").is_displayed(), _WAIT)
    times = {"images there": time.perf_counter() - began}
    # The panel is drawn again when its images are read: the address outlives it.
    browser.get(str(button(browser, "Train with these").get_attribute("href")))
    until(browser, lambda: one(browser, '[aria-label="Model"]'), _WAIT)
    choose(browser, "Model", "pretrained")
    until(browser, lambda: _unfolded(browser))
    one(browser, ".op-intake input[type=file]").send_keys(str(network.absolute()))
    until(browser, lambda: network.name in shown(browser), _WAIT)
    choose(browser, "Pixels that it was trained on", pixels)
    until(browser, lambda: button(browser, "Start").is_enabled(), _WAIT)
    button(browser, "Start").click()
    times["started"] = time.perf_counter() - began
    until(browser, lambda: "/runs/" in browser.current_url, _WAIT)
    until(browser, lambda: "Done" in one(browser, ".op-run-state").text, _WAIT)
    times["trained"] = time.perf_counter() - began
    browser.get(f"{running.address}/try")
    until(browser, lambda: one(browser, "input[type=file]"))
    one(browser, "input[type=file]").send_keys(str(unseen))
    until(browser, lambda: one(browser, ".op-bars .op-best"), _WAIT)
    times["first answer"] = time.perf_counter() - began
    return times


if __name__ == "__main__":
    main()
