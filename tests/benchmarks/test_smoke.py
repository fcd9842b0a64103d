"""Every benchmark runs, small and with the peers that are installed; its figures say nothing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from benchmarks.__main__ import BENCHMARKS
from PIL import Image

import opsin
from tests.processes import python

_ROOT = Path(__file__).parents[2]
# `find` stands for the others in `make test`; those are slow.
_MARKS = {"find": (), "cluster": (pytest.mark.slow, pytest.mark.ray)}


def test_all_are_listed_with_their_purpose() -> None:
    done = _run("benchmarks")
    scripts = {
        file.stem
        for file in (_ROOT / "benchmarks").glob("*.py")
        if f"python -m benchmarks.{file.stem}" in file.read_text(encoding="utf-8")
        and not file.stem.endswith("peers")
    }
    assert set(BENCHMARKS) == scripts - {"__main__"}
    for name in BENCHMARKS:
        assert any(line.startswith(name) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    from benchmarks.contenders import small_resnet

    return str(small_resnet(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    root, data = tmp_path_factory.mktemp("digits"), opsin.load("digits")
    for row in range(120):
        place = root / data.classes[data.labels[row]]
        place.mkdir(exist_ok=True)
        Image.fromarray(data.images[row, :, :, 0]).save(place / f"{row}.png")
    return str(root)


@pytest.fixture(scope="module")
def waste(tmp_path_factory: pytest.TempPathFactory) -> str:
    root, random = tmp_path_factory.mktemp("waste"), np.random.default_rng(0)
    for row in range(240):
        name = ("cardboard", "glass", "metal")[row % 3]
        (root / name).mkdir(exist_ok=True)
        pixels = random.integers(0, 160, (64, 64, 3), np.uint8)
        pixels[..., row % 3] = 255
        Image.fromarray(pixels).save(root / name / f"{row}.jpg")
    return str(root)


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=_MARKS.get(name, pytest.mark.slow)) for name in BENCHMARKS]
)
def test_runs(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "studio" and not (shutil.which("chromedriver") and _installed("selenium")):
        pytest.skip("Chromium is not installed")
    if name == "cluster" and not _installed("ray"):
        pytest.skip("Ray is not installed")
    out = tmp_path / "figures.json"
    made = {"RUN": "resnet", "FOLDER": "folder", "WASTE": "waste"}
    words = []
    for word in BENCHMARKS[name].smoke.split():
        first, slash, rest = word.partition("/")
        place = request.getfixturevalue(made[first]) if first in made else first
        words.append(f"{place}{slash}{rest}")
    if name != "first_layer":
        words += ["--out", str(out)]
    assert _run(f"benchmarks.{name}", *words).stdout
    assert name == "first_layer" or out.stat().st_size


@pytest.mark.slow
@pytest.mark.torch
def test_the_servers_trials_run(resnet: str) -> None:
    kinds = ["slow", "kill", "swap", "overload", "soak"]
    short = ["--repeats", "1", "--seconds", "0.5", "--overload", "1", "--soak", "0.02"]
    done = _run("benchmarks.serving", resnet, *short, "--swap", "64", "--trials", *kinds)
    for kind in kinds:
        assert f"{kind}: " in done.stdout


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", module, *words, cwd=_ROOT)
