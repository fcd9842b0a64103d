"""The device that is there, the arithmetic that pays, and threads that have work to share."""

import pytest
import torch

from opsin.core.errors import RecipeError
from opsin.training import device
from opsin.training.device import choose_device, choose_precision, describe_device, isolated_rng

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    assert "CPU" in describe_device(CPU)
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="cuda"):
            choose_device("cuda")


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_for_large_steps_where_there_are_units_for_it(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
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
