"""A network that is trained from its first weights, or goes on from a checkpoint."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from opsin.commands.train.automatic import choose
from opsin.commands.train.calibrate import ExportedFile
from opsin.commands.train.learner import Learner, Loaded, answering_device, versions
from opsin.commands.train.words import MIRRORED, class_mix_in_words
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import clock, seconds_of
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.data.dataset import Dataset
from opsin.models import build_network
from opsin.models.resolve import resolve
from opsin.models.statistics import statistics_of
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU
from opsin.training.batches import TrainingBatches
from opsin.training.budget import fit_budget, measure_epoch
from opsin.training.device import (
    choose_device,
    choose_precision,
    describe_device,
    has_quick_bfloat16,
    isolated_rng,
    threads_for,
    work_of,
)
from opsin.training.memory import estimate, fit_memory
from opsin.training.optimizers import rate_at
from opsin.training.process_group import ALONE, ProcessGroup
from opsin.training.sampling import choose_balance
from opsin.training.torch_to_onnx import check_exportable, check_parity, to_onnx

if TYPE_CHECKING:
    from opsin.commands.train.learner import Start

# Points of the learning-rate curve in a plan, and seconds for which its steps are measured, once
# the first ones are over.
_POINTS, _MEASURED = 100, 0.5


class NetworkLearner(Learner):
    """A network of Opsin's own."""

    network: nn.Sequential
    device: torch.device
    #: Multiply-adds of one forward pass over a batch.
    work: int
    recipe: Recipe
    #: Seconds of an epoch, where a budget made them known.
    epoch_seconds: float | None = None
    group = ALONE

    def __init__(self, dataset: Dataset, recipe: Recipe, *, start: Start | None = None) -> None:
        self.dataset, self.recipe, self.layers, self.start = dataset, recipe, [], start

    @classmethod
    def decide(
        cls, loaded: Loaded, options: Mapping[str, object], watcher: Watcher
    ) -> NetworkLearner:
        """Choose network, size, epochs and balance where they were not given."""
        began, dataset = time.perf_counter(), loaded.dataset
        seconds = None if loaded.budget is None else seconds_of(loaded.budget)
        requested = {key: value for key, value in options.items() if value is not None}
        named, mirrored = None if loaded.model == "auto" else loaded.model, dataset.mirrored
        # Refuses an unknown option before any of them is used.
        recipe = resolve(dataset.recipe, model=named, mirrored=mirrored, **requested)
        device = choose_device(recipe.training.device)
        reasons = dict(loaded.reasons)
        if named is None:
            quick = recipe.training.precision != "float32" and has_quick_bfloat16(device)
            labels = dataset.labels[dataset.split.train]
            choice = choose(
                shape=dataset.images.shape[1:],
                counts=np.bincount(labels, minlength=len(dataset.classes)).tolist(),
                mirrored=mirrored, device=device.type, quick=quick, requested=requested,
            )  # fmt: skip
            if seconds is None:  # with a budget, its network and its epochs are the ones that hold
                reasons["Auto"] = choice.reason
            recipe = resolve(
                dataset.recipe, model=choice.model, mirrored=mirrored, **choice.options
            )
        if recipe.training.flip and not mirrored:
            watcher.note(MIRRORED)
        recipe, epoch_seconds = with_balance(recipe, dataset), None
        if seconds is not None:
            recipe, chosen, epoch_seconds = fit_budget(
                seconds, recipe, dataset, device=device, given=requested, watcher=watcher
            )
            reasons["Budget"] = f"{clock(seconds)} · {chosen}"
        recipe = recipe.model_copy(update={"reasons": reasons | recipe.reasons})
        learner = cls(dataset, recipe)
        learner.began, learner.budget, learner.epoch_seconds = began, seconds, epoch_seconds
        return learner

    @contextlib.contextmanager
    def ready(self, group: ProcessGroup = ALONE) -> Iterator[None]:
        """Build the network with fresh weights, and see that all has room."""
        self.group = group
        self.recipe = group.first(self.recipe)  # a budget is measured by the clock
        self.device = choose_device(self.recipe.training.device)
        with isolated_rng(self.device, self.recipe.training.seed):
            self._build()
            group.wait()  # until every process has read what it goes on from
            with threads_for(self.work):
                yield

    def _build(self) -> None:
        dataset = self.dataset
        self.recipe = self.recipe.model_copy(update={"versions": versions()})
        self.decided(**{"Class mix": class_mix_in_words(self.recipe.training.class_mix, dataset)})
        answering_device(self.recipe)
        height, width, channels = dataset.images.shape[1:]
        shape, side = (height, width, channels), self.recipe.training.crop_side
        if side is not None and (side, side) != (height, width):
            raise RecipeError(
                f"--crop-side {side} is for fine-tuning: a network trained from scratch takes "
                f"crops in the size of the images, {height}×{width}"
            )
        statistics = statistics_of(dataset.images, dataset.split.train)
        self.network = build_network.build(
            self.recipe.model, shape, len(dataset.classes), statistics=statistics
        )
        check_exportable(self.network)
        self.layers = build_network.summarise(self.network, shape)
        images = len(dataset.split.train) + len(dataset.split.val)
        self.recipe, note = fit_memory(
            self.recipe, self.layers, device=self.device,
            image_bytes=images * math.prod(shape), fixed=self.start is not None,
        )  # fmt: skip
        if note:
            self.decided(Memory=note)
        self.work = work_of(self.recipe.training, self.layers)
        precision = choose_precision(self.recipe.training.precision, self.work, self.device)
        self.recipe = self.group.first(self.recipe.with_training(precision=precision))

    def planned(self) -> dict[str, object]:
        """Its time, memory and learning rates, with some steps measured."""
        training = self.recipe.training
        # What was measured for a budget is not measured again: a plan says one time.
        an_epoch = self.epoch_seconds or measure_epoch(
            self.recipe, self.dataset, self.device, seconds=_MEASURED
        )
        steps = [point / (_POINTS - 1) for point in range(_POINTS)]
        return {
            "seconds": training.epochs * an_epoch,
            "memory": estimate(self.recipe, self.layers, gpu=self.device.type != "cpu"),
            "rates": tuple((step, rate_at(training, step)) for step in steps),
        }

    def fit(self, directory: RunDirectory, watcher: Watcher, stop: threading.Event) -> float:
        """Train the network, which then holds the best epoch's weights."""
        data = self.dataset
        train, val = (
            TrainingBatches(data.images, data.labels, rows, self.device, self.group)
            for rows in (data.split.train, data.split.val)
        )
        return self.train_epochs(
            self.network, self.recipe.training, (train, val), directory, watcher=watcher, stop=stop
        ).seconds

    def export(self, directory: RunDirectory, watcher: Watcher) -> ExportedFile:
        """The network as ONNX."""
        labels = self.dataset.labels[self.dataset.split.train]
        balanced = self.recipe.training.balance in ("weights", "sampling")
        content = to_onnx(self.network, self.metadata(labels, balanced=balanced))
        device = answering_device(self.recipe)
        return ExportedFile(directory.classifier, self.dataset, content, watcher, device=device)

    def difference(self, file: Classifier, images: NDArray[np.uint8]) -> float:
        """Compare the file with PyTorch."""
        return check_parity(file, self.network, images)

    def facts(self, *, interrupted: bool) -> TrainingFacts:
        """How the epochs went."""
        return self.facts_of_epochs(self.recipe.training, interrupted=interrupted)

    @property
    def device_name(self) -> str:
        """Where PyTorch computes, and ONNX Runtime where that is elsewhere."""
        where, answers_on = describe_device(self.device), answering_device(self.recipe)
        if self.recipe.training.precision == "bfloat16":
            where += ", bfloat16"
        if self.group.world > 1:
            where = f"{self.group.world} processes, {where}"
        return where if answers_on == CPU else f"{where}; answers on {answers_on}"


def with_balance(recipe: Recipe, dataset: Dataset) -> Recipe:
    """A recipe that says whether rare classes count more."""
    training, reasons = balanced(recipe.training, dataset, dataset.split.train)
    update = {"training": training, "reasons": recipe.reasons | reasons}
    return recipe.model_copy(update=update)


def balanced(
    recipe: TrainingRecipe, dataset: Dataset, rows: NDArray[np.int64]
) -> tuple[TrainingRecipe, dict[str, str]]:
    """Whether rare classes count more, by the classes of training images, and why."""
    if recipe.balance != "auto":
        return recipe, {}
    counts = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    balance, reason = choose_balance(counts)
    reasons = {} if balance == "none" else {"Balance": reason}
    return recipe.model_copy(update={"balance": balance}), reasons
