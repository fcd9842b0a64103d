"""A model without layers, from a dataset to the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import ClassicalRecipe, resolve_classical
from opsin.commands.finish import Draft
from opsin.commands.recorder import Recorder, recorded
from opsin.commands.runs import Run
from opsin.commands.training_job import conclude, metadata_of, versions, write_request
from opsin.commands.training_summary import tell_end, tell_images, tell_model, tell_place
from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report, TrainingFacts
from opsin.core.defaults import cores
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.metadata import Layer
from opsin.data.audit import Audit, audit
from opsin.data.dataset import Dataset

if TYPE_CHECKING:
    from opsin.classical.fit import Fitted

# Training images that figures are computed on, where a model has no steps of its own.
_SAMPLE: Final = 2_000


@dataclass(frozen=True)
class ClassicalJob:
    """All that a fitting needs, checked before anything is written."""

    dataset: Dataset
    audit: Audit
    recipe: ClassicalRecipe
    #: Training images that it is fitted to, ``int64[N]``.
    rows: NDArray[np.int64]
    #: Known once it is fitted.
    layers: list[Layer]
    threads: int

    @classmethod
    def prepare(cls, dataset: Dataset, audited: Audit, recipe: ClassicalRecipe) -> ClassicalJob:
        """Choose the images, and see that there is something to tell apart.

        Raises:
            RecipeError: There is one class only, or a class without training images.
        """
        from opsin.classical.pixels import Pooling, drawn  # noqa: PLC0415  stays quick to import

        train = dataset.split.train
        rows = drawn(train, dataset.labels[train], recipe.model.images, recipe.training.seed)
        missing = set(range(len(dataset.classes))) - set(dataset.labels[rows].tolist())
        if missing or len(dataset.classes) < 2:
            received = "there is one class only"
            if missing:
                received = f"class {dataset.classes[min(missing)]!r} has none"
            raise RecipeError(
                "training images of two classes or more", received, "Add images, or a class."
            )
        reasons = dict(recipe.reasons)
        if len(rows) < len(train):
            reasons["Images"] = (
                f"{len(rows):,} of {len(train):,} training images, each class at its share; "
                f"for more: --images {len(train)}"
            )
        height, width, channels = dataset.images.shape[1:]
        pooling = Pooling.to_fit((height, width, channels), recipe.model.side)
        if pooling.factor > 1:
            _, rows_left, columns_left = pooling.shape
            reasons["Pixels"] = (
                f"{height}×{width} averaged down to {rows_left}×{columns_left}; for all of them: "
                f"--side {max(height, width)}"
            )
        packages = ("scikit-learn", "onnx", "onnxruntime", "numpy", "pillow")
        recipe = recipe.model_copy(update={"reasons": reasons, "versions": versions(*packages)})
        return cls(dataset, audited, recipe, rows, [], cores())

    @property
    def device_name(self) -> str:
        """Where it is fitted, as a person would say it."""
        return f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}"


def train_classical(
    directory_of: Callable[[], RunDirectory],
    dataset: Dataset,
    *,
    model: str,
    options: Mapping[str, Any],
    watcher: Watcher,
    began: float,
) -> Run:
    """Fit a model without layers in a run directory.

    Args:
        directory_of: Makes the directory, once everything else is known to be usable.
        dataset: What it learns from.
        model: A name among `opsin.classical.classical_recipe.MODELS`.
        options: The model's own, and ``seed``.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).

    Raises:
        RecipeError: An option that the model does not have, or an impossible value.
        ParityError: The file answers otherwise than scikit-learn.
        KeyboardInterrupt: Ctrl-C, while it was fitted; the run's state is then ``stopped``.
    """
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415  that module needs no PyTorch

    recipe = resolve_classical(dataset.recipe, model=model, **options)
    job = ClassicalJob.prepare(dataset, audit(dataset, watcher=watcher), recipe)
    directory = directory_of()
    with recorded(directory, watcher) as recorder:
        write_request(directory, job)
        recorder.run_started(directory.path)
        tell_images(recorder, directory, job)
        tell_place(recorder, directory, job)
        seconds = {"load": time.perf_counter() - began}
        # Held to the end: once fitted, a Ctrl-C would only lose what is nearly done.
        with graceful_interrupt() as stop:
            report = _make(directory, job, recorder, seconds=seconds, stop=stop)
        tell_end(recorder, report)
    return Run(directory.path)


def _make(
    directory: RunDirectory,
    job: ClassicalJob,
    recorder: Recorder,
    *,
    seconds: dict[str, float],
    stop: threading.Event,
) -> Report:
    """Fit, export, evaluate the file and write the report; note how long each took."""
    from opsin.classical.fitted_file import Written, check_parity  # noqa: PLC0415

    at = time.perf_counter()
    fitted, steps, unit = _fit(job, recorder, stop)
    seconds["train"] = time.perf_counter() - at
    at = time.perf_counter()
    recorder.doing("the export")
    written = Written(fitted)
    job = replace(job, layers=written.layers)
    tell_model(recorder, job)
    draft = Draft(directory, job.dataset, written.content(metadata_of(job)), recorder)
    if not steps:
        steps = 1
        recorder.epoch(_whole(draft, job, seconds["train"]))
    seconds["export"] = time.perf_counter() - at
    training = TrainingFacts(
        best_epoch=steps,
        epochs=steps,
        asked=steps,
        stopped=False,
        interrupted=stop.is_set(),
        diverged=None,
        stepped_back=False,
        balance="none",
        precision="float32",
        fitted_to=len(job.rows),
        unit=unit,
    )
    return conclude(
        draft,
        job,
        recorder,
        difference=lambda file, images: check_parity(file, fitted, images),
        training=training,
        seconds=seconds,
    )


def _fit(job: ClassicalJob, recorder: Recorder, stop: threading.Event) -> tuple[Fitted, int, str]:
    """Fit, and return how many trees or rounds there were; none for a model without such steps."""
    from opsin.classical.fit import TrainingRows, fit, work_of  # noqa: PLC0415  loads scikit-learn
    from opsin.classical.interruptible import run_interruptible  # noqa: PLC0415
    from opsin.classical.pixels import Pooling  # noqa: PLC0415

    dataset, model = job.dataset, job.recipe.model
    height, width, channels = dataset.images.shape[1:]
    pooling = Pooling.to_fit((height, width, channels), model.side)
    val = dataset.split.val
    recorder.begin("Pixels", len(job.rows) + len(val), "images")

    def read(done: int) -> None:
        recorder.advance(done)
        if stop.is_set():
            raise KeyboardInterrupt("Ctrl-C while the images were read")

    train = TrainingRows(pooling.read(dataset.images, job.rows, read), dataset.labels[job.rows])
    checked = TrainingRows(pooling.read(dataset.images, val), dataset.labels[val])
    recorder.end()
    recorder.doing("the fitting")
    total, unit = work_of(model)
    fitted = run_interruptible(
        lambda progress: fit(
            model,
            pooling,
            train,
            checked,
            classes=len(dataset.classes),
            seed=job.recipe.training.seed,
            threads=job.threads,
            progress=progress,
        ),
        what="Fit",
        total=total,
        unit=unit,
        watcher=recorder,
        stop=stop,
    )
    return (fitted, total, unit) if unit in ("trees", "rounds") else (fitted, 0, "fits")


def _whole(draft: Draft, job: ClassicalJob, seconds: float) -> Epoch:
    """Return the one event of a model that is fitted in one go, by the answers of its file."""
    from opsin.classical.fit import figures_of  # noqa: PLC0415

    labels = job.dataset.labels
    places = np.linspace(0, len(job.rows) - 1, min(_SAMPLE, len(job.rows))).astype(np.int64)
    shown, val = job.rows[places], job.dataset.split.val
    known = draft.outputs(shown, ["probabilities"])["probabilities"]
    train_loss, train_accuracy = figures_of(known, labels[shown])
    val_loss, val_accuracy = figures_of(draft.validation["probabilities"], labels[val])
    return Epoch(
        epoch=1,
        epochs=1,
        step=1,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        rate=0.0,
        seconds=seconds,
        images_per_second=len(job.rows) / max(seconds, 1e-9),
        best=True,
    )
