"""The architectures, one a module with a `SPEC`; loading them needs no PyTorch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opsin.core.recipe import ModelRecipe

#: Height, width and channels of an image.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelSpec:
    """An architecture, described without PyTorch."""

    name: str  # what ``--model`` takes
    description: str  # a few words that follow the name in the help
    # Defaults of options of `ModelRecipe` and `TrainingRecipe`; ``hidden``, ``dropout``,
    # ``epochs``, ``batch_size``, ``optimizer``, ``learning_rate``, ``schedule``, ``weight_decay``,
    # ``label_smoothing`` and ``augment`` are needed.
    defaults: Mapping[str, Any]
    # The layers (``nn.Module``) in their order for a recipe, images' shape and number of classes;
    # the last one is named ``head``. It imports PyTorch itself.
    build: Callable[[ModelRecipe, Shape, int], dict[str, Any]]
    # The multiply-adds of one image for ``hidden``, images' shape and number of classes.
    cost: Callable[[Sequence[int], Shape, int], int]
    min_side: int  # pixels of the smaller side that the default size needs
    # Whether ``hidden`` counts the filters of blocks. Then there is one block at least, a deeper
    # network doubles the last block's filters, and Muon can train it.
    convolutional: bool = True


def _specs() -> list[ModelSpec]:
    modules = pkgutil.iter_modules(__path__, f"{__name__}.")
    specs: list[ModelSpec] = [importlib.import_module(module.name).SPEC for module in modules]
    return sorted(specs, key=lambda spec: spec.cost(spec.defaults["hidden"], (32, 32, 3), 10))


#: The architectures by name, the cheapest first.
MODELS: Final = {spec.name: spec for spec in _specs()}


def names() -> str:
    """The names for a sentence."""
    *others, last = MODELS
    return f"{', '.join(others)} or {last}"
