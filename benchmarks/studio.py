"""The path through the studio in real Chromium with real photographs: actions and seconds.

    python -m benchmarks.studio TRASHNET [--only folders zip loose camera correct heap]

TRASHNET has a folder of photographs for each class. Of cardboard, glass and metal, 40 each are
given to a new studio as folders, as a zip, loose, and by a fake camera; 40 others each are asked
about. An action is a click, files that are chosen, a text that is typed, or a button that is held;
time runs from the printed link to the answer to another photograph. ``correct`` corrects a wrong
answer, trains again, and compares. ``heap`` gives 300 of the three classes in one folder: groups
are named by what most of them are, then 40 questions are answered by keys.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from selenium.webdriver.common.by import By
from tests.browser import chromium
from tests.studio_browser import StudioProcess, studio
from tests.studio_visit import (
    FAKE,
    Visit,
    answer_questions,
    asked,
    column,
    film,
    name_classes,
    name_groups,
)

from opsin.runtime.classifier import Classifier

CLASSES: Final = ("cardboard", "glass", "metal")
COUNT: Final = 40
#: Photographs of each class in the heap, groups that are named, and questions that are answered.
HEAP, GROUPS, QUESTIONS = 100, 8, 40
#: Actions that we aim at, beside 60 seconds, 0.92 right, and 5 answers a second of a camera.
AIMS: Final = {"folders": 5, "zip": 5, "loose": 12, "camera": 16, "correct": 5, "heap": 80}
Figures = dict[str, Any]


def train_and_try(visit: Visit, photo: Path) -> Figures:
    """From the photographs' page to an answer."""
    for word, page in (("Train", "/results"), ("Try it", "/try")):
        visit.click(word, "//*[contains(@class, 'page-head')]")
        visit.reach(page)
    visit.give(photo)
    visit.see("//*[@class='try']//*[contains(@class, 'headline')]")
    return {"actions": visit.actions, "seconds": visit.seconds}


def give_whole(visit: Visit, photos: Path, new: Path, path: str) -> Figures:
    """Give class folders, or a zip of them."""
    given = Path(shutil.make_archive(str(photos), "zip", photos)) if path == "zip" else photos
    visit.open()
    visit.give(
        given, to="//input[@webkitdirectory]" if given == photos else "//input[@type='file']"
    )
    return train_and_try(visit, new)


def give_loose(visit: Visit, photos: Path, new: Path) -> Figures:
    """Give each class its photographs, which lie in no folder of their own."""
    name_classes(visit, CLASSES)
    for name in CLASSES:
        visit.give(*(photos / name).iterdir(), to=f"{column(name)}//input[@type='file']")
        visit.see(column(name), str(COUNT))
    return train_and_try(visit, new)


def record(running: StudioProcess, folder: Path, photos: Path, new: Path) -> Figures:
    """Hold each class before a camera: in a browser of its own, since that has one film."""
    actions, began, page, figures = 0, time.monotonic(), "", {}
    for name in CLASSES:
        with chromium(folder / f"camera-{name}", *FAKE, film(photos / name)) as browser:
            visit = Visit(running, browser, actions, began)
            visit.open(page) if page else name_classes(visit, CLASSES)
            visit.see(column(name))
            page = browser.current_url.removeprefix(running.address).partition("?")[0]
            if not browser.find_elements(By.XPATH, f"{column(name)}//video"):
                visit.click("Camera", column(name))
            visit.hold(column(name), 8)
            visit.see(f"{column(name)}//*[@data-at='0']")
            while browser.find_elements(By.XPATH, f"{column(name)}//progress"):
                time.sleep(0.2)  # the last photographs are on their way
            actions = visit.actions
            if name == CLASSES[-1]:
                figures = train_and_try(visit, new)
                visit.click("Use the camera")
                visit.says("answers a second")
                time.sleep(5)
                figures["answers a second"] = float(visit.line("answers a second").split()[0])
    return figures


def correct(visit: Visit, others: Path) -> Figures:
    """Correct a wrong answer of the newest classifier, train again, and compare."""
    classifier = Classifier(newest(visit.running))
    photos = [(photo, name) for name in CLASSES for photo in sorted((others / name).iterdir())]
    wrong, name = next(each for each in photos if classifier.predict(each[0]).answer != each[1])
    visit.open(visit.browser.current_url.removeprefix(visit.running.address).partition("?")[0])
    visit.actions, visit.began = 0, time.monotonic()
    visit.give(wrong)
    for words in ("That is wrong", f"It is {name}", "Train again"):
        visit.click(words)
    visit.reach("/compare")
    visit.says("compared with")
    sentence = visit.line("compared with")
    return {"actions": visit.actions, "seconds": visit.seconds, "sentence": sentence}


