"""The path through the studio in real Chromium with real photographs: actions and seconds.

    python -m benchmarks.studio TRASHNET [--only folders zip loose camera correct] [--out FILE]

TRASHNET has a folder of photographs for each class. Of cardboard, glass and metal, 40 each are
given to a new studio as folders, as a zip, loose, and by a fake camera; 40 others each are asked
about. An action is a click, files that are chosen, a text that is typed, or a button that is held;
time runs from the printed link to the answer to a photograph that was not learnt from. Then one
that is answered wrong is corrected, it is trained again, and old and new are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tests.browser import chromium, resize
from tests.studio_browser import StudioProcess, shown, studio, until

from opsin.runtime.classifier import Classifier

CLASSES: Final = ("cardboard", "glass", "metal")
COUNT: Final = 40
#: What we aim at: actions and seconds of each path, and the share of other photographs right.
AIMS: Final = {"folders": 5, "zip": 5, "loose": 12, "camera": 16, "correct": 5}
SECONDS, RIGHT, RATE = 60.0, 0.92, 5.0
_FAKE: Final = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")


class Visit:
    """What somebody does in a browser, counted."""

    def __init__(self, running: StudioProcess, browser: webdriver.Chrome) -> None:
        self.running, self.browser, self.actions = running, browser, 0
        self.began = time.monotonic()

    def open(self, path: str = "/") -> None:
        """Follow the printed link; its code is used up, and the browser has its cookie."""
        self.actions += path == "/"
        resize(self.browser, 1280)
        self.browser.get(self.running.address + path)

    def click(self, words: str, inside: str = "") -> None:
        """Click a button, link or entry of a menu by its words."""
        kinds = "self::button or self::a or contains(@class, 'q-item')"
        path = f"{inside}//*[{kinds}][contains(normalize-space(.), '{words}')][not(@disabled)]"
        self.until(lambda: self.browser.find_element(By.XPATH, path).is_displayed())
        until(self.browser, lambda: self.browser.find_element(By.XPATH, path).click() is None)
        self.actions += 1

    def give(self, *files: Path, to: str = "//input[@type='file']") -> None:
        """Choose files, or a folder."""
        self.until(lambda: self.browser.find_elements(By.XPATH, to))
        self.browser.find_element(By.XPATH, to).send_keys("\n".join(map(str, files)))
        self.actions += 1

    def write(self, text: str, field: str) -> None:
        """Type a text into a field, and confirm it."""
        self.until(lambda: self.browser.find_elements(By.XPATH, field))
        element = self.browser.find_element(By.XPATH, field)
        element.send_keys(Keys.CONTROL + "a", text, Keys.ENTER)
        self.actions += 1

    def hold(self, inside: str, seconds: float) -> None:
        """Hold the button that records."""
        path = f"{inside}//button[contains(., 'Hold to record')]"
        self.until(lambda: self.browser.find_elements(By.XPATH, path))
        time.sleep(1)  # the camera's first picture
        button = self.browser.find_element(By.XPATH, path)
        ActionChains(self.browser).click_and_hold(button).pause(seconds).release().perform()
        self.actions += 1

    def until(self, holds: Callable[[], object], seconds: float = 180) -> None:
        """Wait until something holds."""
        until(self.browser, holds, seconds)

    def says(self, words: str) -> None:
        """Wait until the page says something."""
        self.until(lambda: words in shown(self.browser))

    def train_and_try(self, photo: Path) -> dict[str, Any]:
        """From the photographs' page to an answer."""
        self.until(lambda: "/photos" in self.browser.current_url)
        self.click("Train", "//main")
        self.until(lambda: "/results" in self.browser.current_url)
        self.click("Try it")
        self.until(lambda: "/try" in self.browser.current_url)
        self.give(photo)
        self.until(lambda: self.browser.find_elements(By.CSS_SELECTOR, ".try .headline"))
        return {"actions": self.actions, "seconds": round(time.monotonic() - self.began, 1)}


def column(name: str) -> str:
    """Where a class is on the photographs' page."""
    return f"//section[.//input[contains(@aria-label, '{name}')]]"


def name_classes(visit: Visit) -> None:
    """Name the two classes that there are, and add a third."""
    visit.write(CLASSES[0], "//input[@aria-label='Name of the class Class 1']")
    visit.write(CLASSES[1], "//input[@aria-label='Name of the class Class 2']")
    visit.click("Add class")
    visit.write(CLASSES[2], "//div[@role='dialog']//input")
    visit.until(lambda: visit.browser.find_elements(By.XPATH, column(CLASSES[2])))


def folders(visit: Visit, photos: Path, new: Path) -> dict[str, Any]:
    visit.open()
    visit.give(photos, to="//input[@webkitdirectory]")
    return visit.train_and_try(new)


def zipped(visit: Visit, photos: Path, new: Path) -> dict[str, Any]:
    archive = shutil.make_archive(str(photos.with_name("waste")), "zip", photos)
    visit.began = time.monotonic()
    visit.open()
    visit.give(Path(archive))
    return visit.train_and_try(new)


def loose(visit: Visit, photos: Path, new: Path) -> dict[str, Any]:
    visit.open()
    visit.click("Use the camera")  # gives two classes to fill
    name_classes(visit)
    for name in CLASSES:
        visit.give(*(photos / name).iterdir(), to=f"{column(name)}//input[@type='file']")
        visit.until(lambda name=name: str(COUNT) in visit.browser.find_element(
            By.XPATH, column(name)).text)  # fmt: skip
    return visit.train_and_try(new)


