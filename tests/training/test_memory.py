"""The estimate is near the truth, the limits are the system's, and what is too large is shrunk."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import RecipeError
from opsin.core.metadata import Layer
from opsin.core.recipe import DataRecipe, Recipe
from opsin.models import build_network
from opsin.models.resolve import resolve
from opsin.models.statistics import Statistics
from opsin.training.memory import available, estimate, fit_memory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")

# A few steps, a validation batch and a checkpoint in a process of their own, which then says how
# far its memory grew; the limit, where one is set, is the operating system's own.
_PROCESS = """
import json, resource, sys, tempfile
from pathlib import Path
import numpy as np, torch
from opsin.models import build_network
from opsin.models.statistics import Statistics
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve
from opsin.training.checkpoint import Checkpoints, TrainingState
from opsin.training.batches import TrainingBatches
from opsin.training.memory import available, estimate, fit_memory, validation_batch
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
said["batch"] = recipe.training.batch_size
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
print(json.dumps(said | {"grew": peak - before, "estimate": estimate(recipe, layers).total}))
"""


def process(
    shape: tuple[int, int, int], *, leave: int = 0, fit: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    asked = {"shape": shape, "leave": leave, "fit": fit, "options": options}
    command = [sys.executable, "-c", _PROCESS, json.dumps(asked)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
        ("mlp", (64, 64, 3), [2048, 1024], 128),
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
    assert 8 <= said["batch"] < 256
    assert f"batches of {said['batch']} instead of 256" in said["note"]


@given(
    shape=st.tuples(st.integers(16, 64), st.integers(16, 64), st.sampled_from([1, 3])),
    batch=st.integers(2, 4096),
    model=st.sampled_from(["mlp", "cnn", "resnet"]),
)
def test_more_of_anything_never_takes_less(
    shape: tuple[int, int, int], batch: int, model: str
) -> None:
    small, layers = parts(shape, model=model, hidden=(8, 16), batch_size=batch)
    large, _ = parts(shape, model=model, hidden=(8, 16), batch_size=2 * batch)
    _, wider = parts(shape, model=model, hidden=(16, 32), batch_size=batch)
    need = estimate(small, layers)
    assert estimate(large, layers).batch >= 2 * need.batch - 1
    assert estimate(large, layers).total >= need.total
    assert estimate(small, wider).total >= need.total


@given(batch=st.integers(2, 8192), free=st.integers(0, 3_000_000_000))
def test_what_is_fitted_fits(batch: int, free: int) -> None:
    recipe, layers = parts((32, 32, 3), batch_size=batch, model="cnn", hidden=(32, 64))
    try:
        fitted, note = fit_memory(recipe, layers, device=CPU, free=free)
    except RecipeError:
        small = parts((32, 32, 3), batch_size=min(batch, 8), model="cnn", hidden=(32, 64))[0]
        assert estimate(small, layers).total > free
        return
    assert estimate(fitted, layers).total <= free
    if note is None:
        assert fitted is recipe
    else:
        assert 8 <= fitted.training.batch_size < batch
        assert fitted.training.rate < recipe.training.rate
        # No smaller than it must be.
        twice = recipe.training.model_copy(update={"batch_size": 2 * fitted.training.batch_size})
        doubled = recipe.model_copy(update={"training": twice})
        assert estimate(doubled, layers).total > free or 2 * fitted.training.batch_size > batch


def test_a_batch_size_that_was_asked_for_is_refused_with_one_that_fits() -> None:
    recipe, layers = parts((64, 64, 3), batch_size=4096)
    with pytest.raises(RecipeError) as caught:
        fit_memory(recipe, layers, device=CPU, given=("batch_size",), free=1_900_000_000)
    assert caught.value.expected.startswith("about ")
    assert caught.value.received == "there are 1.9 GB"
    assert "Give --batch-size 256," in caught.value.advice
    smaller, _ = parts((64, 64, 3), batch_size=256)
    assert fit_memory(smaller, layers, device=CPU, free=1_900_000_000) == (smaller, None)


def test_a_rate_that_was_asked_for_stays() -> None:
    recipe, layers = parts((64, 64, 3), batch_size=4096, rate=0.003)
    fitted, note = fit_memory(recipe, layers, device=CPU, given=("rate",), free=1_900_000_000)
    assert fitted.training.rate == 0.003
    assert note is not None
    assert "the rate" not in note


def test_weights_that_are_too_many_are_named_as_the_cause() -> None:
    recipe, layers = parts((32, 32, 3), model="mlp", hidden=(20_000,))
    with pytest.raises(RecipeError, match="fewer --hidden units"):
        fit_memory(recipe, layers, device=CPU, free=1_000_000_000)


def test_a_machine_without_free_memory_trains_nothing() -> None:
    recipe, layers = parts((8, 8, 1), model="mlp")
    with pytest.raises(RecipeError, match="there are 0 B"):
        fit_memory(recipe, layers, device=CPU, free=0)


def test_the_real_system_says_something_sensible() -> None:
    assert 10_000_000 < available(CPU) < 1 << 50
