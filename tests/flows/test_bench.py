"""`opsin bench` as its users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Cli, only_json


@pytest.mark.torch
def test_a_table_sentences_and_a_chart(cli: Cli, tmp_path: Path) -> None:
    done = cli("bench", "--model", "mlp", "--seconds", "0.01", "--out", "look")
    assert done.returncode == 0, done.stderr
    for words in ("Images/s", "JPEG 500×400", "batch of 128", "one at a time", "cpu",
                  "An epoch of 60,000 images of 28×28 with mlp takes about"):  # fmt: skip
        assert words in done.stdout, words
    assert "look/bench.png" in done.stdout.replace(os.sep, "/")
    for words in ("Machine", "PyTorch", "ONNX Runtime", "thread"):
        assert words in done.stderr
    assert {path.name for path in (tmp_path / "look").iterdir()} == {
        "bench.png",
        "bench.svg",
        "bench.json",
    }


def test_one_json_object_and_silence(cli: Cli, nearest_mean: Path, tmp_path: Path) -> None:
    done = cli("bench", "--only", "reading,prediction", "--classifier", nearest_mean,
               "--seconds", "0.01", "--json", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = only_json(done)
    assert {rate["work"] for rate in content["rates"]} == {"reading", "prediction"}
    assert all(rate["slowest"] <= rate["images_per_second"] for rate in content["rates"])
    assert content["machine"]["threads"] >= 1
    assert content["figures"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "flying"), "reading, training, prediction"),
        (("--seconds", "0"), "seconds"),
        (("--classifier", "nowhere"), "does not exist"),
        (("--only", "reading", "--model", "mlp"), "no use for a model"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    cli: Cli, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = cli("bench", *words, "--json")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(only_json(done)["error"]) == {"kind", "expected", "received", "advice"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_pytorch_it_says_what_to_install_and_reads(
    tmp_path: Path, nearest_mean: Path
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        # A name that is None in sys.modules cannot be imported: as if it were not installed.
        code = (
            "import sys\n"
            "for name in ('torch', 'onnx', 'safetensors', 'matplotlib', 'sklearn', 'scipy'):\n"
            "    sys.modules[name] = None\n"
            "from opsin.cli import main; main()"
        )
        command = [sys.executable, "-c", code, "bench", "--seconds", "0.01", *words]
        return subprocess.run(command, check=False, text=True, capture_output=True, cwd=tmp_path)

    done = run("--classifier", str(nearest_mean), "--json")
    assert done.returncode == 0, done.stderr
    assert {rate["work"] for rate in json.loads(done.stdout)["rates"]} == {"reading", "prediction"}
    assert "training left out" in done.stderr
    for words, extra in (
        (("--only", "training"), "opsin[train]"),
        (("--out", "look"), "opsin[evaluate]"),
    ):
        done = run(*words)
        assert done.returncode == 1
        assert f"pip install '{extra}'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends signals as a Unix terminal does")
def test_ctrl_c_is_told_in_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "opsin", "bench", "--only", "reading", "--seconds", "60",
               "--json"]  # fmt: skip
    own = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, env=own, text=True, cwd=tmp_path, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:  # fmt: skip
        until = time.monotonic() + 60
        while not list(scratch.glob("*/31.jpg")):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["error"]["received"] == "Ctrl-C stopped it"
    assert "Traceback" not in err
    assert list(scratch.glob("opsin-*")) == []


def test_the_verb_has_help_with_an_example(cli: Cli) -> None:
    done = cli("bench", "--help")
    assert done.returncode == 0
    assert "Example: opsin bench" in " ".join(done.stdout.split())
