"""The bundle holds what it says, and gives the same label in plain Python and in Node."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies as st
from PIL import Image

import opsin
from opsin.commands.export.clients import predict
from opsin.commands.export.smaller import To
from opsin.core.metadata import Preparation
from opsin.data.images import read_image
from tests.commands.export import shipped
from tests.conftest import without_drawing, write_shapes, write_zip
from tests.made_runs import answers_right, write_run


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, digits: opsin.Dataset, nearest_mean: Path
) -> zipfile.ZipFile:
    root = tmp_path_factory.mktemp("bundle")
    path = write_run(root, "run", digits, answers_right(digits, 0.9), classifier=nearest_mean)
    return zipfile.ZipFile(io.BytesIO(shipped(path, "bundle").path.read_bytes()))


def test_checksums_cover_every_file(bundle: zipfile.ZipFile) -> None:
    lines = bundle.read("SHA256SUMS").decode().splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    assert set(sums) | {"SHA256SUMS"} == set(bundle.namelist())
    for name, digest in sums.items():
        assert hashlib.sha256(bundle.read(name)).hexdigest() == digest
    assert bundle.namelist() == sorted(bundle.namelist())
    assert {entry.date_time[0] for entry in bundle.infolist()} == {1980}


def test_samples_are_validation_images_and_rightly_recognised(
    bundle: zipfile.ZipFile, digits: opsin.Dataset, nearest_mean: Path
) -> None:
    expected = json.loads(bundle.read("expected.json"))
    classifier = opsin.Classifier(nearest_mean)
    names = {digits.names[row]: row for row in digits.split.val}
    assert sorted(sample["class"] for sample in expected.values()) == sorted(digits.classes)
    for file, sample in expected.items():
        pixels = np.asarray(Image.open(io.BytesIO(bundle.read(f"samples/{file}"))))[:, :, None]
        row = names[sample["image"]]
        assert (pixels == digits.images[row]).all()
        assert sample["class"] == sample["label"] == digits.classes[digits.labels[row]]
        assert sample["probabilities"] == classifier.probabilities(pixels[None])[0].tolist()


def test_another_zip_is_not_overwritten(nearest_mean: Path, tmp_path: Path) -> None:
    other = write_zip(tmp_path / "photos.zip", {"boot.txt": b"a boot"})
    with pytest.raises(opsin.RecipeError, match=r"photos\.zip is no earlier export"):
        shipped(nearest_mean, "bundle", out=other, data=["digits"])
    made = shipped(nearest_mean, "bundle", out=tmp_path / "new.zip", data=["digits"])
    assert shipped(nearest_mean, "bundle", out=made.path, data=["digits"]).samples == 10


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["L", "LA", "P", "RGB", "RGBA", "CMYK"]),
    resize=st.sampled_from(["fit", "fill", "squash"]),
    channels=st.sampled_from([1, 3]),
    orientation=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_the_python_client_makes_the_very_pixels_that_opsin_makes(
    tmp_path: Path,
    size: tuple[int, int],
    mode: str,
    resize: Any,
    channels: Any,
    orientation: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (*size, 4), np.uint8), "RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(file, exif=exif)
    like = Preparation(height=12, width=9, channels=channels, resize=resize)
    pixels = predict.prepare(file, like.model_dump())
    np.testing.assert_array_equal(pixels, read_image(file, like))


def test_the_file_inside_says_nothing_of_this_machine(nearest_mean: Path, tmp_path: Path) -> None:
    model = onnx.load_model(nearest_mean)
    source = "/home/ann-onymous/photos + digits"
    for prop in model.metadata_props:
        if prop.key == "opsin.source":
            prop.value = json.dumps(source)
    model.graph.node[0].doc_string = "/home/ann-onymous/network.py(7): forward"
    file = tmp_path / "classifier.onnx"
    onnx.save_model(model, file)
    written = zipfile.ZipFile(shipped(file, "bundle", data=["digits"]).path)
    for name in written.namelist():
        assert b"ann-onymous" not in written.read(name), name
    (tmp_path / "moved").mkdir()
    written.extract("classifier.onnx", tmp_path / "moved")
    assert opsin.Classifier(tmp_path / "moved" / "classifier.onnx").metadata.source == (
        "photos + digits"
    )


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    """A forest that knows coloured shapes."""
    pytest.importorskip("sklearn", "1.9")
    root = tmp_path_factory.mktemp("forest")
    folder = write_shapes(root / "shapes", 40, kinds=("disc", "square", "cross"))
    with without_drawing():
        return opsin.train(folder, model="forest", trees=10, runs=root, quiet=True)


@pytest.mark.parametrize("to", ["int8", "fp16"])
def test_thresholds_are_not_rounded(to: To, forest: opsin.Run) -> None:
    with pytest.raises(opsin.ModelFileError, match=r"\(forest\).*--to bundle"):
        shipped(forest, to)
    assert not list(Path(forest.path).glob("*-*.onnx"))


def test_its_bundle_is_the_same_each_time_and_looks_at_no_test_image(forest: opsin.Run) -> None:
    exported = shipped(forest, "bundle")
    first = exported.path.read_bytes()
    assert (exported.part, exported.labels_changed, exported.samples) == ("val", 0, 3)
    assert shipped(forest, "bundle").path.read_bytes() == first
    assert not forest.directory.looks.exists()


#: Where `make node` puts onnxruntime-node and sharp.
NODE_MODULES = Path(__file__).parents[3] / ".venv-node" / "node_modules"
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE_MODULES / "onnxruntime-node").is_dir(),
    reason="no Node with onnxruntime-node and sharp: make node",
)

# Runs the client in a Python in which nobody can import Opsin, whether it is there or not.
_WITHOUT = """
import runpy, sys
sys.modules["opsin"] = None
client = sys.argv.pop(0)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not [name for name in sys.modules if name.startswith("opsin.")]
"""


@pytest.fixture(scope="module")
def unpacked(forest: opsin.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(forest, tmp_path_factory.mktemp("forest"))


@pytest.fixture(scope="module")
def unpacked_network(run: opsin.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that knows grey digits, unpacked."""
    return unpack(run, tmp_path_factory.mktemp("network"))