def sort_heap(visit: Visit, photos: Path, new: Path) -> Figures:
    """Sort a heap by groups and questions."""
    visit.open()
    visit.give(*sorted(photos.iterdir()))
    visit.reach("/photos")
    visit.click("Sort them")
    visit.reach("/sort")
    classes = name_groups(visit, class_of, GROUPS)
    figures: Figures = {"groups": visit.actions, "groups, seconds": visit.seconds}
    visit.click("Questions", "//*[contains(@class, 'views')]")
    visit.until(lambda: asked(visit.browser))
    figures["slowest question"] = answer_questions(visit, class_of, classes, QUESTIONS)
    visit.until(
        lambda: "% right" in visit.find("//body").text or "more random" in visit.find("//body").text
    )
    figures["said"] = visit.find("//*[@class='views']/following::*[@role='status'][1]").text
    (tray,) = visit.running.home.rglob(".not-sorted")
    placed = [path for path in tray.parent.glob("*/*/*.jpg") if tray not in path.parents]
    figures["sorted"] = len(placed)
    figures["sorted rightly"] = round(
        sum(class_of(path.name) == path.parent.name for path in placed) / len(placed), 3
    )
    return figures | train_and_try(visit, new)


def class_of(name: str) -> str:
    """The class of a photograph of the heap, by the first digit of its number."""
    return CLASSES[int(name.partition("img-")[2][0])]


def newest(running: StudioProcess) -> Path:
    """The run of the newest classifier."""
    return max(running.runs.glob("*/classifier.onnx"), key=lambda path: path.stat().st_mtime).parent


def right(running: StudioProcess, others: Path) -> float:
    """The share of other photographs that the newest classifier knows."""
    classifier = Classifier(newest(running))
    answers = classifier.predict(photos := sorted(others.rglob("*.jpg")))
    hits = [
        answer.label == photo.parent.name for answer, photo in zip(answers, photos, strict=True)
    ]
    return round(sum(hits) / len(hits), 3)


def divide(source: Path, folder: Path) -> tuple[Path, Path]:
    """Copy some photographs of each class to learn from, and as many others."""
    for name in CLASSES:
        photos = sorted((source / name).glob("*.jpg"))
        random.Random(0).shuffle(photos)  # noqa: S311  the same each time
        for place, photo in enumerate(photos[: 2 * COUNT]):
            target = folder / ("waste" if place < COUNT else "others") / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
    return folder / "waste", folder / "others"


def pile(source: Path, folder: Path, others: Path) -> Path:
    """Copy photographs of each class into one folder, none of them among the others."""
    heap = folder / "heap-photos"
    heap.mkdir()
    for number, name in enumerate(CLASSES):
        kept = {photo.name for photo in (others / name).iterdir()}
        photos = [
            photo for photo in sorted((source / name).glob("*.jpg")) if photo.name not in kept
        ]
        random.Random(0).shuffle(photos)  # noqa: S311  the same each time
        for place, photo in enumerate(photos[:HEAP]):
            shutil.copy(photo, heap / f"img-{number}{place:03}.jpg")
    return heap


def walk(path: str, folder: Path, photos: Path, others: Path) -> Figures:
    """Walk one path in a new studio."""
    folder.mkdir()
    new = sorted((others / "glass").iterdir())[0]
    with studio(folder) as running:
        if path == "camera":
            return record(running, folder, photos, new) | {"right": right(running, others)}
        with chromium(folder / "profile") as browser:
            visit = Visit(running, browser)
            if path == "heap":
                figures = sort_heap(visit, photos, new)
            elif path == "loose":
                figures = give_loose(visit, photos, new)
            else:
                figures = give_whole(visit, photos, new, path)
            if path == "correct":
                return correct(visit, others)
            return figures | {"right": right(running, others)}


def main() -> None:
    """Walk each path, and print its actions and seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photographs", type=Path, help="TrashNet: a folder for each class")
    parser.add_argument("--only", nargs="+", choices=tuple(AIMS), default=tuple(AIMS))
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    found = dict[str, Figures]()
    with tempfile.TemporaryDirectory() as name:
        photos, others = divide(options.photographs, Path(name))
        for path in options.only:
            given = pile(options.photographs, Path(name), others) if path == "heap" else photos
            found[path] = walk(path, Path(name) / path, given, others)
            print(f"{path:<10}{found[path]}, aim: {AIMS[path]} actions", flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
