"""This machine: what is installed on it, and what figures of its speed depend on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Final

import onnxruntime
import psutil
from pydantic import BaseModel

from opsin._version import __version__
from opsin.classical.classical_recipe import FITTED, ClassicalRecipe
from opsin.core.errors import MissingExtraError
from opsin.core.platform import cores, processor_name
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


class Machine(BaseModel):
    """What figures of speed depend on; ``gpu`` is known only where PyTorch was asked."""

    cpu: str
    threads: int
    memory: int
    load: float | None
    gpu: str | None
    versions: dict[str, str]

    @classmethod
    def here(cls, *, gpu: str | None = None) -> Machine:
        """Describe the machine at hand; the name of PyTorch's GPU is given."""
        versions = {
            "opsin": __version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        }
        if torch := sys.modules.get("torch"):
            versions["torch"] = str(torch.__version__)
        return cls(
            cpu=processor_name(),
            threads=cores(),
            memory=psutil.virtual_memory().total,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            gpu=gpu,
            versions=versions,
        )

    def line(self) -> str:
        """The machine in one line, without its load."""
        parts = [self.cpu, f"{self.threads} threads", f"{self.memory / 1e9:.0f} GB of memory"]
        if "torch" in self.versions:
            parts += [self.gpu or "no GPU", f"PyTorch {self.versions['torch']}"]
        return " · ".join([*parts, f"ONNX Runtime {self.versions['onnxruntime']}"])

    @property
    def busy(self) -> str:
        """A warning where other programs use more than half of the threads, otherwise empty."""
        if self.load is None or self.load <= self.threads / 2:
            return ""
        return (
            f"other programs keep this machine busy (load {self.load:.1f} on {self.threads} "
            "threads): it is faster than these figures"
        )
