"""Make the pictures of the documentation anew: figures of a run, and pages in a real Chromium.

    python scripts/pictures.py docs/images                  # all of them, in about ten minutes
    python scripts/pictures.py docs/images units.png        # some
    python scripts/pictures.py docs/images --run RUN        # of this network on Fashion-MNIST
    python scripts/pictures.py docs/images --photos FOLDER  # the studio, with other photographs

Nothing is drawn by hand: a network is trained on Fashion-MNIST, the studio and the server are
started, and Chromium looks at them. FOLDER has a folder of photographs for each class (the studio's
pictures in the documentation show TrashNet); without it, the studio gets boots, bags and trousers
on a table. It needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from demo_photo import main as write_photo
from PIL import Image
from selenium import webdriver

from opsin import load

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chromium, resize  # noqa: E402
from tests.studio_browser import one, shown, studio, until  # noqa: E402
from tests.studio_visit import Visit  # noqa: E402

# Colours of a picture: what pages and figures are drawn with is hardly more.
_COLOURS: Final = 128
# Seconds that a training of three epochs, or a look inside, may take on a slow machine.
_LONG: Final = 1800
# Width and height of the studio's pictures.
_STUDIO: Final = (1280, 900)
# Photographs of a class, of three classes; and rows of Fashion-MNIST's test set to make them of.
_PHOTOGRAPHS: Final = 40
_TABLE: Final = {"bag": 8, "boot": 9, "trousers": 1}
# Of pages: the place of the primary button; whether all images in sight have arrived.
_HEAD: Final = "//*[contains(@class, 'page-head')]"
_ARRIVED: Final = (
    "const all = [...document.querySelectorAll('main img')].filter("
    "(image) => image.getBoundingClientRect().top < innerHeight);"
    "return all.length > 0 && all.every((image) => image.complete)"
)


def opsin(*words: str | Path, cwd: Path) -> str:
    """Run a command of Opsin's, and return what it prints."""
    command = [sys.executable, "-m", "opsin", *map(str, words)]
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


@dataclass
class Scene:
    """What the pictures show: a folder with a run, a photograph and whatever they need.

    Args:
        folder: Where it lies.
        stack: Ends what was started.
        trained: A run to show (default: one is trained).
        given: A folder of photographs for each class (default: some are made).
    """

    folder: Path
    stack: ExitStack
    trained: Path | None
    given: Path | None

    @cached_property
    def run(self) -> Path:
        """A trained network."""
        if self.trained is not None:
            shown = self.folder / "runs" / self.trained.name
            return shutil.copytree(
                self.trained, shown, ignore=shutil.ignore_patterns("checkpoints")
            )
        words = ("train", "fashion-mnist", "--epochs", "3", "--name", "demo", "--json", "--quiet")
        found = self.folder / str(json.loads(opsin(*words, cwd=self.folder))["run"])
        opsin("report", found, "--quick", "--quiet", cwd=self.folder)
        return found

    @cached_property
    def photo(self) -> Path:
        """A photograph of a boot."""
        path = self.folder / "boot.jpg"
        write_photo(path)
        return path

    @cached_property
    def browser(self) -> webdriver.Chrome:
        """Chromium."""
        return self.stack.enter_context(chromium(self.folder / "profile"))

    @cached_property
    def photographs(self) -> tuple[Path, Path]:
        """A folder of photographs for each class, and another photograph of the second class."""
        folder = self.folder / (self.given.name if self.given else "Things")
        random = np.random.default_rng(0)
        classes = sorted(self.given.iterdir())[:3] if self.given else [*map(Path, _TABLE)]
        for place in classes:
            wanted = _PHOTOGRAPHS + (place is classes[1])
            (folder / place.name).mkdir(parents=True)
            if self.given:
                for file in random.permutation(sorted(place.iterdir()))[:wanted]:
                    shutil.copy(file, folder / place.name)
            else:
                data = load("fashion-mnist")
                rows = np.flatnonzero(data.labels[data.split.test] == _TABLE[place.name])
                for row in rows[:wanted]:
                    write_photo(folder / place.name / f"{row}.jpg", int(row))
        new = max((folder / classes[1].name).iterdir())
        return folder, new.rename(self.folder / f"new{new.suffix}")

    @cached_property
    def walk(self) -> dict[str, Image.Image]:
        """The pages of the studio, as somebody comes to them with photographs."""
        photographs, new = self.photographs
        browser, made = self.browser, {}
        visit = Visit(self.stack.enter_context(studio(self.folder / "studio")), browser)

        def take(page: str, words: str) -> None:
            visit.says(words)
            visit.until(lambda: "Reading" not in shown(browser))
            visit.until(lambda: browser.execute_script(_ARRIVED))
            made[f"studio-{page}.webp"] = seen(browser)

        visit.open()
        resize(browser, *_STUDIO)
        visit.give(photographs, to="//input[@webkitdirectory]")
        visit.says("Add class")
        visit.until(lambda: {job["state"] for job in visit.running.jobs()} == {"done"})
        take("photos", "Add class")
        visit.click("Train", _HEAD)
        visit.until(lambda: one(browser, ".mark-right"))
        take("train", "right so far")
        visit.reach("/results")
        take("results", "Where does it fail?")
        visit.click("Try it", _HEAD)
        visit.give(new)
        take("try", "That is wrong")
        visit.click("Look inside", "//nav")
        visit.give(new)
        visit.reach("image=")
        visit.until(lambda: one(browser, ".maps img"))
        take("inside", "Why this answer?")
        return made

    def open(self, address: str, width: int, height: int) -> webdriver.Chrome:
        """Open a page in a window of this size."""
        resize(self.browser, width, height)
        self.browser.get(address)
        return self.browser

    def inspected(self, *words: str | Path) -> str:
        """Return the address of the page that `opsin inspect` writes."""
        answer = json.loads(opsin("inspect", self.run, *words, "--json", cwd=self.folder))
        return (self.folder / str(answer["page"])).absolute().as_uri()


