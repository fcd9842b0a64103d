"""A batch that is computed in parts gives the step of the whole."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opsin.core.recipe import DataRecipe
from opsin.models import build_network
from opsin.models.build_network import Statistics
from opsin.models.resolve import resolve
from opsin.training.device import isolated_rng
from opsin.training.step import TrainStep

CPU = torch.device("cpu")
_RANDOM = np.random.default_rng(0)
IMAGES = torch.from_numpy(_RANDOM.integers(0, 256, (21, 24, 24, 3), np.uint8))
LABELS = torch.from_numpy(_RANDOM.integers(0, 5, 21))


def step(
    network: nn.Module, part: int | None, weights: Any = None, **options: Any
) -> tuple[float, int, dict[str, Tensor]]:
    recipe = resolve(DataRecipe.of("x"), micro_batch=part, optimizer="sgd", **options).training
    network = copy.deepcopy(network).train()
    with isolated_rng(CPU, 0):
        stepper = TrainStep(network, recipe, device=CPU, weights=weights)
        loss, right = stepper.step(IMAGES, LABELS, 0.1)
    return float(loss), int(right), network.state_dict()


def made(model: str) -> nn.Module:
    torch.manual_seed(0)
    recipe = resolve(DataRecipe.of("x"), model=model, hidden=(8, 8)).model
    return build_network.build(
        recipe, (24, 24, 3), 5, statistics=Statistics([128.0] * 3, [64.0] * 3)
    )


@pytest.mark.parametrize("part", [2, 4, 10, 20])
@pytest.mark.parametrize("weights", [None, np.arange(1, 6, dtype=np.float32)])
def test_parts_of_a_batch_add_up_to_its_step(part: int, weights: Any) -> None:
    network = made("mlp")
    options = {"label_smoothing": 0.1, "shift": 2, "rotate": 10, "brightness": 0.2, "erase": 0.3}
    loss, right, whole = step(network, None, weights, **options)
    again, as_right, parts = step(network, part, weights, **options)
    assert again == pytest.approx(loss, rel=1e-5)
    assert as_right == right
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(whole["head.weight"], network.state_dict()["head.weight"])


def test_batch_norm_learns_from_each_part() -> None:
    _, _, parts = step(made("resnet"), 10)
    moved = {int(value) for name, value in parts.items() if name.endswith("num_batches_tracked")}
    assert moved == {2}  # of 10 and of 11: no part has one image alone


def test_the_average_of_the_weights_answers_is_kept_and_is_delivered() -> None:
    recipe = resolve(DataRecipe.of("x"), optimizer="sgd", ema=0.5).training
    network = made("mlp").train()
    stepper = TrainStep(network, recipe, device=CPU)
    history = []
    for _ in range(3):
        stepper.step(IMAGES, LABELS, 0.1)
        history.append(network.state_dict()["head.weight"].clone())
    mean = 0.25 * history[0] + 0.25 * history[1] + 0.5 * history[2]
    network.eval()
    answers, kept = stepper.logits(IMAGES), stepper.tensors()
    again = TrainStep(made("mlp"), recipe, device=CPU)
    again.restore({name: value.clone() for name, value in kept.items()})
    again.deliver()
    torch.testing.assert_close(again.network.state_dict()["head.weight"], mean)
    torch.testing.assert_close(again.network.eval()(IMAGES), answers)
    assert not torch.equal(answers, network(IMAGES))


def test_mixed_images_have_two_labels() -> None:
    network = made("mlp")
    plain, *_ = step(network, None, shift=0, flip=False)
    mixed = {step(network, None, shift=0, flip=False, mixup=1.0, seed=n)[0] for n in range(4)}
    assert len(mixed) == 4 and plain not in mixed
