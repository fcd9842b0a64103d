"""A `Learner` decides, fits and exports: a network, a head on features, an imported file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import platform
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, cast

import numpy as np

from opsin._version import __version__
from opsin.classical.classical_recipe import FITTED, ClassicalRecipe
from opsin.commands.runs import AnyRecipe
from opsin.commands.train.calibrate import ExportedFile, assumed_mix, shares_of
from opsin.core.arrays import Ints
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import MissingExtraError
from opsin.core.events import Watcher
from opsin.core.metadata import ClassMix, Layer, Metadata
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    from torch import nn

    from opsin.backbones.backbone import Backbone
    from opsin.training.batches import TrainingBatches
    from opsin.training.checkpoint import Tensors, TrainingState
    from opsin.training.trainer import Outcome

    Start = tuple[Tensors, TrainingState]

# Times its budget that a training takes at most, if the machine becomes slower than measured.
_OVERRUN: Final = 1.1
_FOR_ALL: Final = ("onnx", "sklearn", "scipy", "matplotlib", "jinja2")
_FOR_NETWORKS: Final = ("torch", "safetensors")


def need_training(model: str | None = None) -> None:
    """Look for all packages of a training at its start, not at its end."""
    if model in FITTED:
        if not are_installed(*_FOR_ALL):
            raise MissingExtraError("models without layers", "classical")
    elif not are_installed(*_FOR_ALL, *_FOR_NETWORKS):
        raise MissingExtraError("training", "train")


def can_train_networks() -> bool:
    """Whether PyTorch and safetensors are installed."""
    return are_installed(*_FOR_NETWORKS)


def are_installed(*packages: str) -> bool:
    """Whether packages can be imported."""
    try:
        return all(importlib.util.find_spec(package) is not None for package in packages)
    except ValueError:  # it was made impossible to import
        return False


def versions(*names: str) -> dict[str, str]:
    """The versions of the packages that decide the result."""
    import onnxruntime  # noqa: PLC0415  slow to load

    names = names or ("torch", "onnx", "numpy", "pillow")
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,  # its packages for GPUs have other names
        **{name: importlib.metadata.version(name) for name in names},
    }


def answering_device(recipe: Recipe | ClassicalRecipe) -> str:
    """Where ONNX Runtime computes features and answers in a training; refuses a missing device."""
    from opsin.runtime.providers import choose  # noqa: PLC0415  loads ONNX Runtime

    device = recipe.training.device
    trains = isinstance(recipe.training, TrainingRecipe)
    return choose(device, needed=not (trains and device.startswith(("cuda", "mps"))))


@dataclass(frozen=True)
class Loaded:
    """Images and model before a learner decides the rest."""

    model: str | None  # its name; ``None`` if it is open
    dataset: Dataset
    backbone: Backbone | None = None
    budget: float | None = None  # seconds that are left
    reasons: dict[str, str] = field(default_factory=dict)  # of each decision
    scratch: Dataset | None = None  # in a plan: images for a training that is still to be tried


class Learner(ABC):
    """A network, a head or model without layers, or an imported file, and its images."""

    calibrates: ClassVar[bool] = True  # else the file's answers stay as they are

    dataset: Dataset
    recipe: AnyRecipe
    layers: list[Layer]  # as far as they are known before it is fitted
    began: float = 0.0  # when its budget began to count (`time.perf_counter`)
    budget: float | None = None  # seconds
    start: Start | None = None  # a checkpoint to go on from
    outcome: Outcome | None = None  # of its epochs, if it has any
    # Where it is trained, who hears of it, and what Ctrl-C sets.
    directory: RunDirectory
    watcher: Watcher
    stop: threading.Event

    @contextlib.contextmanager
    def ready(self, group: ProcessGroup = ALONE) -> Iterator[None]:  # noqa: ARG002
        """Build the model, with a random state of its own during the block."""
        yield

    @abstractmethod
    def fit(self) -> float | None:
        """Train until the end or ``stop``; return the seconds of it, if it was done here."""

    @abstractmethod
    def export(self) -> ExportedFile:
        """The file of the fitted model."""

    @abstractmethod
    def difference(self, file: Classifier, rows: Ints) -> float | None:
        """Compare file and model on some images; raise `ParityError` if they differ."""

    @property
    @abstractmethod
    def device_name(self) -> str:
        """Where it learns, in words."""

    def planned(self) -> dict[str, object]:
        """Fields of a plan, once it is ready: its seconds, and more for a network."""
        return {}

    def further(self) -> str | None:
        """What could follow, in words."""
        return None

    def decided(self, **reasons: str) -> None:
        """Add decisions and their reasons to the recipe."""
        update = {"reasons": self.recipe.reasons | reasons}
        self.recipe = self.recipe.model_copy(update=update)

    @property
    def training(self) -> TrainingRecipe:
        """How its epochs are trained, if it has any."""
        return cast("TrainingRecipe", self.recipe.training)

    @property
    def seconds_left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        return (self.budget or math.inf) - (time.perf_counter() - self.began)

    def metadata(
        self, labels: Ints, *, balanced: bool = False, layers: Sequence[Layer] | None = None
    ) -> Metadata:
        """The metadata of a file that was fitted to labels, before its evaluation."""
        recipe, dataset = self.recipe, self.dataset
        classes = len(dataset.classes)
        learnt = np.full(classes, 1 / classes) if balanced else shares_of(labels, classes)
        assumed = assumed_mix(recipe.training.class_mix, dataset)
        return Metadata(
            opsin=__version__,
            model=recipe.model.name,
            classes=dataset.classes,
            preparation=dataset.preparation,
            layers=tuple(self.layers if layers is None else layers),
            source=recipe.data.source_names,
            fingerprint=dataset.fingerprint,
            class_mix=ClassMix(learnt=tuple(learnt.tolist()), assumed=tuple(assumed.tolist())),
        )

    def train_epochs(
        self, network: nn.Module, train: TrainingBatches, val: TrainingBatches
    ) -> Outcome:
        """Train a network by training and validation batches; it then has the best weights."""
        from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415  these need PyTorch
        from opsin.training.trainer import fit  # noqa: PLC0415

        self.outcome = outcome = fit(
            network,
            train,
            val,
            self.training,
            classes=len(self.dataset.classes),
            checkpoints=Checkpoints(self.directory.checkpoints, self.watcher.note),
            watcher=self.watcher,
            stop=self.stop,
            start=self.start,
            deadline=self.began + _OVERRUN * (self.budget or math.inf),
        )
        return outcome

    def facts(self) -> TrainingFacts:
        """The training in the report."""
        outcome = cast("Outcome", self.outcome)
        return TrainingFacts(
            best_epoch=outcome.best.epoch,
            epochs=outcome.last.epoch,
            asked=self.training.epochs,
            stopped=outcome.stopped,
            interrupted=self.stop.is_set(),
            diverged=outcome.diverged,
            stepped_back=outcome.stepped_back,
            balance=self.training.balance,
            precision=self.training.precision,
        )