def video(photos: Path) -> Path:
    """A film for a fake camera: each photograph for a fifth of a second."""
    path = photos.with_suffix(".mjpeg")
    with path.open("wb") as film:
        for photo in sorted(photos.iterdir()):
            frame = io.BytesIO()
            ImageOps.fit(Image.open(photo).convert("RGB"), (640, 480)).save(frame, "JPEG")
            film.write(6 * frame.getvalue())
    return path


def by_camera(running: StudioProcess, folder: Path, photos: Path, new: Path) -> dict[str, Any]:
    """A browser for each class, since a fake camera shows one film."""
    actions, began, page, found = 0, time.monotonic(), "", {}
    films = [video(photos / name) for name in CLASSES]
    for place, (name, film) in enumerate(zip(CLASSES, films, strict=True)):
        flags = (*_FAKE, f"use-file-for-fake-video-capture={film}")
        with chromium(folder / f"camera-{place}", *flags) as browser:
            visit = Visit(running, browser)
            visit.open(page or "/")
            if not page:
                visit.click("Use the camera")
                name_classes(visit)
                page = browser.current_url.removeprefix(running.address).partition("?")[0]
            if not browser.find_elements(By.XPATH, f"{column(name)}//video"):
                visit.click("Camera", column(name))
            visit.hold(column(name), 8)
            visit.until(lambda name=name: visit.browser.find_elements(
                By.XPATH, f"{column(name)}//*[@data-at='9']"))  # fmt: skip
            time.sleep(2)
            actions += visit.actions
            if place == len(CLASSES) - 1:
                visit.actions, visit.began = actions, began
                found = visit.train_and_try(new)
                visit.click("Use the camera")
                visit.says("answers a second")
                time.sleep(5)
                words = next(line for line in shown(browser).splitlines() if "a second" in line)
                found["answers a second"] = float(words.split()[0])
    return found


def correct(visit: Visit, others: Path) -> dict[str, Any]:
    """Correct a wrong answer of the newest classifier, train again, and compare."""
    classifier = Classifier(newest(visit.running))
    photos = [(photo, name) for name in CLASSES for photo in sorted((others / name).iterdir())]
    wrong, name = next(each for each in photos if classifier.predict(each[0]).answer != each[1])
    visit.open("/")
    visit.actions = 0
    visit.click("Try", "//main")
    visit.until(lambda: "/try" in visit.browser.current_url)
    visit.actions, visit.began = 0, time.monotonic()
    visit.give(wrong)
    visit.click("That is wrong")
    visit.click(f"It is {name}")
    visit.click("Train again")
    visit.says("of the same")
    said = next(line for line in shown(visit.browser).splitlines() if "of the same" in line)
    visit.click("Compare", "//main")
    visit.until(lambda: "/compare" in visit.browser.current_url)
    seconds = round(time.monotonic() - visit.began, 1)
    return {"actions": visit.actions, "seconds": seconds, "says": said}


def newest(running: StudioProcess) -> Path:
    return max(running.runs.glob("*/classifier.onnx"), key=lambda path: path.stat().st_mtime).parent


def right(running: StudioProcess, others: Path) -> float:
    """The share of other photographs that the newest classifier knows."""
    classifier, hits = Classifier(newest(running)), []
    for name in CLASSES:
        answers = classifier.predict(sorted((others / name).iterdir()))
        hits += [answer.label == name for answer in answers]
    return sum(hits) / len(hits)


@contextlib.contextmanager
def visiting(folder: Path) -> Iterator[Visit]:
    """A new studio, and a new browser."""
    folder.mkdir()
    with studio(folder) as running, chromium(folder / "profile") as browser:
        yield Visit(running, browser)


def divide(source: Path, folder: Path) -> tuple[Path, Path]:
    """Copy some photographs of each class to learn from, and as many others."""
    for name in CLASSES:
        photos = sorted((source / name).glob("*.jpg"))
        random.Random(0).shuffle(photos)
        for place, photo in enumerate(photos[: 2 * COUNT]):
            target = folder / ("waste" if place < COUNT else "others") / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
    return folder / "waste", folder / "others"


def main() -> None:
    """Walk each path, and print its actions and seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photographs", type=Path, help="TrashNet: a folder for each class")
    parser.add_argument("--only", nargs="+", choices=tuple(AIMS), default=tuple(AIMS))
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos, others = divide(options.photographs, root)
        new = sorted((others / "glass").iterdir())[0]
        walks = {"folders": folders, "zip": zipped, "loose": loose}
        for path in options.only:
            if path in walks:
                with visiting(root / path) as visit:
                    results[path] = walks[path](visit, photos, new)
                    results[path]["right"] = round(right(visit.running, others), 3)
            elif path == "camera":
                (root / path).mkdir()
                with studio(root / path) as running:
                    results[path] = by_camera(running, root / path, photos, new)
                    results[path]["right"] = round(right(running, others), 3)
            else:
                with visiting(root / path) as visit:
                    folders(visit, photos, new)
                    results[path] = correct(visit, others)
            print(f"{path:<10}{results[path]}  aim: {AIMS[path]} actions", flush=True)
    print(f"aims: {SECONDS:.0f} s, {RIGHT} right, {RATE:.0f} answers a second")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
