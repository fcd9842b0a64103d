"""The tutorials run as scripts, as notebooks and from their pages, which show their sources."""

import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import opsin
from tests.conftest import write_shapes

pytest.importorskip("jupytext")  # in the environment without PyTorch, it is not installed

from opsin.data.sources.named import _PUBLISHED

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import tutorials  # noqa: E402  the script that runs them and writes their pages

SOURCES = sorted(tutorials.LEARN.glob("*.py"))
CIFAR = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
#: What is shorter in each tutorial, as regular expressions: small data, and one epoch.
SHORTER = {
    r'"fashion-mnist"': '"fashion-mnist.npz"',
    r'"cifar10"': '"./cifar10"',
    r"\bepochs=\d+": "epochs=1",
}
#: What else is shorter in one of them, by its name.
SHORTER_IN: dict[str, dict[str, str]] = {
    "basic-classification": {r"repeats=3": "repeats=2", r"\(5, 10, 15\)": "(1, 2, 3)"},
    "graph-and-devices": {
        r"seconds=1.5": "seconds=0.05",
        r"16, 64, 256\]": "16]",
        r"< 30": "< 2",
        r'"reading", "training"': '"reading"',
    },
    # Of so few scans a network learns too little in one epoch to suspect a label.
    "is-it-any-good": {r'model="mlp", epochs=1': 'model="logistic"', r"folds=5": "folds=2"},
    "looking-inside": {r"range\(6\)": "range(1)"},
    "your-own-photographs": {r":60\]": ":8]", r"\[60:": "[8:"},
}

pytestmark = pytest.mark.torch
every_tutorial = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data in the form of the large: scans of digits instead of clothes."""
    folder = tmp_path_factory.mktemp("data")
    scans = load_digits()
    pixels = np.pad(
        (scans.images * 255 / 16).astype(np.uint8).repeat(3, 1).repeat(3, 2),
        ((0, 0), (2, 2), (2, 2)),
    )
    train = {"images": pixels[:400], "labels": scans.target[:400]}
    test = {"test_images": pixels[400:500], "test_labels": scans.target[400:500]}
    classes = _PUBLISHED["fashion-mnist"].classes
    np.savez(folder / "fashion-mnist.npz", **train, **test, classes=classes)
    for name, digit in zip(CIFAR, range(10), strict=True):
        images = iter(pixels[scans.target == digit])
        for part, count in (("train", 30), ("test", 10)):
            (folder / "cifar10" / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(next(images)).resize((32, 32)).convert("RGB")
                image.save(folder / "cifar10" / part / name / f"{number:04}.png")
    write_photographs(folder)
    return folder


def write_photographs(folder: Path) -> None:
    kinds = ("disc", "square", "cross")
    write_shapes(folder / "photos", 12, kinds)
    write_shapes(folder / "heap", 20, kinds)
    for kind in kinds:
        for file in (folder / "heap" / kind).iterdir():
            file.rename(folder / "heap" / f"{kind}{file.name}")
        (folder / "heap" / kind).rmdir()


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with that data in it; figures go nowhere, and speeds are measured briefly."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("opsin.commands.bench._ROUND", 0.02)
    with mpl.rc_context():
        mpl.use("agg")
        yield tmp_path
    import matplotlib.pyplot as plt

    plt.close("all")


def shortened(text: str, name: str) -> str:
    for long, short in {**SHORTER, **SHORTER_IN.get(name, {})}.items():
        text = re.sub(long, short, text)
    return text


def trained(folder: Path) -> int:
    return sum(run.summary().state == "done" for run in opsin.list_runs(folder / "runs"))


@every_tutorial
def test_the_page_shows_its_source(source: Path) -> None:
    cells = tutorials.cells_of(source.read_text(encoding="utf-8"))
    page = source.with_suffix(".md").read_text(encoding="utf-8")
    nothing = [tutorials.Output(figures=(b"",) * len(cell.alts)) for cell in cells]
    expected = tutorials.page_of(source.stem, cells, nothing)
    assert tutorials.without_outputs(page) == tutorials.without_outputs(expected), (
        f"run: python scripts/tutorials.py {source.stem}"
    )
    shown = re.compile(r"!\[(.*?)\]\((.*?)\)", re.DOTALL)
    assert shown.findall(page) == shown.findall(expected)
    for _, figure in shown.findall(page):
        assert 0 < (source.parent / figure).stat().st_size < 200_000, figure


@pytest.mark.docs
@every_tutorial
def test_the_script_runs(source: Path, folder: Path) -> None:
    script = folder / source.name
    script.write_text(shortened(source.read_text(encoding="utf-8"), source.stem), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert trained(folder)


@pytest.mark.docs
@every_tutorial
def test_the_notebook_runs(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    tutorials.write_notebooks([source.stem], folder)
    notebook = nbformat.read(folder / f"{source.stem}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.source = shortened(cell.source, source.stem)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    assert trained(folder)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any("Warning" in output.get("text", "") for output in outputs)
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    cells = tutorials.cells_of(source.read_text(encoding="utf-8"))
    assert len(drawn) == sum(len(cell.alts) for cell in cells)
