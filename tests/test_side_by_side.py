"""The pages for those who come from another tool: both columns run, from top to bottom.

The first cell of a row holds the other tool's code, the second Opsin's.
"""

import ast
import gzip
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

import opsin
from tests.conftest import write_shapes
from tests.documented import commands_in, fenced, run_command
from tests.importing.made_keras import drawn, image, layer, sequential, write_h5
from tests.onnx_files.made_files import model_file
from tests.warm import Warm

ROOT = Path(__file__).parents[1]
KERAS = ROOT / ".venv-keras" / "bin" / "python"
PAGES = [
    *sorted((ROOT / "docs/how-to").glob("coming-from-*.md")),
    ROOT / "docs/how-to/scikit-learn.md",
]
# Characters in about 400 pixels: on a telephone the table is pushed from column to column.
WIDEST = 52

Blocks = list[tuple[str, str]]
pytestmark = pytest.mark.torch


def rows(page: str) -> list[tuple[Blocks, Blocks]]:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    cells = re.findall(r"<tr><td>\n\n(.*?)\n\n</td><td>\n\n(.*?)\n\n</td></tr>\n", text, re.DOTALL)
    assert len(cells) == text.count("<td>") / 2 > 0, "a row is written otherwise"
    return [([*fenced(theirs)], [*fenced(ours)]) for theirs, ours in cells]


class Reader:
    def __init__(self, folder: Path, warm: Warm) -> None:
        self.names: dict[str, Any] = {}
        self.shorter: dict[str, str] = {}
        self._folder, self._warm = folder, warm

    def run(self, blocks: Blocks) -> None:
        for language, shown in blocks:
            code = shown
            for long, short in self.shorter.items():
                code = code.replace(long, short)
            if language == "python":
                exec(compile(code, "a page", "exec"), self.names)
            else:
                assert language == "sh"
                for words in commands_in(code):
                    run_command(words, cwd=self._folder, warm=self._warm)


@pytest.fixture
def reader(tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"backend": "agg"}):
        yield Reader(tmp_path, warm)
    import matplotlib.pyplot as plt

    plt.close("all")


def write_scans(root: Path, parts: dict[str, int]) -> None:
    """Write the first digits as files, 8×8 and grey, so many of each class into each part."""
    scans = load_digits()
    for label in range(4):
        images = iter(scans.images[scans.target == label] * 255 / 16)
        for part, count in parts.items():
            folder = root / part / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = next(images).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def write_photos(root: Path) -> None:
    files = sorted(write_shapes(root / "photos").rglob("*.png"))
    lines = [f"{file.relative_to(root)},{file.parent.name}" for file in files]
    (root / "photos.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    for name in ("boot.jpg", "cat.jpg"):
        Image.open(files[0]).save(root / name)


def write_idx(folder: Path, parts: dict[str, int]) -> None:
    scans = load_digits()
    at = 0
    folder.mkdir()
    for part, count in parts.items():
        taken = slice(at, at := at + count)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 2:26, 2:26] = np.kron(scans.images[taken] * 255 / 16, np.ones((3, 3)))
        for name, values in (("images", images), ("labels", scans.target[taken].astype(np.uint8))):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            file = folder / f"{part}-{name}-idx{values.ndim}-ubyte.gz"
            file.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


def write_channels_first(path: Path) -> None:
    """Write a network that tells two classes apart by the mean colour of images [N, 3, 24, 24]."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    taken, weights = ("x", TensorProto.FLOAT, ["N", 3, 24, 24]), {"weight": drawn(3, 2)}
    path.write_bytes(model_file(nodes, weights, taken, {"logits": ["N", 2]}))


def write_teachable(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Write a network of mean colours as Teachable Machine exports one; return its weights."""
    folder.mkdir()
    (folder / "labels.txt").write_text("0 disc\n1 square\n", encoding="utf-8")
    pooled = layer("GlobalAveragePooling2D", "pooled")
    dense = layer("Dense", "dense", units=2, activation="softmax")
    seen = sequential(image(224, 224, 3), pooled, name="sequential_1")
    head = sequential(image(3), dense, name="sequential_3")
    weight, bias = 5 * drawn(3, 2), drawn(2)
    whole = sequential(seen, head, name="sequential_4")
    write_h5(folder / "keras_model.h5", whole, {"sequential_3/dense": [weight, bias]})
    return weight, bias


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_columns_are_narrow(page: Path) -> None:
    for row in rows(page.name):
        for language, code in (*row[0], *row[1]):
            wide = [line for line in code.splitlines() if len(line) > WIDEST]
            assert not wide, wide
            if language == "python":
                ast.parse(code)


