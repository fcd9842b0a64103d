"""`opsin bench` as its users run it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Cli, only_json


def test_a_table_or_one_json_object(cli: Cli, nearest_mean: Path) -> None:
    done = cli("bench", "--classifier", nearest_mean)
    assert done.returncode == 0, done.stderr
    assert "one at a time" in done.stdout and "onnxruntime" in done.stderr
    done = cli("bench", "--classifier", nearest_mean, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    content = only_json(done)
    assert {rate["work"] for rate in content["rates"]} == {"prediction"}
    assert content["machine"]["threads"] >= 1
    assert cli("bench", "--model", "vgg").returncode == 1
