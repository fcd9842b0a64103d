"""Which packages are installed, in which versions, and what they can compute on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from typing import Final

from opsin._version import __version__
from opsin.classical.classical_recipe import FITTED, ClassicalRecipe
from opsin.core.errors import MissingExtraError
from opsin.core.recipe import Recipe, TrainingRecipe

#: Looked for before anything is done, not missed at the end of an hour's training.
_FOR_ALL: Final = ("onnx", "sklearn", "scipy", "matplotlib", "jinja2")
_FOR_NETWORKS: Final = ("torch", "safetensors")


def need_training(model: str | None = None) -> None:
    """Look for all that training needs."""
    if model in FITTED:
        if not all(map(_is_installed, _FOR_ALL)):
            raise MissingExtraError("models without layers", "classical")
    elif not all(map(_is_installed, (*_FOR_ALL, *_FOR_NETWORKS))):
        raise MissingExtraError("training", "train")


def can_train_networks() -> bool:
    """Tell whether PyTorch is here, and what else a network is trained with."""
    return all(map(_is_installed, _FOR_NETWORKS))


def versions(*names: str) -> dict[str, str]:
    """Return the versions of the packages that decide what comes out."""
    names = names or ("torch", "onnx", "onnxruntime", "numpy", "pillow")
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was made impossible to import
        return False


def answering_device(recipe: Recipe | ClassicalRecipe) -> str:
    """Return where ONNX Runtime computes features and answers in a training."""
    from opsin.runtime.providers import choose  # noqa: PLC0415  loads ONNX Runtime

    device = recipe.training.device
    trains = isinstance(recipe.training, TrainingRecipe)
    return choose(device, needed=not (trains and device.startswith(("cuda", "mps"))))
