"""One training from a dataset to the report, however it was begun."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.classical.classical_recipe import FITTED
from opsin.commands.changes import write_images
from opsin.commands.choose_views import try_views
from opsin.commands.class_mix import class_mix, in_words
from opsin.commands.evaluate import RunEvaluation, evaluate_run
from opsin.commands.find_failures import find_failures
from opsin.commands.finish import Draft, calibrate, uncalibrated
from opsin.commands.import_recipe import AnyRecipe
from opsin.commands.recorder import Recorder
from opsin.commands.resolve_recipe import ResolvedRecipe
from opsin.commands.test_set_usage import count_looks, key_of, leaks_of
from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import (
    FileFacts,
    Report,
    ReportedFinding,
    TrainingFacts,
    ViewsFacts,
)
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Layer, Metadata, Views
from opsin.core.recipe import Recipe
from opsin.core.storage import write_json
from opsin.data.audit import Audit
from opsin.data.cache import short_digest
from opsin.data.corrections import write_corrections
from opsin.data.dataset import Dataset
from opsin.data.thin_parts import thin_parts
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    import torch
    from torch import nn

    from opsin.training.checkpoint import Tensors, TrainingState
    from opsin.training.trainer import Outcome

    #: The state to go on from.
    Start = tuple[Tensors, TrainingState]

# Images that the file and the network, or scikit-learn's model, are compared on.
_PARITY_IMAGES: Final = 512
_PARITY_KNOWN: Final = 24
#: Looked for before anything is done, not missed at the end of an hour's training.
_FOR_ALL: Final = ("onnx", "sklearn", "scipy", "matplotlib", "jinja2")
_FOR_NETWORKS: Final = ("torch", "safetensors")


def need_training(model: str | None = None) -> None:
    """Look for all that training needs.

    Args:
        model: The model's name; ``None`` for a network.

    Raises:
        MissingExtraError: A part of it is not installed.
    """
    if model in FITTED:
        if not all(map(_is_installed, _FOR_ALL)):
            raise MissingExtraError("models without layers", "classical")
    elif not all(map(_is_installed, (*_FOR_ALL, *_FOR_NETWORKS))):
        raise MissingExtraError("training", "train")


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
        balanced = recipe.training.balance in ("weights", "sampling")
        mix = class_mix(recipe.training.class_mix, dataset, balanced=balanced)
        if mix is not None:
            reasons = recipe.reasons | {"Class mix": in_words(mix, dataset.classes)}
            recipe = recipe.model_copy(update={"reasons": reasons})

        device = choose_device(recipe.training.device)
        height, width, channels = dataset.images.shape[1:]
        shape = (height, width, channels)
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
        return f"{self.group.world} processes, {where}" if self.group.world > 1 else where


class Made(Protocol):
    """What every run is made of, whatever kind of model."""

    @property
    def dataset(self) -> Dataset:
        """What it learns from."""

    @property
    def audit(self) -> Audit:
        """What is wrong with the images."""

    @property
    def recipe(self) -> AnyRecipe:
        """How it learns."""

    @property
    def layers(self) -> list[Layer]:
        """What the model is made of."""

    @property
    def device_name(self) -> str:
        """Where it learns, as a person would say it."""


def metadata_of(job: Made, *, balanced: bool = False) -> Metadata:
    """Return what travels in the file, before its score is known.

    Args:
        job: What was trained on what.
        balanced: Whether the model learnt each class as if all were equally common.
    """
    return Metadata(
        opsin=__version__,
        model=job.recipe.model.name,
        classes=job.dataset.classes,
        preparation=job.dataset.preparation,
        layers=tuple(job.layers),
        source=job.recipe.data.source,
        fingerprint=job.dataset.fingerprint,
        class_mix=class_mix(job.recipe.training.class_mix, job.dataset, balanced=balanced),
    )


def write_request(directory: RunDirectory, job: Made) -> None:
    """Write what was asked for, and of which images, before the training begins."""
    write_json(directory.recipe, job.recipe.model_dump(mode="json"))
    split = {part: job.dataset.split.rows(part) for part in ("train", "val", "test")}
    digests = short_digest(job.dataset.digests)
    found = {"findings": job.audit.counts(), "test_set": key_of(digests, split["test"])}
    job.dataset.describe().model_copy(update=found).write(directory.path)
    directory.save_arrays(directory.split, digests=digests, **split)
    write_images(directory, job.dataset)
    if job.dataset.corrected:
        write_corrections(directory.corrections, job.dataset.corrected.rows)


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
    outcome = _train(directory, job, recorder, stop, start)
    recorder.stopped, recorder.cause = outcome.stopped, outcome.diverged
    seconds["train"] = outcome.seconds
    at = time.perf_counter()
    recorder.doing("the export")
    draft = Draft(directory, job.dataset, _export(job), recorder)
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


def conclude(
    draft: Draft,
    job: Made,
    recorder: Recorder,
    *,
    difference: Callable[[Classifier, NDArray[np.uint8]], float] | None,
    training: TrainingFacts,
    seconds: dict[str, float],
    calibrated: bool = True,
) -> Report:
    """Calibrate, check and evaluate a run's file, write it once, and write the report.

    Args:
        draft: The file as it was exported.
        job: What was trained on what.
        recorder: Keeps its history.
        difference: Compares the calibrated file with what was trained, on real images, before
            the test set is looked at; raises `ParityError` where they differ. ``None``: there is
            nothing to compare it with.
        training: How the training went.
        seconds: The time of each part so far; is filled with that of the rest.
        calibrated: Whether it is calibrated; else its answers stay as they are.
    """
    from opsin.commands.report import draw_run, spared  # noqa: PLC0415  needs matplotlib
    from opsin.onnx_files.postprocessing import finished  # noqa: PLC0415  needs onnx

    at = time.perf_counter()
    recorder.doing("the evaluation")
    directory, dataset = draft.directory, job.dataset
    made = calibrate(draft) if calibrated else uncalibrated(draft)
    file = made.classifier
    # What is known of all images has been computed once by the file's own operators.
    facts = FileFacts()
    if difference is not None:
        most = _PARITY_IMAGES if made.known is None else _PARITY_KNOWN
        rows = np.sort(np.concatenate([dataset.split.val, dataset.split.train])[:most])
        apart = difference(file, dataset.images[rows])
        facts = FileFacts(parity_images=len(rows), difference=apart)
    evaluation = evaluate_run(directory, file, made.validation, dataset, recorder, known=made.known)
    views = try_views(file, made.validation, dataset, _views_of(job.recipe), recorder)
    metadata = file.metadata.model_copy(update={"score": evaluation.score, "views": views})
    content = finished(file.content, metadata)
    write_classifier(directory.classifier, content)
    seconds["evaluate"] = time.perf_counter() - at
    at = time.perf_counter()
    recorder.doing("the report")
    report = _report(job, training, evaluation, metadata, seconds).model_copy(update={
        "file": facts.model_copy(update={"bytes": len(content)}),
        "looks": count_looks(directory, directory.read(DatasetRecord).test_set),
        "failures": find_failures(dataset, evaluation.predictions, evaluation.split, recorder),
    })  # fmt: skip
    with spared("the report's page", recorder):
        draw_run(directory, report, dataset, evaluation.predictions, recorder)
    seconds["report"] = time.perf_counter() - at
    report = report.model_copy(update={"seconds": seconds})
    report.write(directory.path)
    return report


def _report(
    job: Made,
    training: TrainingFacts,
    evaluation: RunEvaluation,
    metadata: Metadata,
    seconds: dict[str, float],
) -> Report:
    """Return what is known of a run without another look at its images and files."""
    layers, views = job.layers, metadata.views
    return Report(
        opsin=__version__,
        parent=job.recipe.parent,
        reasons=job.recipe.reasons,
        source=job.recipe.data.source,
        model=job.recipe.model.name,
        dataset=job.dataset.summary(),
        split=evaluation.split,
        figures=dict(evaluation.figures),
        leaks=leaks_of(job.dataset),
        rests_on=thin_parts(job.dataset),
        unreadable=len(job.dataset.unreadable),
        findings=[
            ReportedFinding(count=finding.count, title=finding.title, opsin=finding.opsin)
            for finding in job.audit.findings
        ],
        training=training.model_copy(
            update={
                "device": job.device_name,
                "parameters": sum(layer.parameters for layer in layers),
                "trainable": sum(layer.trainable for layer in layers),
                "multiply_adds": sum(layer.multiply_adds for layer in layers),
            }
        ),
        calibration=metadata.calibration,
        reject=metadata.reject,
        views=None if views is None else ViewsFacts(**views.model_dump(), words=views.words),
        layers=layers,
        seconds=dict(seconds),
    )


def _views_of(recipe: AnyRecipe) -> Views:
    """Return how a training mirrors and moves images."""
    if isinstance(recipe, Recipe):
        return Views(flip=recipe.training.flip, shift=recipe.training.shift)
    return Views(flip=False, shift=0)


def follow(job: TrainingJob, start: Start | None) -> Path:
    """Train together with the process that writes the run; return its directory once it is done."""
    from opsin.training.device import threads_for  # noqa: PLC0415  PyTorch
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415

    directory = RunDirectory(job.group.first(Path()))
    with threads_for(job.work), graceful_interrupt() as stop:
        _train(directory, job, SILENT, stop, start)
    job.group.wait()
    return directory.path


def _train(
    directory: RunDirectory,
    job: TrainingJob,
    watcher: Watcher,
    stop: threading.Event,
    start: Start | None,
) -> Outcome:
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
    return to_onnx(job.network, metadata_of(job, balanced=balanced))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was made impossible to import
        return False


def versions(*names: str) -> dict[str, str]:
    """Return the versions of the packages that decide what comes out.

    Args:
        *names: The packages (default: those that a network is trained with).
    """
    names = names or ("torch", "onnx", "onnxruntime", "numpy", "pillow")
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
