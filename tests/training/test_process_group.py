import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import python

pytestmark = pytest.mark.torch

_ROOT = Path(__file__).parents[2]
_SCRIPT = """\
import copy
import hashlib
import json
import sys

import numpy as np
import torch

from opsin.core.errors import RunError
from opsin.core.recipe import DataRecipe
from opsin.models import build_network
from opsin.models.resolve import resolve
from opsin.models.build_network import statistics_of
from opsin.training.device import isolated_rng
from opsin.training.process_group import ALONE, joined
from opsin.training.step import TrainStep

CPU = torch.device("cpu")


def digest(stepper):
    values = stepper.network.state_dict().values()
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in values)).hexdigest()


def trained(network, recipe, group, weights):
    network = copy.deepcopy(network)
    with isolated_rng(CPU, 0):
        stepper = TrainStep(network, recipe, device=CPU, weights=weights, group=group)
        images = torch.randint(256, (21, 24, 24, 3), dtype=torch.uint8)
        labels = torch.randint(5, (21,))
        own = group.share
        losses = []
        for rate in (1e-3, 0.0):  # the second step sees what the first one has learnt
            loss, _ = stepper.step(images[own], labels[own], rate, whole=labels)
            losses.append(float(loss))
    return losses, stepper


pixels = np.random.default_rng(0).integers(0, 256, (50, 24, 24, 3), np.uint8)
found = {}
weighted = np.arange(1, 6, dtype=np.float32)
for model, weights, part in (
    ("mlp", None, None), ("mlp", weighted, None), ("mlp", weighted, 6), ("resnet", None, 6)
):
    recipe = resolve(
        DataRecipe.of("photos"), model=model, label_smoothing=0.1, optimizer="sgd",
        augment="none", shift=0, micro_batch=part,
    )
    statistics = statistics_of(pixels, np.arange(50))
    torch.manual_seed(0)
    network = build_network.build(recipe.model, (24, 24, 3), 5, statistics=statistics)
    with joined() as group:
        together = trained(network, recipe.training, group, weights)
        alone = trained(network, recipe.training, ALONE, weights)
        assert group.first(digest(together[1])) == digest(together[1])
        found[f"{model} {weights is None} {part}"] = [alone[0], together[0]]
        del together, alone  # PyTorch aborts where its reducer outlives the group
if group.writes:
    print(json.dumps(found), flush=True)
"""
_FAILING = """\
import os

from opsin.core.errors import OpsinError, SourceError
from opsin.training.process_group import joined

try:
    with joined() as group:
        if group.rank == 1:
            raise SourceError("boots/7.jpg has gone")
        group.wait()
except OpsinError as error:
    print(f"{group.rank}: {error.message}, {error.told}", flush=True)
"""


def torchrun(folder: Path, script: str, world: int) -> subprocess.CompletedProcess[str]:
    (folder / "steps.py").write_text(script)
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"
    environment = os.environ | {"PYTHONPATH": str(_ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return python(*torchrun, world, "steps.py", cwd=folder, check=False, env=environment)


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_make_the_steps_of_one(tmp_path: Path, world: int) -> None:
    """Where nothing is drawn, and but for BatchNorm; at last, the others say why one ended."""
    done = torchrun(tmp_path, _SCRIPT + _FAILING, world)
    assert done.stdout.startswith("{"), done.stderr
    steps, _, said = done.stdout.partition("\n")
    for name, (alone, together) in json.loads(steps).items():
        assert together == pytest.approx(alone, rel=1e-3 if "mlp" in name else 0.3)
    assert "0: Process 1 ended: boots/7.jpg has gone, " in said, done.stderr
    assert "1: boots/7.jpg has gone, " in said
    assert said.count(", False\n") == 1  # one of them tells the user


def test_the_last_process_says_that_the_first_has_ended(tmp_path: Path) -> None:
    killed = _FAILING.replace("rank == 1", "rank == 0").replace(
        "raise SourceError", "os._exit(1) #"
    )
    done = torchrun(tmp_path, killed, 2)
    assert "1: One of the 2 processes ended, or does not answer, False\n" in done.stdout, done
