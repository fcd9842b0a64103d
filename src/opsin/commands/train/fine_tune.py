"""A pretrained network's own weights are trained, and kept where that is better."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.commands.train.exported_file import ExportedFile
from opsin.commands.train.learner import OVERRUN
from opsin.commands.train.network import balanced
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from opsin.core.format import clock, counted
from opsin.core.metadata import Layer, Metadata
from opsin.core.platform import keep_freed_memory
from opsin.core.recipe import TrainingRecipe
from opsin.core.storage import write_json
from opsin.data.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from opsin.backbones.backbone import Backbone
    from opsin.classical.backbone_features import BackboneFeatures
    from opsin.classical.backbone_head import HeadChoice
    from opsin.commands.train.network import Start
    from opsin.models.onnx_network import TorchNetwork
    from opsin.training.batches import TrainingBatches
    from opsin.training.trainer import Outcome

# Share of what is left of a budget that epochs are planned with; the evaluation needs the rest.
_PLANNED: Final = 0.85
# Seconds that steps are measured for in a plan, once the first ones are over.
_MEASURED: Final = 0.5
# The most of the frozen features' log loss that a network worth keeping has.
_LOWER: Final = 0.99
# Weights of the head, by their names in the file.
_OF_HEAD: Final = frozenset({"head.weight", "head.bias"})


@dataclass
class FineTuning:
    """The training of a pretrained network's own weights, from a head that fits its features."""

    dataset: Dataset
    #: How; what is decided on the way is filled in.
    recipe: ClassicalRecipe
    #: Training images, ``int64[N]``.
    rows: NDArray[np.int64]
    backbone: Backbone
    #: Returns what travels in a file, from the labels it was fitted to.
    metadata: Callable[[NDArray[np.int64]], Metadata]
    #: When the run began, from which its budget counts (`time.perf_counter`).
    began: float
    start: Start | None = None
    #: How the training went, if there was time for any epoch.
    outcome: Outcome | None = None

    def run(
        self,
        directory: RunDirectory,
        features: NDArray[np.float32],
        choice: HeadChoice,
        watcher: Watcher,
        stop: threading.Event,
    ) -> Backbone | None:
        """Train; return the network with its new weights, if there was time for any epoch."""
        from opsin.backbones.backbone import trainable  # noqa: PLC0415
        from opsin.onnx_files.onnx_graph import OnnxGraph  # noqa: PLC0415
        from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415
        from opsin.training.device import choose_device, isolated_rng, threads_for  # noqa: PLC0415
        from opsin.training.fine_tuning import averaged  # noqa: PLC0415
        from opsin.training.trainer import fit  # noqa: PLC0415

        network, layers = self._network(features[:, :1], choice)
        device, fresh = choose_device(self.training.device), self.start is None
        keep_freed_memory()
        with isolated_rng(device, self.training.seed):
            work = self._decide(network, layers, fresh=fresh)
            with threads_for(work):
                train, val = self._batches(device)
                if fresh:
                    if not self._fits_budget(network, train, val, watcher):
                        return None
                    write_json(directory.recipe, self.recipe.model_dump(mode="json"))
                first = network.weights()
                self.outcome = fit(
                    network,
                    train,
                    val,
                    self.training,
                    classes=len(self.dataset.classes),
                    checkpoints=Checkpoints(directory.checkpoints, watcher.note),
                    watcher=watcher,
                    stop=stop,
                    deadline=self.began + OVERRUN * (self.recipe.budget or math.inf),
                    start=self.start,
                )
                share = averaged(network, first, val, self.training)
                watcher.fact("Weights", f"{share:.0%} of the way from those that it began with")
        before = trainable(self.backbone)
        learnt = {name: value for name, value in network.weights().items() if name not in _OF_HEAD}
        content = OnnxGraph(before.content, layers=()).with_weights(learnt)
        return replace(before, content=content)

    def planned_seconds(self) -> float:
        """Decide what is left open; return about how long the epochs take, from a few steps."""
        from opsin.classical.backbone_head import START, HeadChoice  # noqa: PLC0415
        from opsin.training.budget import time_epoch  # noqa: PLC0415
        from opsin.training.device import choose_device, isolated_rng, threads_for  # noqa: PLC0415

        keep_freed_memory()
        # The time does not depend on what the head has learnt.
        choice = HeadChoice(START, self.backbone.at, ("whole",), None, 0, 0, 1.0)
        size = (len(self.dataset), 1, sum(self.backbone.units))
        network, layers = self._network(np.random.default_rng(0).random(size, np.float32), choice)
        device = choose_device(self.training.device)
        with isolated_rng(device):
            work = self._decide(network, layers, fresh=True)
            with threads_for(work):
                train, val = self._batches(device)
                an_epoch = time_epoch(network, self.training, train, val, seconds=_MEASURED)
        return self.training.epochs * an_epoch

    @property
    def training(self) -> TrainingRecipe:
        """How the epochs are trained."""
        return cast("TrainingRecipe", self.recipe.training)

    def _decided(self, reasons: dict[str, str], **training: object) -> None:
        update = {
            "training": self.training.model_copy(update=training),
            "reasons": self.recipe.reasons | reasons,
        }
        self.recipe = self.recipe.model_copy(update=update)

    def _network(
        self, features: NDArray[np.float32], choice: HeadChoice
    ) -> tuple[TorchNetwork, list[Layer]]:
        """Return the network as it was with logistic regression on its features, and its layers.

        A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
        out-of-distribution", ICLR 2022: a head that fits already leaves the features as they are.
        """
        from opsin.backbones.backbone import trainable  # noqa: PLC0415
        from opsin.classical.backbone_head import START, fit_as  # noqa: PLC0415
        from opsin.classical.fitted_file import Written  # noqa: PLC0415
        from opsin.training.fine_tuning import learning  # noqa: PLC0415

        dataset, backbone = self.dataset, trainable(self.backbone)
        height, width, channels = dataset.images.shape[1:]
        fitted = fit_as(
            replace(choice, head=START, views=("whole",)), backbone, (height, width, channels),
            features, dataset.labels, train=self.rows, val=self.rows[:0],
            classes=len(dataset.classes),
        ).final  # fmt: skip
        written = Written(fitted)
        layers = [
            layer.model_copy(update={"trainable": layer.parameters}) for layer in written.layers
        ]
        facts = cast("BackboneFeatures", fitted.numbers).facts
        metadata = self.metadata(fitted.labels).model_copy(
            update={"layers": tuple(layers), "backbone": facts}
        )
        names = {weight.name for weight in backbone.graph.model.graph.initializer} | _OF_HEAD
        return learning(written.content(metadata), names), layers

    def _decide(self, network: TorchNetwork, layers: list[Layer], *, fresh: bool) -> int:
        """Decide crops, balance, batch size and arithmetic; return the work of a step."""
        from opsin.training.device import choose_device, choose_precision  # noqa: PLC0415
        from opsin.training.fine_tuning import fitting_batch, with_crops  # noqa: PLC0415

        crops = with_crops(self.training, network, self.dataset.images.shape[3])
        self._decided({}, crop_side=crops.crop_side)
        training, reasons = balanced(self.training, self.dataset, self.rows)
        self._decided(reasons, balance=training.balance)
        if fresh:
            size = fitting_batch(self.training, [layer.shape for layer in layers])
            if size < (self.training.micro_batch or self.training.batch_size):
                words = f"{size} images are computed at a time, for which there is room"
                self._decided({"Memory": words}, micro_batch=size)
        work = self.training.batch_size * sum(layer.multiply_adds for layer in layers)
        device = choose_device(self.training.device)
        self._decided({}, precision=choose_precision(self.training.precision, work, device))
        return work

    def _batches(self, device: torch.device) -> tuple[TrainingBatches, TrainingBatches]:
        from opsin.training.batches import TrainingBatches  # noqa: PLC0415

        data = self.dataset
        return (
            TrainingBatches(data.images, data.labels, self.rows, device),
            TrainingBatches(data.images, data.labels, data.split.val, device),
        )

    def _fits_budget(
        self, network: TorchNetwork, train: TrainingBatches, val: TrainingBatches, watcher: Watcher
    ) -> bool:
        """Train as many epochs as fit into what is left, the recipe's own at most, if one does."""
        from opsin.training.fine_tuning import fitting_epochs  # noqa: PLC0415

        if self.recipe.budget is None:
            return True
        left = self.recipe.budget - (time.perf_counter() - self.began)
        seconds = max(1.0, _PLANNED * left)
        epochs, each = fitting_epochs(
            network, self.training, train, val, seconds=seconds, watcher=watcher
        )
        reason = f"{counted(epochs, 'epoch')} of about {clock(each)} fit into what is left of it"
        if each <= seconds:
            watcher.fact("Budget", reason)
        else:
            reason = f"an epoch of fine-tuning takes about {clock(each)}, and {clock(left)} is left"
            watcher.note(f"{reason}: the head on frozen features is delivered")
        self._decided({"Budget": reason}, epochs=epochs)
        return each <= seconds


def is_better(frozen: ExportedFile, tuned: ExportedFile) -> tuple[bool, str]:
    """Tell whether validation says that fine-tuning was better than the frozen features."""
    from opsin.evaluation.calibration import fit_temperature, log_loss_of  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import LOGITS  # noqa: PLC0415  needs onnx

    labels = tuned.dataset.labels[tuned.dataset.split.val]
    right, losses = [], []
    for file in (frozen, tuned):
        logits, shift = file.validation[LOGITS], file.validation_shift
        temperature = fit_temperature(logits, labels, shift)
        right.append((logits / temperature + shift).argmax(axis=1) == labels)
        losses.append(log_loss_of(logits, labels, temperature, shift))
    before, after = right
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    better = gained >= lost and losses[1] < _LOWER * losses[0]
    words = (
        f"{'kept' if better else 'not kept'}: of {len(labels):,} validation images, "
        f"{after.mean():.1%} right in place of {before.mean():.1%} with frozen features "
        f"({gained} gained, {lost} lost), log loss {losses[1]:.3f} in place of {losses[0]:.3f}"
    )
    return better, words if better else f"{words}; the head on frozen features is delivered"
