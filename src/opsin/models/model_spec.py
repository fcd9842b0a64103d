"""The description of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.core.recipe import ModelRecipe

#: Height, width and channels of an image.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelSpec:
    """An architecture, described without PyTorch."""

    name: str  # what ``--model`` takes
    description: str  # a few words that follow the name in the help
    # Defaults of options of `ModelRecipe` and `TrainingRecipe`; ``hidden``,
    # ``dropout``, ``epochs``, ``batch_size``, ``optimizer``, ``learning_rate``, ``schedule``,
    # ``weight_decay``, ``label_smoothing`` and ``augment`` are needed.
    defaults: Mapping[str, Any]
    # Takes a recipe, the images' shape and the number of classes, and returns the layers
    # (``nn.Module``) in their order, the last one named ``head``. It imports PyTorch itself.
    build: Callable[[ModelRecipe, Shape, int], dict[str, Any]]
    # Takes ``hidden``, the images' shape and the number of classes, and returns the multiply-adds
    # of one image.
    cost: Callable[[Sequence[int], Shape, int], int]
    min_side: int  # pixels of the smaller side that the default size needs
    # Whether ``hidden`` counts the filters of blocks. Then there is one block at least, a deeper
    # network doubles the last block's filters, and Muon can train it.
    convolutional: bool = True
