"""What an architecture says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.core.recipe import ModelRecipe

#: Height, width and channels of an image.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelSpec:
    """An architecture, described without PyTorch.

    Args:
        name: What ``--model`` takes.
        description: A few words that follow the name in the help.
        defaults: Options of `ModelRecipe` and `TrainingRecipe` that are used where none are given;
            ``hidden``, ``dropout``, ``epochs``, ``batch_size``, ``optimizer``, ``rate``,
            ``schedule``, ``weight_decay``, ``label_smoothing`` and ``augment`` are needed.
        build: Takes a recipe, the images' shape and the number of classes, and returns the layers
            (``nn.Module``) in their order, the last one named ``head``. It imports PyTorch itself.
        cost: Takes ``hidden``, the images' shape and the number of classes, and returns the
            multiply-adds of one image.
        min_side: Pixels of the smaller side that the default size needs.
        convolutional: Whether ``hidden`` counts the filters of blocks. Then there is one block at
            least, a deeper network doubles the last block's filters, and Muon can train it.
    """

    name: str
    description: str
    defaults: Mapping[str, Any]
    build: Callable[[ModelRecipe, Shape, int], dict[str, Any]]
    cost: Callable[[Sequence[int], Shape, int], int]
    min_side: int
    convolutional: bool = True