def unpack(run: opsin.Run, root: Path) -> Path:
    with zipfile.ZipFile(shipped(run, "bundle", out=root / "classifier.zip").path) as packed:
        packed.extractall(root / "bundle")
    return root / "bundle"


def printed(folder: Path, files: list[str], *command: str) -> list[list[str]]:
    """Run a client on images; return the columns that it prints."""
    done = subprocess.run(
        [*command, *files], cwd=folder, text=True, check=False, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return [line.split("\t") for line in done.stdout.splitlines()]


def ask(folder: Path, *command: str) -> dict[str, str]:
    """Run a client on all samples and return the label that it prints for each."""
    samples = sorted(f"samples/{file.name}" for file in (folder / "samples").iterdir())
    lines = printed(folder, [*samples, "--check"], *command)
    assert all("expected" in line[3] for line in lines)
    return {Path(line[0]).name: line[1] for line in lines}


Client = Callable[[Path], dict[str, str]]


def in_python(folder: Path) -> dict[str, str]:
    return ask(folder, sys.executable, "-I", "-W", "error", "-c", _WITHOUT, "predict.py")


def in_node(folder: Path) -> dict[str, str]:
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(NODE_MODULES)
    return ask(folder, "node", "predict.mjs")


# Drawn, since this test may be the first that asks for the session's run, which others look at.
@pytest.mark.drawn
@pytest.mark.parametrize("client", [in_python, pytest.param(in_node, marks=needs_node)])
@pytest.mark.parametrize(
    ("bundled", "labels"),
    [("unpacked", 3), pytest.param("unpacked_network", 10, marks=pytest.mark.torch)],
)
def test_a_client_gives_the_same_labels(
    request: pytest.FixtureRequest, client: Client, bundled: str, labels: int
) -> None:
    folder = request.getfixturevalue(bundled)
    content = json.loads((folder / "expected.json").read_text("utf-8"))
    assert client(folder) == {file: sample["label"] for file, sample in content.items()}
    assert len(content) == labels


def test_another_label_is_told_and_is_exit_status_1(unpacked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unpacked, tmp_path / "copy", symlinks=True))
    content = json.loads((folder / "expected.json").read_text("utf-8"))
    name, sample = next(iter(content.items()))
    sample["label"] = "triangle"
    (folder / "expected.json").write_text(json.dumps(content), "utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "predict.py", f"samples/{name}", "--check"],
        cwd=folder,
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "expected triangle" in done.stdout


@needs_node
def test_node_prepares_other_images_nearly_as_opsin_does(unpacked: Path, tmp_path: Path) -> None:
    """Photographs of another size: decoded and resized by other code, the same label."""
    folder = write_shapes(tmp_path / "new", 4, kinds=("disc", "square", "cross"))
    files = [str(file) for file in sorted(folder.rglob("*.png"))]
    in_node(unpacked)
    plain, other = (
        [line[1] for line in printed(unpacked, files, *command)]
        for command in ((sys.executable, "-I", "predict.py"), ("node", "predict.mjs"))
    )
    assert plain == other
