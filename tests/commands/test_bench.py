"""What is measured is the real work, whole, and on every device there is."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands import bench as workflow
from opsin.commands.rates import Benchmark
from opsin.commands.workload import (
    FILE,
    export_fresh,
    in_batches,
    in_batches_on,
    one_by_one,
    reader,
    recipe_for,
    trainer,
)
from opsin.core.errors import (
    MissingExtraError,
    ModelFileError,
    OpsinError,
    RecipeError,
    StorageError,
)
from opsin.core.events import Watcher
from opsin.data.lazy_images import THREADS
from opsin.runtime.providers import installed


def has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


class Told(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, int]] = []
        self.done: list[int] = []
        self.open = 0
        self.notes: list[str] = []
        self.facts: dict[str, str] = {}

    def fact(self, name: str, text: str) -> None:
        self.facts[name] = text

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, what: str, total: int, unit: str) -> None:
        self.open += 1
        self.bars.append((what, total))

    def advance(self, done: int, **figures: float) -> None:
        self.done.append(done)

    def end(self) -> None:
        self.open -= 1


def rows(measured: Benchmark) -> list[tuple[str, str, str, str]]:
    return [(rate.work, rate.name, rate.size, rate.device) for rate in measured.rates]


def test_reading_needs_no_pytorch_and_reads_real_files(tmp_path: Path) -> None:
    told = Told()
    measured = opsin.bench(only=["reading"], seconds=0.01, watcher=told)
    assert rows(measured) == [
        ("reading", "JPEG 500×400", "64×64", "cpu"),
        ("reading", "JPEG 500×400", "128×128", "cpu"),
    ]
    assert "torch" not in measured.machine.versions
    assert told.facts["Machine"] == measured.machine.line()
    unit = reader(tmp_path, 16)
    files = sorted(tmp_path.glob("*.jpg"))
    assert unit() == max(2 * len(files), 16 * THREADS)
    with Image.open(files[0]) as image:
        assert (image.height, image.width) == FILE
        assert np.asarray(image).std() > 10
    files[3].write_bytes(b"no image")
    with pytest.raises(OpsinError, match=files[3].name):
        unit()


@pytest.mark.torch
def test_every_kind_of_work_is_measured(tmp_path: Path) -> None:
    told = Told()
    out = tmp_path / "new" / "folder"
    measured = opsin.bench(models=["mlp"], seconds=0.01, out=out, watcher=told)
    on_cpu = [row for row in rows(measured) if row[3] == "cpu"]
    assert on_cpu == [
        ("reading", "JPEG 500×400", "64×64", "cpu"),
        ("reading", "JPEG 500×400", "128×128", "cpu"),
        ("training", "mlp", "28×28", "cpu"),
        ("prediction", "mlp", "28×28", "cpu"),
        ("prediction", "mlp", "28×28", "cpu"),
    ]
    assert all(0 < rate.low <= rate.median <= rate.high for rate in measured.rates)
    assert measured.machine.versions["torch"]
    assert [what.split(" ")[0] for what, _ in told.bars] == [
        f"{n}/{len(measured.rates)}" for n in range(1, len(measured.rates) + 1)
    ]
    assert told.open == 0
    assert measured.files == tuple(out / f"bench.{kind}" for kind in ("png", "svg", "json"))
    content = json.loads(measured.files[2].read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(measured.to_json()))
    assert np.asarray(Image.open(measured.files[0]).convert("L")).std() > 1
    assert "mlp trains on" in measured.files[1].read_text(encoding="utf-8")


@pytest.mark.torch
def test_the_callers_random_numbers_go_on_as_if_nothing_had_happened() -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    opsin.bench(only=["training"], models=["mlp"], seconds=0.01)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.torch
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet"])
def test_training_takes_the_steps_of_the_default_recipe(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opsin.training.step import TrainStep

    seen: list[Any] = []
    real = TrainStep.step

    def watched(stepper: TrainStep, images: Any, labels: Any, rate: float) -> Any:
        before = {name: value.clone() for name, value in stepper.network.state_dict().items()}
        result = real(stepper, images, labels, rate)
        after = stepper.network.state_dict()
        seen.append((len(labels), any(bool((after[n] != before[n]).any()) for n in before)))
        return result

    monkeypatch.setattr(TrainStep, "step", watched)
    assert trainer(model, "cpu")() == recipe_for(model).training.batch_size
    assert seen == [(recipe_for(model).training.batch_size, True)]


@pytest.mark.torch
@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_prediction_asks_a_file_like_any_other(model: str, tmp_path: Path) -> None:
    file = export_fresh(model, tmp_path)
    classifier = opsin.Classifier(file)
    assert (classifier.metadata.model, len(classifier.classes)) == (model, 10)
    assert one_by_one(file)() == 1
    assert in_batches(file, 300)() == 300


def test_a_given_classifier_is_asked_without_pytorch(nearest_mean: Path) -> None:
    measured = opsin.bench(only=["prediction"], classifier=nearest_mean, seconds=0.01)
    assert rows(measured)[:2] == [("prediction", "mlp", "8×8", "cpu")] * 2
    assert [rate.how for rate in measured.rates][:2] == ["one at a time", "batch of 256"]
    assert "torch" not in measured.machine.versions


def test_what_cannot_run_on_a_gpu_is_left_out(nearest_mean: Path) -> None:
    for device in installed():
        if (unit := in_batches_on(nearest_mean, 8, device)) is not None:
            assert unit() == 8
    told = Told()
    rate = opsin.ImageRate("prediction", "mlp", "batch of 8", (8, 8, 1), "cuda", ())
    assert workflow._measure_all([workflow._Job(rate, lambda: None)], 0.01, told) == ()
    assert "cuda" in told.notes[0]


@pytest.mark.torch
@pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU")
def test_a_gpu_is_measured_beside_the_cpu() -> None:
    measured = opsin.bench(only=["training"], models=["cnn"], seconds=0.2)
    assert len({rate.device for rate in measured.rates}) == 2
    assert measured.machine.gpu


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["flying"]}, "reading, training, prediction"),
        ({"models": ["vgg"]}, "mlp, cnn, resnet"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"only": ["reading"], "models": ["mlp"]}, "no use for a model"),
        ({"only": ["reading", "training"], "classifier": "x"}, "no use for a classifier"),
        (
            {"only": ["prediction"], "classifier": "x", "models": ["mlp"]},
            "prediction has no use for a model",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opsin.bench(**options)


def test_a_file_that_is_no_classifier_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    told = Told()
    with pytest.raises(ModelFileError):
        opsin.bench(classifier=tmp_path / "text.onnx", watcher=told)
    assert told.bars == []


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = Told()
    with pytest.raises(StorageError, match="not a directory"):
        opsin.bench(out=tmp_path / "file" / "below", watcher=told)
    assert told.bars == []


@pytest.mark.slow
def test_without_pytorch_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, nearest_mean: Path
) -> None:
    # A name that is None in sys.modules cannot be imported: as if it were not installed.
    monkeypatch.setitem(sys.modules, "torch", None)
    told = Told()
    measured = opsin.bench(seconds=0.01, watcher=told)
    assert {rate.work for rate in measured.rates} == {"reading"}
    assert "training and prediction left out" in " ".join(told.notes)
    assert "pip install 'opsin[train]'; --classifier" in " ".join(told.notes)
    measured = opsin.bench(seconds=0.01, classifier=nearest_mean, watcher=told)
    assert {rate.work for rate in measured.rates} == {"reading", "prediction"}
    with pytest.raises(MissingExtraError, match="measuring training"):
        opsin.bench(only=["training"])
    with pytest.raises(MissingExtraError, match="measuring prediction without --classifier"):
        opsin.bench(only=["prediction"])


def test_a_rate_is_images_over_seconds() -> None:
    calls = itertools.count(1)

    def unit() -> int:
        next(calls)
        time.sleep(0.01)
        return 5

    told = Told()
    rates = workflow._measure(unit, 0.2, told, "1/1 sleeping")
    # A sleep is never shorter than it was asked to be.
    assert all(0 < rate <= 500 for rate in rates)
    assert 3 <= len(rates) <= 5
    ((_, total),) = told.bars
    each = total // 5
    assert told.done == [each * n for n in range(1, len(rates) + 1)]
    assert next(calls) - 1 == 1 + (len(rates) + 1) * each // 5


def test_a_unit_that_takes_long_is_repeated_three_times() -> None:
    def unit() -> int:
        time.sleep(0.05)
        return 1

    assert len(workflow._measure(unit, 0.01, Watcher(), "1/1 slow")) == 3


def test_ctrl_c_takes_the_bar_away_and_leaves_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Impatient(Told):
        def advance(self, done: int, **figures: float) -> None:
            assert list(tmp_path.iterdir())
            raise KeyboardInterrupt

    told = Impatient()
    with pytest.raises(KeyboardInterrupt):
        opsin.bench(only=["reading"], seconds=0.01, watcher=told)
    assert told.open == 0
    assert list(tmp_path.iterdir()) == []
