"""Real steps and real answers are measured, on every device there is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import opsin
from opsin.cli.bench import bench


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
    nearest_mean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("opsin.commands.bench._ROUND", 0.02)
    bench(classifier=nearest_mean)
    shown = capsys.readouterr()
    assert "one at a time" in shown.out and "onnxruntime" in shown.err
    bench(classifier=nearest_mean, as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert {rate["work"] for rate in content["rates"]} == {"prediction"}
    assert content["machine"]["threads"] >= 1
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(opsin.MissingExtraError):
        opsin.bench()
