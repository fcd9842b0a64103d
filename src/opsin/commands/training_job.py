"""One training from a dataset to the report, however it was begun."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.commands.calibrate import Draft
from opsin.commands.class_mix import in_words
from opsin.commands.conclude import conclude, metadata_of
from opsin.commands.installed import answering_device, versions
from opsin.commands.recorder import Recorder
from opsin.commands.resolve_recipe import ResolvedRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report, TrainingFacts
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    import torch
    from torch import nn

    from opsin.training.checkpoint import Tensors, TrainingState
    from opsin.training.trainer import Outcome

    #: The state to go on from.
    Start = tuple[Tensors, TrainingState]


@dataclass(frozen=True)
class TrainingJob:
    """All that a training needs, checked before anything is written."""

    dataset: Dataset
    audit: Audit
    recipe: Recipe
    network: nn.Sequential
    layers: list[Layer]
    device: torch.device
    #: Multiply-adds of one forward pass over a batch.
    work: int
    #: The processes that train it.
    group: ProcessGroup = ALONE

    @classmethod
    def prepare(
        cls, dataset: Dataset, audited: Audit, decided: ResolvedRecipe, group: ProcessGroup = ALONE
    ) -> TrainingJob:
        """Build the network with fresh weights, choose the device, and see that all has room."""
        from opsin.models import build_network  # noqa: PLC0415
        from opsin.models.statistics import statistics_of  # noqa: PLC0415
        from opsin.training.device import choose_device, settle_precision  # noqa: PLC0415
        from opsin.training.memory import fit_memory  # noqa: PLC0415
        from opsin.training.torch_to_onnx import check_exportable  # noqa: PLC0415

        recipe = decided.recipe.model_copy(update={"versions": versions()})
        reasons = recipe.reasons | {"Class mix": in_words(recipe.training.class_mix, dataset)}
        recipe = recipe.model_copy(update={"reasons": reasons})

        answering_device(recipe)  # refuses what is not there, as the next line does
        device = choose_device(recipe.training.device)
        height, width, channels = dataset.images.shape[1:]
        shape = (height, width, channels)
        side = recipe.training.crop_side
        if side is not None and (side, side) != (height, width):
            raise RecipeError(
                f"crops in the size of the images, {height}×{width}, for a network trained from "
                "scratch",
                f"got --crop-side {side}",
                "Leave it out.",
            )
        statistics = statistics_of(dataset.images, dataset.split.train)
        network = build_network.build(
            recipe.model, shape, len(dataset.classes), statistics=statistics
        )
        check_exportable(network)
        layers = build_network.summarise(network, shape)
        images = (len(dataset.split.train) + len(dataset.split.val)) * math.prod(shape)
        recipe, note = fit_memory(
            recipe, layers, device=device, images=images, processes=group.world,
            given=decided.given,
        )  # fmt: skip
        if note:
            recipe = recipe.model_copy(update={"reasons": recipe.reasons | {"Memory": note}})
        recipe, work = group.first(settle_precision(recipe, layers, device))
        return cls(dataset, audited, recipe, network, layers, device, work, group)

    @property
    def device_name(self) -> str:
        """Where it trains, as a person would say it."""
        from opsin.training.device import describe_device  # noqa: PLC0415

        where = describe_device(self.device)
        if self.recipe.training.precision == "bfloat16":
            where += ", bfloat16"
        if self.group.world > 1:
            where = f"{self.group.world} processes, {where}"
        return where if self.answers_on == CPU else f"{where}; answers on {self.answers_on}"

    @property
    def answers_on(self) -> str:
        """Where ONNX Runtime computes."""
        return answering_device(self.recipe)


def make(
    directory: RunDirectory,
    job: TrainingJob,
    recorder: Recorder,
    *,
    seconds: dict[str, float],
    stop: threading.Event,
    start: Start | None,
) -> Report:
    """Train, export, evaluate the file and write the report; note how long each took.

    Args:
        directory: The run.
        job: What to train on what.
        recorder: Keeps its history.
        seconds: Is filled with the time of each part.
        stop: Ends the training early.
        start: The state to go on from; ``None`` for fresh weights.
    """
    outcome = train_network(directory, job, recorder, stop, start)
    recorder.stopped, recorder.cause = outcome.stopped, outcome.diverged
    seconds["train"] = outcome.seconds
    at = time.perf_counter()
    recorder.doing("the export")
    draft = Draft(directory, job.dataset, _export(job), recorder, device=job.answers_on)
    seconds["export"] = time.perf_counter() - at
    training = TrainingFacts(
        best_epoch=outcome.best.epoch,
        epochs=outcome.last.epoch,
        asked=job.recipe.training.epochs,
        stopped=outcome.stopped,
        interrupted=stop.is_set(),
        diverged=outcome.diverged,
        stepped_back=outcome.stepped_back,
        balance=job.recipe.training.balance,
        precision=job.recipe.training.precision,
    )

    def difference(file: Classifier, images: NDArray[np.uint8]) -> float:
        from opsin.training.torch_to_onnx import check_parity  # noqa: PLC0415  PyTorch

        return check_parity(file, job.network, images)

    return conclude(draft, job, recorder, difference=difference, training=training, seconds=seconds)


def follow(job: TrainingJob, start: Start | None) -> Path:
    """Train together with the process that writes the run; return its directory once it is done."""
    from opsin.training.device import threads_for  # noqa: PLC0415  PyTorch
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415

    directory = RunDirectory(job.group.first(Path()))
    with threads_for(job.work), graceful_interrupt() as stop:
        train_network(directory, job, SILENT, stop, start)
    job.group.wait()
    return directory.path


def train_network(
    directory: RunDirectory,
    job: TrainingJob,
    watcher: Watcher,
    stop: threading.Event,
    start: Start | None,
) -> Outcome:
    """Train the network, which then holds the best epoch's weights; keep only its checkpoints."""
    from opsin.training.batches import TrainingBatches  # noqa: PLC0415
    from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415
    from opsin.training.trainer import fit  # noqa: PLC0415

    data = job.dataset
    return fit(
        job.network,
        TrainingBatches(data.images, data.labels, data.split.train, job.device, job.group),
        TrainingBatches(data.images, data.labels, data.split.val, job.device, job.group),
        job.recipe.training,
        classes=len(data.classes),
        checkpoints=Checkpoints(directory.checkpoints, watcher.note),
        watcher=watcher,
        stop=stop,
        start=start,
    )


def _export(job: TrainingJob) -> bytes:
    from opsin.training.torch_to_onnx import to_onnx  # noqa: PLC0415

    balanced = job.recipe.training.balance in ("weights", "sampling")
    labels = job.dataset.labels[job.dataset.split.train]
    return to_onnx(job.network, metadata_of(job, labels, balanced=balanced))