@pytest.mark.docs
def test_pytorch(reader: Reader, tmp_path: Path) -> None:
    write_scans(tmp_path / "scans", {"train": 40, "test": 20})
    Image.new("L", (60, 40), "white").save(tmp_path / "scan.png")
    for theirs, ours in rows("coming-from-pytorch.md"):
        reader.run(theirs)
        reader.run(ours)
    names = reader.names
    assert names["imported"].accuracy == names["accuracy"] > 0.8
    assert names["run"].accuracy > 0.8
    same, data = ({digest.tobytes() for digest in names[key].digests} for key in ("same", "data"))
    assert same
    assert same < data  # those of the training part


@pytest.mark.slow
@pytest.mark.skipif(not KERAS.exists(), reason="no Keras: make .venv-keras/ready")
def test_keras(reader: Reader, tmp_path: Path) -> None:
    write_idx(tmp_path / "fashion-mnist", {"train": 1000, "t10k": 300})
    Image.new("L", (60, 40), "white").save(tmp_path / "boot.jpg")
    page = rows("coming-from-keras.md")
    program = tmp_path / "theirs.py"
    code = [code for theirs, _ in page for _, code in theirs]
    program.write_text("\n".join([*code, "print(repr(accuracy))"]), encoding="utf-8")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "fashion-mnist").symlink_to(tmp_path / "fashion-mnist")
    env = os.environ | dict.fromkeys(("KERAS_HOME", "MPLCONFIGDIR"), str(tmp_path))
    env |= {"KERAS_BACKEND": "torch", "MPLBACKEND": "agg"}
    command = [KERAS, program]
    done = subprocess.run(command, check=True, stdout=-1, text=True, cwd=tmp_path, env=env)
    accuracy = float(done.stdout.splitlines()[-1])
    reader.shorter = {'"fashion-mnist"': '"./fashion-mnist"'}
    for _, ours in page:
        reader.run(ours)
    names = reader.names
    assert names["imported"].accuracy == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.7
    assert names["same"].fingerprint == names["data"].fingerprint
    assert (
        opsin.import_model(
            "tutorial.h5", prepare="0..1", data="./fashion-mnist", quiet=True
        ).accuracy
        == names["imported"].accuracy
    )


@pytest.mark.docs
def test_scikit_learn(reader: Reader, tmp_path: Path) -> None:
    Image.new("L", (60, 40), "white").save(tmp_path / "scan.png")
    for theirs, ours in rows("scikit-learn.md"):
        reader.run(theirs)
        reader.run(ours)
    names = reader.names
    assert names["run"].accuracy > 0.95 and names["network"].accuracy > 0.9
    assert names["same"].fingerprint
    assert names["model"].score(names["X"] / 255, names["data"].labels[names["rows"]]) > 0.9


@pytest.mark.docs
def test_fastai(reader: Reader, tmp_path: Path, nearest_mean: Path) -> None:
    """Opsin's column; what the other exports is a network that takes images as fastai's do."""
    write_photos(tmp_path)
    write_channels_first(tmp_path / "learner.onnx")
    reader.shorter = {'"small"': repr(str(nearest_mean))}
    for _, ours in rows("coming-from-fastai.md"):
        reader.run(ours)
    names = reader.names
    assert names["imported"].classifier().classes == ("disc", "square")
    assert names["same"].classes == names["data"].classes


@pytest.mark.slow
def test_teachable_machine(reader: Reader, tmp_path: Path, nearest_mean: Path) -> None:
    write_photos(tmp_path)
    weight, bias = write_teachable(tmp_path / "converted_keras")
    reader.shorter = {"--from small": f"--from {nearest_mean}"}
    for theirs, ours in rows("coming-from-teachable-machine.md"):
        assert not theirs
        reader.run(ours)
    (run,) = tmp_path.glob("runs/*-theirs")
    # As the program that it shows beside the download prepares an image.
    images = [Image.open(file) for file in sorted((tmp_path / "photos").rglob("*.png"))]
    fitted = [np.asarray(ImageOps.fit(each, (224, 224)), np.float32) for each in images]
    means = np.stack([pixels.mean(axis=(0, 1)) for pixels in fitted]) / 127.5 - 1
    values = np.exp(means @ weight + bias)
    expected = values / values.sum(axis=1, keepdims=True)
    answers = opsin.Classifier(run).predict(images)
    found = np.array([[*answer.probabilities.values()] for answer in answers])
    assert found == pytest.approx(expected, abs=0.003)  # of the enlarging
    assert [*answers[0].probabilities] == ["disc", "square"]
