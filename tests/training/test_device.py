"""The device that is there, its arithmetic, and its memory, which is estimated and not passed."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from opsin.core.errors import RecipeError
from opsin.core.metadata import Layer
from opsin.core.recipe import DataRecipe, Recipe
from opsin.models import build_network
from opsin.models.build_network import Statistics
from opsin.models.resolve import resolve
from opsin.training import device
from opsin.training.device import (
    choose_device,
    choose_precision,
    describe_device,
    estimate,
    fit_memory,
    isolated_rng,
)
from tests.processes import python

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    assert "CPU" in describe_device(CPU)
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="cuda"):
            choose_device("cuda")


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_for_large_quick_steps(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_quick_bfloat16", lambda _: quick)
    assert choose_precision("auto", 10**9, CPU) == ("bfloat16" if quick else "float32")
    assert choose_precision("auto", 10**6, CPU) == "float32"
    assert choose_precision("float32", 10**9, CPU) == "float32"
    assert choose_precision("bfloat16", 10**6, CPU) == "bfloat16"


def test_the_callers_random_numbers_go_on() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    drawn = torch.rand(1)
    with isolated_rng(CPU, 7):
        inside = torch.rand(1)
    assert torch.equal(torch.cat([drawn, torch.rand(1)]), expected)
    torch.manual_seed(7)
    assert torch.equal(inside, torch.rand(1))


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")

# A few steps, a validation batch and a checkpoint in a process of their own, which then says how
# far its memory grew; the limit, where one is set, is the operating system's own.
_PROCESS = """
import json, resource, sys, tempfile
from pathlib import Path
import numpy as np, torch
from opsin.models import build_network
from opsin.models.build_network import Statistics
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve
from opsin.training.checkpoint import Checkpoints, TrainingState
from opsin.training.batches import TrainingBatches
from opsin.training.device import available, estimate, fit_memory, validation_batch
from opsin.training.step import TrainStep

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])

asked = json.loads(sys.argv[1])
shape, leave, fit = tuple(asked["shape"]), asked["leave"], asked["fit"]
options = asked["options"] | {"hidden": tuple(asked["options"]["hidden"])}
data = DataRecipe.of("x", size=shape[:2], channels=shape[2])
recipe = resolve(data, **options)
scale = Statistics([128.0] * shape[2], [64.0] * shape[2])
network = build_network.build(recipe.model, shape, 10, statistics=scale)
layers = build_network.summarise(network, shape)
count = max(2 * recipe.training.batch_size, validation_batch(*shape[:2]))
images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
before, device, said = status("VmRSS"), torch.device("cpu"), {}
if leave:
    limit = status("VmSize") + leave
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    said["available"] = available(device)
if fit:
    recipe, said["note"] = fit_memory(recipe, layers, device=device)
said["part"] = recipe.training.micro_batch
examples = TrainingBatches(images, np.arange(count) % 10, np.arange(count), device)
step = TrainStep(network, recipe.training, device=device)
network.train()
for images, labels in examples.batches(np.arange(count), recipe.training.batch_size):
    step.step(images, labels, 1e-3)
network.eval()
with torch.inference_mode():
    for images, labels in examples.batches(np.arange(count), validation_batch(*shape[:2])):
        step.logits(images)
with tempfile.TemporaryDirectory() as folder:
    Checkpoints(Path(folder)).save(step.tensors(), TrainingState())