def seen(browser: webdriver.Chrome) -> Image.Image:
    """Return what the window shows."""
    return Image.open(io.BytesIO(browser.get_screenshot_as_png()))


def scroll_to(browser: webdriver.Chrome, selector: str, above: int = 12) -> None:
    """Bring an element to the top of the window."""
    script = "window.scrollTo(0, arguments[0].getBoundingClientRect().top + scrollY - arguments[1])"
    browser.execute_script(script, one(browser, selector), above)


def answers(scene: Scene) -> Image.Image:
    """Answers to images of the test part."""
    return Image.open(scene.run / "figures" / "answers.png")


def photo(scene: Scene) -> Image.Image:
    """A photograph, what the network sees of it, and its bars."""
    drawn = scene.folder / "photo.png"
    opsin("predict", scene.run, scene.photo.name, "--plot", drawn, "--quiet", cwd=scene.folder)
    return Image.open(drawn)


def layers(scene: Scene) -> Image.Image:
    """What the first layers make of an image."""
    browser = scene.open(scene.inspected("test/2"), 860, 898)
    scroll_to(browser, ".layers-layer")
    return seen(browser)


def why(scene: Scene) -> Image.Image:
    """Heat maps of an image, with their checks."""
    browser = scene.open(scene.inspected("test/9", "--explain"), 860, 1087)
    scroll_to(browser, ".decision-cards")
    return seen(browser)


def units(scene: Scene) -> Image.Image:
    """What excites the units of the last layer with maps that bags lift most."""
    words = ("--layer", "stage2.gelu", "--class", "Bag")
    browser = scene.open(scene.inspected(*words), 860, 629)
    scroll_to(browser, ".units-card")
    return seen(browser)


@contextmanager
def served(scene: Scene, *words: str) -> Iterator[str]:
    """Serve the run, and give the address."""
    command = [sys.executable, "-m", "opsin", "serve", str(scene.run), "--port", "0", "--json"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield str(json.loads(server.stdout.readline())["url"])
        server.terminate()


def serve(scene: Scene) -> Image.Image:
    """The server's page, with an explained answer."""
    with served(scene) as address:
        browser = scene.open(address, 1020, 700)
        until(browser, lambda: "classes" in shown(browser))
        one(browser, "#file").send_keys(str(scene.photo))
        until(browser, lambda: one(browser, "#why").is_displayed())
        one(browser, "#why").click()
        until(browser, lambda: one(browser, "#heat").is_displayed(), _LONG)
        return seen(browser)


def own_page(scene: Scene) -> Image.Image:
    """The tutorial's page of thirty lines, with an answer."""
    with served(scene, "--page", str(ROOT / "docs" / "learn" / "select-a-picture.html")) as address:
        browser = scene.open(address, 560, 640)
        one(browser, "input").send_keys(str(scene.photo))
        until(browser, lambda: "sure" in one(browser, "#label").text, _LONG)
        return seen(browser)


def of_walk(name: str) -> Callable[[Scene], Image.Image]:
    """A picture of the way through the studio."""
    return lambda scene: scene.walk[name]


_HERE: Final[dict[str, Callable[[Scene], Image.Image]]] = {
    "answers.png": answers,
    "photo.png": photo,
    "layers.png": layers,
    "why.png": why,
    "units.png": units,
    "serve.png": serve,
    "learn/an-interface-page.png": own_page,
    **{
        name: of_walk(name)
        for page in ("photos", "train", "results", "try", "inside")
        for name in [f"studio-{page}.webp"]
    },
}
#: Every picture of the documentation, and what makes it.
MADE: Final[dict[str, str]] = {
    **{name: "python scripts/pictures.py docs/images" for name in _HERE if "/" not in name},
    "learn": "python scripts/tutorials.py",
    "terms": "python scripts/term_pictures.py",
    "terminal.svg": "python scripts/terminal_recording.py docs/images/terminal.svg",
    "pretrained-curve.png": "python -m benchmarks.pretrained_curve … --picture docs/images/…",
    "pretrained-curves.png": "likewise, of four collections",
}


def main() -> None:
    """Make pictures, small ones, so that pages load quickly."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation anew.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=", ".join(_HERE))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--photos", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as here, ExitStack() as stack:
        scene = Scene(Path(here), stack, asked.run, asked.photos)
        for name in asked.names or _HERE:
            picture, file = _HERE[name](scene).convert("RGB"), asked.folder / name
            if file.suffix == ".png":
                picture = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
            picture.save(file, optimize=True, quality=85)
            print(f"{name}: {file.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
