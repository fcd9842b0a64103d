"""What every training has: it decides, fits, and exports a file."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.commands.import_recipe import AnyRecipe
from opsin.commands.train.class_mix import class_mix
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.events import Watcher
from opsin.core.metadata import Layer, Metadata
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.commands.train.exported_file import ExportedFile
    from opsin.core.recipe import TrainingRecipe
    from opsin.training.trainer import Outcome

#: How many times its budget a training takes at most, if the machine becomes slower than measured.
OVERRUN: Final = 1.1


@dataclass(frozen=True)
class Loaded:
    """What is to be trained on what, as far as it is settled before a learner decides the rest."""

    #: The model's name; ``None`` where it is open.
    model: str | None
    dataset: Dataset
    #: The pretrained network.
    backbone: Backbone | None = None
    #: Seconds or words for the time that is left for the training.
    budget: str | float | None = None
    #: What was decided, and why.
    reasons: dict[str, str] = field(default_factory=dict)
    #: Whether a trial of the pretrained network is still to be made (in a plan).
    is_open: bool = False


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
        """Return the file of what was fitted."""

    @abstractmethod
    def difference(self, file: Classifier, images: NDArray[np.uint8]) -> float | None:
        """Compare the calibrated file with what was fitted; raise `ParityError` if they differ."""

    @abstractmethod
    def facts(self, *, interrupted: bool) -> TrainingFacts:
        """Return what the report says of the training."""

    @property
    @abstractmethod
    def device_name(self) -> str:
        """Where it learns, as a person would say it."""

    def decided(self, **reasons: str) -> None:
        """Keep what was decided, and why."""
        update = {"reasons": self.recipe.reasons | reasons}
        self.recipe = self.recipe.model_copy(update=update)

    def further(self) -> str | None:
        """Return what else could be tried, in words."""
        return None

    def metadata(
        self,
        labels: NDArray[np.int64],
        *,
        balanced: bool = False,
        layers: Sequence[Layer] | None = None,
    ) -> Metadata:
        """Return what travels in a file that was fitted to labels, before its score is known."""
        recipe, dataset = self.recipe, self.dataset
        return Metadata(
            opsin=__version__,
            model=recipe.model.name,
            classes=dataset.classes,
            preparation=dataset.preparation,
            layers=tuple(self.layers if layers is None else layers),
            source=recipe.data.source_names,
            fingerprint=dataset.fingerprint,
            class_mix=class_mix(recipe.training.class_mix, dataset, labels, balanced=balanced),
        )


def facts_of(outcome: Outcome, recipe: TrainingRecipe, *, interrupted: bool) -> TrainingFacts:
    """Return what the report says of a training by epochs."""
    return TrainingFacts(
        best_epoch=outcome.best.epoch,
        epochs=outcome.last.epoch,
        asked=recipe.epochs,
        stopped=outcome.stopped,
        interrupted=interrupted,
        diverged=outcome.diverged,
        stepped_back=outcome.stepped_back,
        balance=recipe.balance,
        precision=recipe.precision,
    )
