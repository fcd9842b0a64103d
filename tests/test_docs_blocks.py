"""Every command and block of Python on a page runs, in the page's order, in a fresh folder."""

from __future__ import annotations  # as the blocks, which inherit it, have it in their files

import contextlib
import functools
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.data.sources.named import _PUBLISHED
from tests.backbones.small_networks import network
from tests.conftest import shape_image, write_shapes
from tests.documented import block_of, fenced, latest_run, run_command
from tests.importing.made_keras import tutorial, write_keras
from tests.served import serving, wait_for
from tests.warm import Warm

pytestmark = [pytest.mark.torch, pytest.mark.drawn]

ROOT = Path(__file__).parents[1]
#: Pages whose blocks another test runs.
ELSEWHERE = {
    "coming-from-": "test_side_by_side.py",
    "scikit-learn": "test_sklearn.py",
    "how-to/extend": "test_extending.py",
    "learn/": "test_tutorials.py",
    # Signatures: the examples of docstrings are doctests.
    "reference/python/": "test_docs.py",
    "reference/events": "test_docs.py",
}
#: Blocks that need what no test has here: what they are known by, and where it is tested.
APART = {
    "import tritonclient.http": "flows/test_serve.py",
    "import Picamera2": "a camera of a Raspberry Pi",
    "from ray import serve": "flows/test_ray_page.py",
    "ray.data.read_parquet": "flows/test_ray_page.py",
    "model.predict(images / 255)": "importing, with Keras as the judge",
}
CLASSES = _PUBLISHED["fashion-mnist"].classes
#: Each page with blocks that no other test runs.
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if re.search(r"^```(sh|python)$", page.read_text(encoding="utf-8"), re.M)
    and not any(name in page.as_posix().partition("/docs/")[2] for name in ELSEWHERE)
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    random = np.random.default_rng(0)
    labels = np.arange(240) % len(CLASSES)
    # Coarse noise under a bar for the class: near duplicates would be kept in one part.
    images = random.integers(0, 180, (240, 7, 7), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    for row, label in enumerate(labels):
        images[row, 2 * label + 3 : 2 * label + 8, 6:22] = 255
    np.savez(
        folder / "fashion-mnist.npz",
        images=images[:200],
        labels=labels[:200],
        classes=CLASSES,
        test_images=images[200:],
        test_labels=labels[200:],
    )
    write_shapes(folder / "photos")
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")
    for name in ("boot.png", "boot.jpg", "bag.jpg"):
        Image.fromarray(shape_image("disc", 7)).convert("L").resize((28, 28)).save(folder / name)
    shutil.copy(ROOT / "docs" / "learn" / "select-a-picture.html", folder)
    (folder / "mobilenet.onnx").write_bytes(network())
    write_keras(folder / "tutorial.keras", *tutorial())
    (folder / "photos.csv").write_text("path\nboot.jpg\n", encoding="utf-8")
    # A run as small as these is too weak to suspect anything, and writes no corrections.
    (folder / "labels.csv").write_text("digest,name,label\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run_called(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    @functools.cache
    def trained(source: str, model: str) -> Path:
        images = {"fashion-mnist": "fashion-mnist.npz"}.get(source, source)
        images = str(prepared / images) if (prepared / images).exists() else images
        given: dict[str, Any] = {} if model in PIXEL_MODELS else {"epochs": 1}
        folder = tmp_path_factory.mktemp("run")
        return opsin.train(images, model=model, runs=folder, quiet=True, **given).path

    return trained


class Reader:
    """Follows a page: one folder, one namespace of Python, one environment, one server."""

    def __init__(self, folder: Path, warm: Warm, stack: contextlib.ExitStack) -> None:
        self._folder, self._warm, self._stack = folder, warm, stack
        self._names: dict[str, Any] = {}

    @functools.cached_property
    def _port(self) -> int:
        return self._stack.enter_context(serving("boots=runs/boots", folder=self._folder)).port

    def python(self, block: str) -> None:
        block = block.replace('"fashion-mnist"', '"fashion-mnist.npz"')
        block = re.sub(
            r'"(runs/[^"]+)"', lambda found: f'"{latest_run(found[1], self._folder)}"', block
        )
        block = re.sub(
            r"\b(repeats|folds)=\d+", r"\1=2", re.sub(r"\bepochs=\d+", "epochs=1", block)
        )
        if re.search(r"^opsin\.(serve|open_studio)\(", block, re.M):
            _run_until_it_listens(block)
        else:
            exec(compile(block, "a page", "exec"), self._names)

    def shell(self, block: str) -> None:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = shlex.split(line, comments=True)
            lasting = words[:1] == ["export"]
            words = words[lasting:]
            with contextlib.ExitStack() as stack:
                patch = (self._stack if lasting else stack).enter_context(
                    pytest.MonkeyPatch.context()
                )
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    name, _, value = words.pop(0).partition("=")
                    patch.setenv(name, value)
                if words:
                    self._command(words, line)

    def _command(self, words: list[str], line: str) -> None:
        match words[0]:
            case "opsin":
                run_command(_short(words[1:]), cwd=self._folder, warm=self._warm)
            case "pip":
                _installs(words[1:])
            case "curl":
                line = line.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}")
                subprocess.run(f"{line} --fail", shell=True, check=True, cwd=self._folder)
            case "make":
                assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text("utf-8"), line
            case "git" | "cd":
                assert words[1:], line
            case "python3" | "." if words[-1] in (".venv", ".venv/bin/activate"):
                pass  # the environment that runs this
            case _:
                pytest.fail(f"no test runs this: {line}")


def _installs(words: list[str]) -> None:
    assert words[0] == "install", words
    for word in words[1:]:
        for extra in re.findall(r"^(?:opsin|\.)\[(.+)\]", word):
            assert set(extra.split(",")) <= EXTRAS.keys(), word


def _short(words: list[str]) -> list[str]:
    """Return a command that does the same on small images, and briefly."""
    shorter = {"fashion-mnist": "fashion-mnist.npz", "5": "2", "4": "2"}  # folds and repeats
    shorter["answer=none of these"] = "answer=unreadable"  # so small a run refuses nothing
    words = [shorter.get(word, word) for word in words]
    if words[0] == "train" and {*PIXEL_MODELS, "--from", "--add-to"}.isdisjoint(words):
        words += ["--epochs", "1"]  # the last one counts
    if words[0] == "export" and not words[-1].startswith("hf:"):
        words += ["--force"]  # one of so few images is more than 0.3 points
    if words[0] == "bench":
        words += ["--model", "mlp"]
    if words[0] == "studio":
        words += ["--root", "photos"]
    if words[0] == "docs":
        words += ["--no-browser"]
    return words


def briefly(train: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(train)
    def shorter(*sources: object, **options: Any) -> Any:
        if options.get("model") not in PIXEL_MODELS and "backbone" not in options:
            options["epochs"] = 1
        return train(*sources, **options)

    return shorter


def _run_until_it_listens(block: str) -> None:
    """Run a block that serves, and end it as Ctrl-C does once somebody can reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if "open_studio" in block:
        block = block.replace(")  # until", f", port={port}, home='home', open_browser=False)  #")
    block = re.sub(r"port=\d+", f"port={port}", block)
    with subprocess.Popen([sys.executable, "-c", block]) as process:

        def listens() -> bool:
            assert process.poll() is None
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, 60)
        process.send_signal(signal.SIGINT)
        process.wait(60)


def runs_before(text: str) -> Iterator[tuple[str, str, str]]:
    """Give each run that a page speaks of and does not make: its name, source and model."""
    code = "".join(block for language, block in fenced(text) if language in {"sh", "python"})
    models = "|".join(("mlp", "cnn", "resnet", *PIXEL_MODELS))
    for name in sorted(set(re.findall(r"runs/([\w-]+)", code))):
        # Those of other data or another name are made by the page itself.
        described = re.fullmatch(rf"2026-11-\d\d-(fashion-mnist|photos|digits)-({models})", name)
        source, model = described.groups() if described else ("fashion-mnist", "mlp")
        # Without a model, it is a resnet.
        named = rf".* --model {model}\b" if model != "resnet" else r"(?!.* --model (?!resnet))"
        made = re.search(rf"^opsin train {source}\b(?!.* --name ){named}", code, re.M)
        if described is None and name not in {"boots", "2026-11-21-demo"}:
            continue
        # A command that names the run does not make it.
        if made is None or code.index(name) < code.index("\n", made.start()):
            yield name, source, model


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name, marks=pytest.mark.docs) for page in PAGES]
)
def test_every_block_of_a_page_runs(
    page: Path,
    prepared: Path,
    run_called: Callable[[str, str], Path],
    tmp_path: Path,
    warm: Warm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = page.read_text(encoding="utf-8")
    folder = shutil.copytree(prepared, tmp_path / "folder")
    for name, source, model in runs_before(text):
        shutil.copytree(run_called(source, model), folder / "runs" / name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(opsin, "train", briefly(opsin.train))
    with contextlib.ExitStack() as stack:
        reader = Reader(folder, warm, stack)
        for language, block in fenced(text):
            if any(line in block for line in APART):
                continue
            with block_of(page, block):
                if language == "python":
                    reader.python(block)
                elif language == "sh":
                    reader.shell(block)
