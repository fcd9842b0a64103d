"""The command line as its users drive it: real processes, real signals, real mistakes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import opsin
from opsin.cli.verbs import VERBS
from tests.conftest import Cli, a_few, only_json, shape_image, without_drawing, write_shapes
from tests.processes import python
from tests.warm import Begun, Warm

linux = pytest.mark.skipif(sys.platform != "linux", reason="sends signals to a fork")


@pytest.mark.drawn
@pytest.mark.torch
def test_the_whole_story(cli: Cli, tmp_path: Path) -> None:
    """From a folder of images, with spaces and scripts in its names, to an answer."""
    folder = write_shapes(tmp_path / "my images ü", count=20, kinds=("disc", "square"))
    (folder / "disc").rename(folder / "kreis 円")

    seen = only_json(cli("data", folder, "--json", "--out", "look"))
    assert seen["classes"] == ["kreis 円", "square"]
    assert seen["range"][1] > 150
    assert all((tmp_path / str(figure)).is_file() for figure in seen["figures"])

    with without_drawing():  # `opsin report` draws it below
        words = ("--model=resnet", "--epochs=6", "--hidden=16,32", "--batch-size=8", "--json")
        trained = only_json(cli("train", folder, *words))
    run = str(trained["run"])
    assert trained["figures"]["test"]["images"] == 4

    listed = only_json(cli("runs", "--json"))["runs"]
    assert [row["run"] for row in listed] == [run]
    assert run in cli("runs").stdout

    image = tmp_path / "new one.png"
    Image.fromarray(shape_image("square", 777)).save(image)
    answer = only_json(cli("predict", run, image, "--json", "--plot", "plot.png"))
    assert answer["predictions"][0]["label"] in seen["classes"]
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert "new one.png" in cli("predict", run, image).stdout

    judged = only_json(cli("evaluate", run, folder, "--json"))
    assert judged["part"] == "own-test"
    assert judged["accuracy"] == trained["figures"]["test"]["accuracy"]
    assert "Confuses" in cli("evaluate", run, folder).stdout

    drawn = cli("report", run, status=0)
    assert (tmp_path / drawn.stdout.splitlines()[0]).is_file()


def test_one_bad_image_among_good_ones(
    cli: Cli, tmp_path: Path, nearest_mean: Path, digits: Any
) -> None:
    Image.fromarray(digits.images[0, :, :, 0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = cli("predict", nearest_mean, "bad.png", "good.png", "missing.png", "--json", status=1)
    content = only_json(done)
    assert (len(content["predictions"]), len(content["errors"])) == (1, 2)
    assert "bad.png" in done.stderr and "missing.png" in done.stderr
    cli("predict", nearest_mean, "good.png", "good.png", "--plot", "p.png", status=0)
    assert {path.name for path in tmp_path.glob("p-*.png")} == {"p-1.png", "p-2.png"}


def _mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_shapes(tmp_path / "one class", kinds=("disc",))
    (tmp_path / "loose").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "loose" / "a.png")
    (tmp_path / "half run").mkdir()
    (tmp_path / "half run" / "recipe.json").write_text("{}")
    (tmp_path / "text.onnx").write_text("no model")


# Command, then words that its one line must hold.
MISTAKES = [
    (("train", "no such source"), "digits, fashion-mnist"),
    (("train", "empty"), "empty is empty"),
    (("train", "one class"), "has one class only"),
    (("train", "loose"), "has 1 image but no folders"),
    (("data", "digits", "--classes", "1,elephant"), "elephant"),
    (("train", "digits", "--model", "vgg"), "mlp, cnn, resnet"),
    (("train", "digits", "--model", "cnn"), "--depth 1"),
    (("train", "digits", "--learning-rate", "-1"), "learning_rate"),
    (("train", "digits", "--recipe", "gone.toml"), "gone.toml"),
    (("predict", "nowhere", "a.png"), "does not exist"),
    (("predict", "half run", "a.png"), "half run has no classifier.onnx"),
    (("predict", "text.onnx", "a.png"), "no readable ONNX file"),
    (("evaluate", "empty", "digits"), "is no run directory"),
    (("report", "half run"), "half run"),
    (("serve", "nowhere"), "nowhere does not exist"),
    (("serve", "text.onnx", "--host", "0.0.0.0"), "OPSIN_TOKEN"),
]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(*mistake, id=" ".join(mistake[0]),
                     marks=[pytest.mark.torch] if mistake[0][0] == "train" else [])
        for mistake in MISTAKES
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_status_1(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    _mistakes(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    done = cli(*words, "--json", status=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(only_json(done)["error"]) == {"kind", "message", "advice"}
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [("fly",), ("train",), ("predict", "x"), ("label", "x", "--move"), ("data", "x", "--size", "b"),
     ("train", "x", "--epochs", "many"), ("train", "x", "--hidden", "a,b")],
)  # fmt: skip
def test_wrong_usage_is_status_2(cli: Cli, words: tuple[str, ...]) -> None:
    done = cli(*words, "--json", status=2)
    assert "Traceback" not in done.stderr
    assert only_json(done)["error"]["kind"] == "UsageError"


@pytest.mark.parametrize("verb", a_few(VERBS, 5))
def test_every_verb_has_help_with_an_example(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help", status=0)
    assert f"Example: opsin {verb}" in " ".join(done.stdout.split())
    assert "--json" in done.stdout


def test_the_version_and_the_start() -> None:
    for word, text in (("--version", opsin.__version__), ("--help", "fashion-mnist")):
        words = [sys.executable, "-m", "opsin", word]
        assert text in subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_python_without_docstrings_is_refused(cold_cli: Cli) -> None:
    done = cold_cli("runs", env=os.environ | {"PYTHONOPTIMIZE": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot run under python -OO" in done.stderr


@contextlib.contextmanager
def _training(warm: Warm, folder: Path, *more: str) -> Iterator[Begun]:
    command = ["train", "digits", "--model", "mlp", "--epochs", "5000", "--batch-size", "16", *more]
    with warm.start(command, cwd=folder) as begun:
        while not list(folder.glob("runs/*/history.jsonl")):
            assert begun.poll() is None, begun.wait().stderr
            time.sleep(0.05)
        yield begun


@pytest.mark.torch
@linux
def test_ctrl_c_ends_a_training_with_a_run_to_use(
    cli: Cli, warm: Warm, tmp_path: Path, digits: Any
) -> None:
    with _training(warm, tmp_path, "--json") as begun:
        begun.send_signal(signal.SIGINT)
        done = begun.wait(120)
    assert done.returncode == 130, done.stderr
    report = json.loads(done.stdout)
    assert report["training"]["stopped"]
    Image.fromarray(digits.images[0, :, :, 0]).save(tmp_path / "0.png")
    answer = only_json(cli("predict", report["run"], "0.png", "--json"))
    assert answer["predictions"][0]["label"] in digits.classes
    assert "stopped" in cli("runs").stdout


@pytest.mark.torch
@linux
def test_a_killed_training_is_shown_as_failed_and_has_whole_files(
    cli: Cli, warm: Warm, tmp_path: Path
) -> None:
    with _training(warm, tmp_path) as begun:
        begun.kill()
    row = only_json(cli("runs", "--json"))["runs"][0]
    assert row["state"] == "failed" and "ended without a message" in row["cause"]
    run = tmp_path / row["run"]
    for file in run.glob("*.json"):
        json.loads(file.read_text())
    assert not (run / "classifier.onnx").exists()
    assert "ended without a message" in cli("predict", run, "a.png").stderr


@pytest.mark.slow
def test_without_pytorch_training_says_what_to_install_and_the_rest_works(
    tmp_path: Path, nearest_mean: Path, digits: Any
) -> None:
    Image.fromarray(digits.images[0, :, :, 0]).save(tmp_path / "0.png")

    missing = "torch onnx safetensors matplotlib sklearn scipy fastapi uvicorn pyarrow"
    # A name that is None in sys.modules cannot be imported, and is not found either.
    code = f"import sys; sys.modules |= dict.fromkeys('{missing}'.split())\n"
    code += "from opsin.cli import main; main()"
    run = functools.partial(python, "-c", code, check=False, cwd=tmp_path)
    answer = run("predict", str(nearest_mean), "0.png")
    assert answer.returncode == 0, answer.stderr
    assert run("runs").returncode == 0
    assert run("data", "digits", "--no-draw").returncode == 0
    model = str(nearest_mean)
    for words, extra in (
        (("train", "digits"), "opsin[train]"),
        (("predict", model, "0.png", "--plot", "p.png"), "opsin[evaluate]"),
        (("evaluate", model, "digits"), "opsin[evaluate]"),
        (("serve", model), "opsin[serve]"),
        (("export", model, "--to", "int8"), "opsin[evaluate]"),
        (("predict", model, "0.png", "--out", "a.parquet"), "opsin[parquet]"),
    ):
        done = run(*words)
        assert done.returncode == 1
        assert f"pip install '{extra}'" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_audit_is_a_table_a_page_and_json(cli: Cli, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "photos", count=40, kinds=("disc", "square"))
    shutil.copy(folder / "disc" / "1.png", folder / "square" / "wrong [1].png")
    (folder / "disc" / "broken.png").write_bytes(b"no image")
    done = cli("data", folder, "--audit", "--out", "look", status=0)
    assert "Duplicates under different labels" in done.stdout
    page = (tmp_path / "look" / "audit.html").read_text(encoding="utf-8")
    assert "square/wrong [1].png" in page
    answer = only_json(cli("data", folder, "--audit", "--json", "--no-draw"))
    kinds = {finding["kind"]: finding["count"] for finding in answer["findings"]}
    assert (kinds["conflicting-labels"], kinds["unreadable"]) == (2, 1)


@pytest.mark.drawn
@pytest.mark.torch
def test_a_training_prints_its_audit_facts_epochs_and_classes(cli: Cli, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "photos", count=40, kinds=("disc", "square"))
    shutil.copy(folder / "disc" / "1.png", folder / "disc" / "again.png")
    done = cli("train", folder, "--model", "mlp", "--epochs", "2", "--name", "one", status=0)
    assert "2 exact duplicates · to see them: opsin data SOURCE --audit" in done.stderr
    for word in ("dense1", "221,570", "Device", "2/2", "looked at once", "±", "same answers"):
        assert word in done.stderr, word
    assert "Precision" in done.stdout and "report.html" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert "2/2" in (run / "log.txt").read_text(encoding="utf-8")
    found = json.loads((run / "dataset.json").read_text(encoding="utf-8"))["findings"]
    assert found["exact-duplicates"] == 2
    assert "Images that are there more than once" in (run / "report.html").read_text("utf-8")
