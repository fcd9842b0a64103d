"""A pretrained network's own weights are trained, and kept where that is better."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch

from opsin.backbones.backbone import Backbone, trainable
from opsin.classical.backbone_head import START, ChosenHead, HeadChoice, fit_as
from opsin.classical.fitted_file import Written
from opsin.commands.train.calibrate import ExportedFile
from opsin.commands.train.head import HeadLearner
from opsin.commands.train.learner import Learner
from opsin.core.arrays import Floats, Ints
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.format import clock, counted
from opsin.core.metadata import Layer
from opsin.core.platform import keep_freed_memory
from opsin.core.storage import write_json
from opsin.evaluation.calibration import fit_temperature, log_loss_of
from opsin.models.onnx_network import TorchNetwork
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import LOGITS
from opsin.training.batches import TrainingBatches, with_balance
from opsin.training.budget import time_epoch
from opsin.training.device import (
    choose_device,
    choose_precision,
    fine_tuned_at_once,
    isolated_rng,
    threads_for,
    work_of,
)
from opsin.training.fine_tuning import averaged, learning, with_crops

if TYPE_CHECKING:
    from opsin.classical.backbone_head import BackboneFeatures

# Share of what is left of a budget that epochs are planned with; the evaluation needs the rest.
_PLANNED: Final = 0.85
# Seconds that steps are measured for: in a plan, and for a budget.
_MEASURED, _MEASURED_FOR_BUDGET = 0.5, 3.0
# The most of the frozen features' log loss that a network worth keeping has.
_LOWER: Final = 0.99
# Weights of the head, by their names in the file.
_OF_HEAD: Final = frozenset({"head.weight", "head.bias"})


class FineTuneLearner(HeadLearner):
    """A head that fits, then a training of all weights from it (Kumar et al., arXiv:2202.10054)."""

    backbone: Backbone
    tuned: bool = False  # whether the network with its new weights is delivered

    def improve(self) -> None:
        """Fine-tune, refit the chosen head, and keep both if validation says they are better."""
        if self.start is None and self.seconds_left <= 0:
            self.watcher.note("the budget is spent: the head on frozen features is delivered")
            return
        dataset, choice = self.dataset, self.choice
        backbone = self._train()
        if backbone is not None:
            images, digests = dataset.images, dataset.digests
            self.features = self.features_of(backbone, images, digests, choice.views, kept=False)
            chosen = self._head_on(backbone, self.features, choice, self.also)
            tuned, layers = self.file_of(chosen.final, chosen.held_out)
            self.tuned, words = _is_better(self.exported, tuned)
            self.watcher.fact("Fine-tune", words)
            self.decided(**{"Fine-tune": words})
            if self.tuned:
                self.exported, self.fitted, self.layers = tuned, chosen.final, _learning(layers)
        write_json(self.directory.recipe, self.recipe.model_dump(mode="json"))

    def _train(self) -> Backbone | None:
        """The network with its new weights; ``None`` without time for an epoch."""
        dataset, features = self.dataset, self.features
        if len(self.choice.views) > 1:  # it is trained on one
            features = self.features_of(self.backbone, dataset.images, dataset.digests, ("whole",))
        fresh = self.start is None
        with self._network(features, self.choice, fresh=fresh) as (network, train, val):
            if fresh:
                if not self._fits_budget(network, train, val):
                    return None
                write_json(self.directory.recipe, self.recipe.model_dump(mode="json"))
            first = network.weights()
            self.train_epochs(network, train, val)
            share = averaged(network, first, val, self.training)
        self.watcher.fact("Weights", f"{share:.0%} of the way from those that it began with")
        before = trainable(self.backbone)
        learnt = {name: value for name, value in network.weights().items() if name not in _OF_HEAD}
        content = OnnxGraph(before.content, layers=()).with_weights(learnt)
        return replace(before, content=content)

    def planned(self) -> dict[str, object]:
        """The seconds of frozen features and epochs: decides what is open, measures some steps."""
        # The time does not depend on what the head has learnt.
        choice = HeadChoice(head=START, at=self.backbone.at, views=("whole",))
        size = (len(self.dataset), sum(self.backbone.units))
        features = np.random.default_rng(0).random(size, np.float32)
        with self._network(features, choice, fresh=True) as (network, train, val):
            an_epoch = time_epoch(network, self.training, train, val, seconds=_MEASURED)
        seconds = cast("float", super().planned()["seconds"]) + self.training.epochs * an_epoch
        return {"seconds": min(seconds, self.budget or math.inf)}

    def _settle(self, reasons: dict[str, str] | None = None, **training: object) -> None:
        self.decided(**(reasons or {}))
        update = {"training": self.training.model_copy(update=training)}
        self.recipe = self.recipe.model_copy(update=update)

    def _head_on(
        self, backbone: Backbone, features: Floats, choice: HeadChoice, also: Ints
    ) -> ChosenHead:
        labels, rows, classes = self.dataset.labels, self.rows, len(self.dataset.classes)
        return fit_as(
            choice, backbone, self.shape, features, labels, train=rows, val=also, classes=classes
        )

    @contextlib.contextmanager
    def _network(
        self, features: Floats, choice: HeadChoice, *, fresh: bool
    ) -> Iterator[tuple[TorchNetwork, TrainingBatches, TrainingBatches]]:
        """The frozen network with logistic regression on its features, and its batches."""
        data, backbone = self.dataset, trainable(self.backbone)
        choice = replace(choice, head=START, views=("whole",))
        fitted = self._head_on(backbone, features, choice, self.rows[:0]).final
        written = Written(fitted)
        layers = _learning(written.layers)
        facts = cast("BackboneFeatures", fitted.numbers).facts
        metadata = self.metadata(fitted.labels, layers=layers)
        content = written.content(metadata.model_copy(update={"backbone": facts}))
        names = {weight.name for weight in backbone.graph.model.graph.initializer} | _OF_HEAD
        network, device = learning(content, names), choose_device(self.training.device)
        keep_freed_memory()
        with (
            isolated_rng(device, self.training.seed),
            threads_for(self._decide(network, layers, device, fresh=fresh)),
        ):
            train = TrainingBatches(data.images, data.labels, self.rows, device)
            val = TrainingBatches(data.images, data.labels, data.split.val, device)
            yield network, train, val

    def _decide(
        self, network: TorchNetwork, layers: list[Layer], device: torch.device, *, fresh: bool
    ) -> int:
        """Decide crops, balance, batch size and arithmetic; return the work of a step."""
        crops = with_crops(self.training, network, self.dataset.images.shape[3])
        labels, classes = self.dataset.labels[self.rows], len(self.dataset.classes)
        training, reasons = with_balance(self.training, labels, classes)
        self._settle(reasons, crop_side=crops.crop_side, balance=training.balance)
        if fresh:
            size = fine_tuned_at_once(self.training, layers)
            if size < (self.training.micro_batch or self.training.batch_size):
                words = f"{size} images are computed at a time, for which there is room"
                self._settle({"Memory": words}, micro_batch=size)
        work = work_of(self.training, layers)
        self._settle(precision=choose_precision(self.training.precision, work, device))
        return work

    def _fits_budget(
        self, network: TorchNetwork, train: TrainingBatches, val: TrainingBatches
    ) -> bool:
        """Cut the epochs to what is left of the budget; whether at least one fits."""
        if self.budget is None:
            return True
        left = self.seconds_left
        seconds = max(1.0, _PLANNED * left)
        self.watcher.doing("measuring for the budget")
        an_epoch = time_epoch(
            copy.deepcopy(network),
            self.training,
            train,
            val,
            seconds=min(_MEASURED_FOR_BUDGET, 0.02 * seconds),
        )
        epochs = max(1, min(self.training.epochs, int(seconds / an_epoch)))
        takes = f"about {clock(an_epoch)}"
        reason = f"{counted(epochs, 'epoch')} of {takes} fit into what is left of it"
        if an_epoch <= seconds:
            self.watcher.fact("Budget", reason)
        else:
            reason = f"an epoch of fine-tuning takes {takes}, and {clock(left)} is left"
            self.watcher.note(f"{reason}: the head on frozen features is delivered")
        self._settle({"Budget": reason}, epochs=epochs)
        return an_epoch <= seconds

    def facts(self) -> TrainingFacts:
        """The epochs, or the fitting where frozen features were better."""
        return Learner.facts(self) if self.tuned else super().facts()


def _learning(layers: list[Layer]) -> list[Layer]:
    return [layer.model_copy(update={"trainable": layer.parameters}) for layer in layers]


def _is_better(frozen: ExportedFile, tuned: ExportedFile) -> tuple[bool, str]:
    """Whether validation says that fine-tuning was better than the frozen features, in words."""
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
