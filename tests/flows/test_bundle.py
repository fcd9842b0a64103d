"""The same file gives the same label where there is no Opsin: plain Python, and Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import opsin
from opsin.commands.export.export import export_model
from tests.conftest import without_drawing, write_shapes

#: Where `make node` puts onnxruntime-node and sharp.
NODE_MODULES = Path(__file__).parents[2] / ".venv-node" / "node_modules"
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
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a forest that knows coloured shapes, unpacked."""
    pytest.importorskip("sklearn", "1.9")
    root = tmp_path_factory.mktemp("forest")
    folder = write_shapes(root / "shapes", 40, kinds=("disc", "square", "cross"))
    with without_drawing():
        run = opsin.train(folder, model="forest", trees=10, runs=root, quiet=True)
    return unpack(run, root)


@pytest.fixture(scope="module")
def unpacked_network(run: opsin.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that knows grey digits, unpacked."""
    root = tmp_path_factory.mktemp("network")
    return unpack(run, root)


def unpack(run: opsin.Run, root: Path) -> Path:
    shipped = export_model(run, "bundle", out=root / "classifier.zip")
    with zipfile.ZipFile(shipped.path) as bundle:
        bundle.extractall(root / "bundle")
    return root / "bundle"


def ask(folder: Path, *command: str) -> dict[str, str]:
    """Run a client on all samples and return the label that it prints for each."""
    samples = sorted(f"samples/{file.name}" for file in (folder / "samples").iterdir())
    done = subprocess.run([*command, *samples, "--check"], cwd=folder, text=True, check=False,
                          capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert all("expected" in line[3] for line in lines)
    return {Path(line[0]).name: line[1] for line in lines}


def expected(folder: Path) -> dict[str, str]:
    content = json.loads((folder / "expected.json").read_text("utf-8"))
    return {file: sample["label"] for file, sample in content.items()}


def in_python(folder: Path) -> dict[str, str]:
    return ask(folder, sys.executable, "-I", "-W", "error", "-c", _WITHOUT, "predict.py")


def in_node(folder: Path) -> dict[str, str]:
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(NODE_MODULES)
    return ask(folder, "node", "predict.mjs")


either_client = pytest.mark.parametrize(
    "client", [in_python, pytest.param(in_node, marks=needs_node)]
)


@either_client
def test_a_client_gives_the_same_labels(
    unpacked: Path, client: Callable[[Path], dict[str, str]]
) -> None:
    assert client(unpacked) == expected(unpacked)
    assert len(expected(unpacked)) == 3


# Asks for the fixture by its parameter: the session's run, which others look at, is then drawn.
@pytest.mark.torch
@either_client
def test_a_client_gives_the_same_labels_as_a_network(
    unpacked_network: Path, client: Callable[[Path], dict[str, str]]
) -> None:
    assert client(unpacked_network) == expected(unpacked_network)
    assert len(expected(unpacked_network)) == 10


def test_another_label_is_told_and_is_exit_status_1(unpacked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unpacked, tmp_path / "copy", symlinks=True))
    content = json.loads((folder / "expected.json").read_text("utf-8"))
    name, sample = next(iter(content.items()))
    sample["label"] = "triangle"
    (folder / "expected.json").write_text(json.dumps(content), "utf-8")
    done = subprocess.run([sys.executable, "-I", "predict.py", f"samples/{name}", "--check"],
                          cwd=folder, text=True, check=False, capture_output=True)  # fmt: skip
    assert done.returncode == 1
    assert "expected triangle" in done.stdout


@needs_node
def test_node_prepares_other_images_nearly_as_opsin_does(unpacked: Path, tmp_path: Path) -> None:
    """Photographs of another size: decoded and resized by other code, the same label."""
    folder = write_shapes(tmp_path / "new", 4, kinds=("disc", "square", "cross"))
    files = [str(file) for file in sorted(folder.rglob("*.png"))]
    plain = ask_files(unpacked, files, sys.executable, "-I", "predict.py")
    in_node(unpacked)
    assert ask_files(unpacked, files, "node", "predict.mjs") == plain


def ask_files(folder: Path, files: list[str], *command: str) -> list[str]:
    done = subprocess.run([*command, *files], cwd=folder, text=True, check=True,
                          capture_output=True, timeout=120)  # fmt: skip
    return [line.split("\t")[1] for line in done.stdout.splitlines()]