peak = status("VmHWM")  # getrusage would count what the process that started this one had
print(json.dumps(said | {"grew": peak - before, "estimate": estimate(recipe, layers)}))
"""


def process(
    shape: tuple[int, int, int], *, leave: int = 0, fit: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    asked = {"shape": shape, "leave": leave, "fit": fit, "options": options}
    return python("-c", _PROCESS, json.dumps(asked), check=False)


def parts(shape: tuple[int, int, int], **options: Any) -> tuple[Recipe, list[Layer]]:
    recipe = resolve(DataRecipe.of("x", size=shape[:2], channels=shape[2]), **options)
    scale = Statistics([128.0] * shape[2], [64.0] * shape[2])
    return recipe, build_network.summarise(
        build_network.build(recipe.model, shape, 10, statistics=scale), shape
    )


@linux
@pytest.mark.parametrize(
    ("model", "shape", "hidden", "batch"),
    [
        pytest.param("mlp", (64, 64, 3), [2048, 1024], 128, marks=pytest.mark.slow),
        pytest.param("resnet", (28, 28, 1), [32, 64, 128], 128, marks=pytest.mark.slow),
        pytest.param("cnn", (32, 32, 3), [32, 64, 128], 256, marks=pytest.mark.slow),
        pytest.param("resnet", (96, 96, 3), [32, 64, 128], 64, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_near_what_training_takes(
    model: str, shape: tuple[int, int, int], hidden: list[int], batch: int
) -> None:
    done = process(shape, model=model, hidden=hidden, batch_size=batch)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert 0.8 * said["grew"] < said["estimate"] < 1.5 * said["grew"]


@pytest.mark.slow
@linux
def test_what_would_be_killed_is_shrunk_and_then_trains() -> None:
    options: dict[str, Any] = {"model": "resnet", "hidden": [16, 32, 64, 64], "batch_size": 256}
    leave = 700_000_000
    killed = process((96, 96, 3), leave=leave, **options)
    assert killed.returncode != 0
    assert "memory" in killed.stderr
    done = process((96, 96, 3), leave=leave, fit=True, **options)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert 0.9 * leave < said["available"] <= leave
    assert 8 <= said["part"] < 256
    assert f"batches of 256 are computed {said['part']} images at a time" in said["note"]


@given(
    shape=st.tuples(st.integers(16, 64), st.integers(16, 64), st.sampled_from([1, 3])),
    batch=st.integers(2, 4096),
    model=st.sampled_from(["mlp", "cnn", "resnet"]),
)
def test_more_never_takes_less(shape: tuple[int, int, int], batch: int, model: str) -> None:
    small, layers = parts(shape, model=model, hidden=(8, 16), batch_size=batch)
    large, _ = parts(shape, model=model, hidden=(8, 16), batch_size=2 * batch)
    _, wider = parts(shape, model=model, hidden=(16, 32), batch_size=batch)
    need = estimate(small, layers)
    assert estimate(large, layers) >= need
    assert estimate(small, wider) >= need


@given(batch=st.integers(2, 8192), free=st.integers(0, 3_000_000_000))
def test_what_is_fitted_fits(batch: int, free: int) -> None:
    recipe, layers = parts((32, 32, 3), batch_size=batch, model="cnn", hidden=(32, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "available", lambda _: free)
        try:
            fitted, note = fit_memory(recipe, layers, device=CPU)
        except RecipeError:
            assert estimate(recipe.with_training(micro_batch=8), layers) > free
            return
    assert estimate(fitted, layers) <= free
    if note is None:
        assert fitted is recipe
        return
    part = fitted.training.micro_batch
    assert part is not None
    assert 8 <= part < batch
    assert fitted == recipe.with_training(micro_batch=part)
    # No smaller than it must be.
    doubled = recipe.with_training(micro_batch=2 * part + 1)
    assert estimate(doubled, layers) > free or 2 * part + 1 > batch


def test_parts_that_are_settled_are_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, layers = parts((32, 32, 3), batch_size=512, model="cnn", hidden=(32, 64))
    own = recipe.with_training(micro_batch=256)
    monkeypatch.setattr(device, "available", lambda _: estimate(own, layers) - 1)
    assert fit_memory(recipe, layers, device=CPU)[0].training.micro_batch == 128
    for settled, fixed in ((own, False), (recipe, True)):
        with pytest.raises(RecipeError, match="smaller --micro-batch"):
            fit_memory(settled, layers, device=CPU, fixed=fixed)
