"""The path through the studio in Firefox: from a zip of photographs to an answer."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.firefox import firefox, needs_firefox
from tests.studio_browser import StudioProcess

pytestmark = [pytest.mark.slow, needs_firefox]

_LONG = 180


def write_photo(path: Path, red: bool, seed: int) -> Path:
    """A made photograph: a red disc or a blue square, somewhere on a noisy table."""
    random = np.random.default_rng(seed)
    scene = random.normal(200, 12, (96, 128, 3))
    rows, columns = np.mgrid[:96, :128]
    away = np.abs(np.stack([rows - random.integers(30, 66), columns - random.integers(30, 98)]))
    scene[np.hypot(*away) < 24 if red else away.max(axis=0) < 20] = (
        (190, 40, 30) if red else (30, 60, 190)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).save(path)
    return path


def test_the_path_from_a_zip_to_an_answer(running: StudioProcess, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for number in range(24):
            name = ("disc", "square")[number % 2]
            file = write_photo(tmp_path / f"{number}.jpg", name == "disc", number)
            archive.write(file, f"{name}/{number}.jpg")
    new = write_photo(tmp_path / "new.jpg", red=False, seed=99)

    with firefox(tmp_path / "profile") as browser:
        browser.resize(1200, 900)
        browser.open(running.address)
        assert "Open the link" in browser.text()
        # The file that `opsin studio` opens holds a link which works once, as the printed one does.
        browser.open((running.home / "sign-in.html").as_uri())
        browser.until_shown("Drop photographs")
        assert browser.evaluate("location.search") == ""

        browser.choose_files("input[type=file]", [tmp_path / "shapes.zip"])
        browser.until("location.pathname.endsWith('/photos')", _LONG)
        browser.until_shown("24 photographs in 2 classes")
        browser.until("[...document.querySelectorAll('.gallery img')].every((i) => i.naturalWidth)")

        browser.press("Train", ".page-head")
        browser.until("location.pathname.endsWith('/results')", _LONG)
        browser.until("/Right for \\d+ of 24/.test(document.body.innerText)")

        browser.press("Try it")
        browser.until("location.pathname.endsWith('/try')")
        browser.until("!!document.querySelector('input[type=file]')")
        browser.choose_files("input[type=file]", [new])
        browser.until("!!document.querySelector('.try .headline')", _LONG)
        assert browser.evaluate(
            "document.querySelector('.try .headline').innerText.startsWith('square, ')"
        )
        assert "That is wrong" in browser.text()
