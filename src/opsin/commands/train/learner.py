"""What every training has: it decides, fits, and exports a file."""

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
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.classical.classical_recipe import FITTED, ClassicalRecipe
from opsin.commands.runs import AnyRecipe
from opsin.commands.train.calibrate import ExportedFile, assumed_mix, shares_of
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

    #: The state to go on from.
    Start = tuple[Tensors, TrainingState]

# How many times its budget a training takes at most, if the machine becomes slower than measured.
_OVERRUN: Final = 1.1
# Looked for before anything is done, not missed at the end of an hour's training.
_FOR_ALL: Final = ("onnx", "sklearn", "scipy", "matplotlib", "jinja2")
_FOR_NETWORKS: Final = ("torch", "safetensors")


def need_training(model: str | None = None) -> None:
    """Look for all that training needs."""
    if model in FITTED:
        if not _are_installed(*_FOR_ALL):
            raise MissingExtraError("models without layers", "classical")
    elif not _are_installed(*_FOR_ALL, *_FOR_NETWORKS):
        raise MissingExtraError("training", "train")


def can_train_networks() -> bool:
    """Whether PyTorch is here, and what else a network is trained with."""
    return _are_installed(*_FOR_NETWORKS)


def _are_installed(*packages: str) -> bool:
    try:
        return all(importlib.util.find_spec(package) is not None for package in packages)
    except ValueError:  # it was made impossible to import
        return False


def versions(*names: str) -> dict[str, str]:
    """The versions of the packages that decide what comes out."""
    names = names or ("torch", "onnx", "onnxruntime", "numpy", "pillow")
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def answering_device(recipe: Recipe | ClassicalRecipe) -> str:
    """Where ONNX Runtime computes features and answers in a training; refuses what is not there."""
    from opsin.runtime.providers import choose  # noqa: PLC0415  loads ONNX Runtime

    device = recipe.training.device
    trains = isinstance(recipe.training, TrainingRecipe)
    return choose(device, needed=not (trains and device.startswith(("cuda", "mps"))))


@dataclass(frozen=True)
class Loaded:
    """What is to be trained on what, as far as it is settled before a learner decides the rest."""

    model: str | None  # its name; ``None`` where it is open
    dataset: Dataset
    backbone: Backbone | None = None
    budget: str | float | None = None  # seconds or words for the time that is left
    reasons: dict[str, str] = field(default_factory=dict)  # what was decided, and why
    is_open: bool = False  # in a plan: whether the pretrained network is still to be tried


class Learner(ABC):
    """What is trained on what: a network, a head or model without layers, an imported file."""

    #: Whether its file is calibrated; else the answers stay as they are.
    calibrates: ClassVar[bool] = True

    dataset: Dataset
    recipe: AnyRecipe
    #: What the model is made of, as far as that is known before it is fitted.
    layers: list[Layer]
    #: Whether Ctrl-C has ended the training early, and why it came to no good end, if so.
    stopped: bool = False
    cause: str | None = None
    #: When a budget began to count (`time.perf_counter`), its seconds, and the state to go on from.
    began: float = 0.0
    budget: float | None = None
    start: Start | None = None
    #: How the epochs went, if there were any.
    outcome: Outcome | None = None

    @contextlib.contextmanager
    def ready(self, group: ProcessGroup = ALONE) -> Iterator[None]:
        """Build what is trained, with random numbers of its own while the block goes on."""
        del group
        yield

    @abstractmethod
    def fit(self, directory: RunDirectory, watcher: Watcher, stop: threading.Event) -> float | None:
        """Train until the end or ``stop``; return the seconds that it took, if it was done here."""

    @abstractmethod
    def export(self, directory: RunDirectory, watcher: Watcher) -> ExportedFile:
        """The file of what was fitted."""

    @abstractmethod
    def difference(self, file: Classifier, images: NDArray[np.uint8]) -> float | None:
        """Compare the calibrated file with what was fitted; raise `ParityError` if they differ."""

    @abstractmethod
    def facts(self, *, interrupted: bool) -> TrainingFacts:
        """What the report says of the training."""

    @property
    @abstractmethod
    def device_name(self) -> str:
        """Where it learns, as a person would say it."""

    def planned(self) -> dict[str, object]:
        """What a plan says of it, once it is ready: its seconds, and more of a network."""
        return {}

    def further(self) -> str | None:
        """What else could be tried, in words."""
        return None

    def decided(self, **reasons: str) -> None:
        """Keep what was decided, and why."""
        update = {"reasons": self.recipe.reasons | reasons}
        self.recipe = self.recipe.model_copy(update=update)

    @property
    def seconds_left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        return (self.budget or math.inf) - (time.perf_counter() - self.began)

    def metadata(
        self,
        labels: NDArray[np.int64],
        *,
        balanced: bool = False,
        layers: Sequence[Layer] | None = None,
    ) -> Metadata:
        """What travels in a file that was fitted to labels, before its score is known."""
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
        self,
        network: nn.Module,
        recipe: TrainingRecipe,
        batches: tuple[TrainingBatches, TrainingBatches],
        directory: RunDirectory,
        *,
        watcher: Watcher,
        stop: threading.Event,
    ) -> Outcome:
        """Train a network by training and validation batches; it then has the best weights."""
        from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415  these need PyTorch
        from opsin.training.trainer import fit  # noqa: PLC0415

        self.outcome = outcome = fit(
            network, *batches, recipe,
            classes=len(self.dataset.classes),
            checkpoints=Checkpoints(directory.checkpoints, watcher.note),
            watcher=watcher, stop=stop, start=self.start,
            deadline=self.began + _OVERRUN * (self.budget or math.inf),
        )  # fmt: skip
        self.stopped, self.cause = outcome.stopped, outcome.diverged
        return outcome

    def facts_of_epochs(self, recipe: TrainingRecipe, *, interrupted: bool) -> TrainingFacts:
        """What the report says of a training by epochs."""
        assert self.outcome is not None
        return TrainingFacts(
            best_epoch=self.outcome.best.epoch,
            epochs=self.outcome.last.epoch,
            asked=recipe.epochs,
            stopped=self.outcome.stopped,
            interrupted=interrupted,
            diverged=self.outcome.diverged,
            stepped_back=self.outcome.stepped_back,
            balance=recipe.balance,
            precision=recipe.precision,
        )
