"""The preview shows what training would do, and says it in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands.data import check_varying, draw_variations, in_words
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.recipe import AUGMENTATIONS
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve


@pytest.mark.torch
@pytest.mark.parametrize("policy", sorted(AUGMENTATIONS))
def test_every_policy_is_drawn_and_is_the_one_that_training_uses(
    shapes: Path, tmp_path: Path, policy: str
) -> None:
    dataset = opsin.load(shapes)
    drawn = draw_variations(dataset, tmp_path / "look", augment=policy)
    assert drawn.image == tmp_path / "look" / "augment.png"
    assert np.asarray(Image.open(drawn.image).convert("L")).std() > 1
    training = resolve(dataset.recipe, augment=policy).training
    assert drawn.policy == policy
    assert drawn.parts == {name: getattr(training, name) for name in AUGMENTATIONS["none"]}
    assert drawn.words == in_words(training, 24, 24)


@pytest.mark.torch
@pytest.mark.parametrize("options", [{"augment": "selfies"}, {"shift": -1}, {"erase": 1.5}])
def test_an_impossible_request_is_refused_before_anything_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        check_varying(**options)


def test_without_pytorch_the_error_says_what_to_install(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"varying images.*opsin\[train\]"):
        draw_variations(digits, tmp_path, augment="photos")
    assert list(tmp_path.iterdir()) == []
