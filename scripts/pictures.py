"""Make the pictures of the documentation anew: figures of a run, and pages in a real Chromium.

    python scripts/pictures.py docs/images             # all of them, in about ten minutes
    python scripts/pictures.py docs/images units.png   # some
    python scripts/pictures.py docs/images --run RUN   # of a network on Fashion-MNIST that is there

Nothing is drawn by hand: a network is trained on Fashion-MNIST, the studio and the server are
started, and Chromium looks at them. It needs Debian's packages chromium and chromium-driver.
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

from demo_photo import main as write_photo
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chromium, resize  # noqa: E402
from tests.studio_browser import StudioProcess, button, one, shown, studio, until  # noqa: E402

from opsin.studio.runs.run_index import opaque  # noqa: E402  after the path

# Colours of a picture: what pages and figures are drawn with is hardly more.
_COLOURS: Final = 128
# Seconds that a training of three epochs, or a look inside, may take on a slow machine.
_LONG: Final = 1800
# Width and height of the studio's pictures.
_STUDIO: Final = (1100, 900)


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
    """

    folder: Path
    stack: ExitStack
    trained: Path | None

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
    def studio(self) -> StudioProcess:
        """A studio that shows the run, and a data set."""
        assert self.run.is_dir()
        return self.stack.enter_context(studio(self.folder))

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
def served(scene: Scene) -> Iterator[str]:
    """Serve the run, and give the address."""
    command = [sys.executable, "-m", "opsin", "serve", str(scene.run), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
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


def studio_run(scene: Scene) -> Image.Image:
    """A run while it trains."""
    words = ("train", "fashion-mnist", "--model", "cnn", "--epochs", "8", "--name", "boots")
    command = [sys.executable, "-m", "opsin", *words, "--quiet"]
    address = scene.studio.address
    with subprocess.Popen(command, cwd=scene.folder, stdout=subprocess.DEVNULL) as training:
        try:
            browser = scene.open(address, *_STUDIO)
            until(browser, lambda: list(scene.studio.runs.glob("*boots/history.jsonl")), _LONG)
            (history,) = scene.studio.runs.glob("*boots/history.jsonl")
            until(browser, lambda: len(history.read_text().splitlines()) >= 3, _LONG)
            browser.get(f"{address}/runs/{opaque(history.parent.name)}")
            until(browser, lambda: one(browser, ".op-matrix").is_displayed(), 60)
            return seen(browser)
        finally:
            training.kill()


def studio_set(scene: Scene) -> Image.Image:
    """A data set in the studio: classes, parts and findings."""
    browser = scene.open(f"{scene.studio.address}/data?add=name#add", *_STUDIO)
    until(browser, lambda: one(browser, ".op-named").is_displayed())
    one(browser, ".op-named").click()
    option = "//*[@role='option'][contains(., 'fashion-mnist')]"
    until(browser, lambda: browser.find_element(By.XPATH, option).is_displayed())
    browser.find_element(By.XPATH, option).click()
    until(browser, lambda: button(browser, "Add").is_enabled())
    button(browser, "Add").click()
    until(browser, lambda: "Most serious" in shown(browser), _LONG)
    button(browser, "Open").click()
    until(browser, lambda: "Findings" in shown(browser) and "/data/" in browser.current_url)
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "main img")) > 3, _LONG)
    return seen(browser)


def studio_inside(scene: Scene) -> Image.Image:
    """A network as blocks, and what one of them makes of a photograph."""
    address = f"{scene.studio.address}/runs/{opaque(scene.run.name)}/inside"
    browser = scene.open(address, *_STUDIO)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".maps img"), _LONG)
    loaded = (
        "return [...document.images].every("
        "i => i.complete || i.getBoundingClientRect().top > innerHeight)"
    )
    until(browser, lambda: browser.execute_script(loaded), _LONG)
    return seen(browser)


def studio_try(scene: Scene) -> Image.Image:
    """A photograph's label, bars, heat map and nearest training images."""
    browser = scene.open(f"{scene.studio.address}/try?run={opaque(scene.run.name)}", *_STUDIO)
    until(browser, lambda: one(browser, "input[type=file]"))
    one(browser, "input[type=file]").send_keys(str(scene.photo))
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".op-gallery img"), _LONG)
    scroll_to(browser, ".op-tried")
    return seen(browser)


_HERE: Final[dict[str, Callable[[Scene], Image.Image]]] = {
    "answers.png": answers,
    "photo.png": photo,
    "layers.png": layers,
    "why.png": why,
    "units.png": units,
    "serve.png": serve,
    "studio-run.png": studio_run,
    "studio-set.png": studio_set,
    "studio-inside.png": studio_inside,
    "studio-try.png": studio_try,
}
#: Every picture of the documentation, and what makes it.
MADE: Final[dict[str, str]] = {
    **dict.fromkeys(_HERE, "python scripts/pictures.py docs/images"),
    "learn": "python scripts/tutorials.py",
    "terms": "python scripts/term_pictures.py",
    "terminal.svg": "python scripts/terminal_recording.py docs/images/terminal.svg",
    "pretrained-curve.png": "python -m benchmarks.pretrained_curve … --picture docs/images/…",
    "pretrained-curves.png": "likewise, of four collections",
}


def main() -> None:
    """Make pictures, in few colours, so that pages load quickly."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation anew.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=", ".join(_HERE))
    parser.add_argument("--run", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as here, ExitStack() as stack:
        scene = Scene(Path(here), stack, asked.run)
        for name in asked.names or _HERE:
            picture = _HERE[name](scene).convert("RGB")
            few = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
            few.save(asked.folder / name, optimize=True)
            print(f"{name}: {(asked.folder / name).stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
