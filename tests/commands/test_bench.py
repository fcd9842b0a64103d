"""Real steps and real answers are measured, on every device there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import opsin
from opsin.core.errors import MissingExtraError, ModelFileError, RecipeError
from tests.conftest import Cli, only_json


@pytest.mark.torch
def test_training_and_answers_are_measured() -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    measured = opsin.bench(models=["mlp"])
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers
    on_cpu = [(rate.work, rate.how) for rate in measured.rates if rate.device == "cpu"]
    assert on_cpu == [
        ("training", "batch of 128"),
        ("prediction", "one at a time"),
        ("prediction", "batch of 256"),
    ]
    assert all(
        0 < rate.slowest <= rate.images_per_second <= rate.fastest for rate in measured.rates
    )
    assert measured.machine.versions["torch"] == torch.__version__


def test_a_given_classifier_is_asked_without_pytorch(
    cli: Cli, nearest_mean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("bench", "--classifier", nearest_mean, status=0)
    assert "one at a time" in done.stdout and "onnxruntime" in done.stderr
    content = only_json(cli("bench", "--classifier", nearest_mean, "--json"))
    assert {rate["work"] for rate in content["rates"]} == {"prediction"}
    assert content["machine"]["threads"] >= 1
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError):
        opsin.bench()


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelFileError):
        opsin.bench(classifier=tmp_path / "text.onnx")
    with pytest.raises(RecipeError, match="mlp, cnn, resnet"):
        opsin.bench(models=["vgg"])
