"""What every run writes, whatever its job: the request at first; file and report at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.commands.calibrate import Draft, calibrate, uncalibrated
from opsin.commands.changes import write_images
from opsin.commands.choose_views import try_views
from opsin.commands.class_mix import class_mix
from opsin.commands.evaluate import RunEvaluation, evaluate_run
from opsin.commands.find_failures import find_failures
from opsin.commands.import_recipe import AnyRecipe
from opsin.commands.recorder import Recorder
from opsin.commands.test_set_usage import count_looks, key_of, leaks_of, note_look
from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import (
    FileFacts,
    Report,
    ReportedFinding,
    TrainingFacts,
    ViewsFacts,
)
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
from opsin.runtime.providers import CPU

# Images that the file and the network, or scikit-learn's model, are compared on; and for a head on
# a pretrained network, each of which takes that network's time twice.
_PARITY_IMAGES: Final = 512
_PARITY_KNOWN: Final = 8


class AnyJob(Protocol):
    """The common shape of all jobs: of a training, of a fitting and of an import.

    That is `TrainingJob`, `ClassicalJob` and what `opsin.commands.import_model` measures.
    """

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


def metadata_of(job: AnyJob, labels: NDArray[np.int64], *, balanced: bool) -> Metadata:
    """Return what travels in the file, before its score is known.

    Args:
        job: What was trained on what.
        labels: Classes of the images that the model was fitted to, ``int64[N]``.
        balanced: Whether each class counted the same in it.
    """
    return Metadata(
        opsin=__version__,
        model=job.recipe.model.name,
        classes=job.dataset.classes,
        preparation=job.dataset.preparation,
        layers=tuple(job.layers),
        source=job.recipe.data.source_names,
        fingerprint=job.dataset.fingerprint,
        class_mix=class_mix(job.recipe.training.class_mix, job.dataset, labels, balanced=balanced),
    )


def write_request(directory: RunDirectory, job: AnyJob) -> None:
    """Write what was asked for, and of which images, before the training begins."""
    write_json(directory.recipe, job.recipe.model_dump(mode="json"))
    split = {part: job.dataset.split.rows(part) for part in ("train", "val", "test")}
    digests = short_digest(job.dataset.digests)
    found = {"findings": job.audit.counts(), "test_set": key_of(digests, split["test"])}
    job.dataset.describe().model_copy(update=found).write(directory.path)
    sources = short_digest(job.dataset.source_digests)
    directory.save_arrays(directory.split, digests=digests, source_digests=sources, **split)
    write_images(directory, job.dataset)
    if job.dataset.corrected:
        write_corrections(directory.corrections, job.dataset.corrected.rows)


def conclude(
    draft: Draft,
    job: AnyJob,
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
        # Parity is a promise of the CPU.
        exact = file
        if file.device != CPU:
            exact = Classifier.of_content(directory.classifier, file.content, most=None)
        apart = difference(exact, dataset.images[rows])
        facts = FileFacts(parity_images=len(rows), difference=apart)
    if directory.predictions.is_file():  # it was evaluated, and then went on
        test_set = directory.read(DatasetRecord).test_set
        note_look(directory, test_set, len(dataset.split.test), None, watcher=recorder)
    if draft.judged is not None:
        fold = np.full(len(dataset), -1)
        fold[draft.judged[0].rows] = draft.judged[0].fold
        split = directory.load_arrays(directory.split)
        directory.save_arrays(directory.split, **split | {"fold": fold})
    evaluation = evaluate_run(
        directory,
        file,
        made.validation,
        dataset,
        recorder,
        known=made.known,
        judged=None if draft.judged is None else draft.judged[0],
    )
    views = try_views(file, made.validation, dataset, _views_of(job.recipe), recorder)
    metadata = file.metadata.model_copy(update={"score": evaluation.score, "views": views})
    content = finished(file.content, metadata)
    write_classifier(directory.classifier, content)
    seconds["evaluate"] = time.perf_counter() - at
    at = time.perf_counter()
    recorder.doing("the report")
    training = training.model_copy(update={"answered_on": file.device})
    report = _report(job, training, evaluation, metadata, seconds).model_copy(update={
        "file": facts.model_copy(update={"bytes": len(content)}),
        "looks": count_looks(directory, directory.read(DatasetRecord).test_set),
        "ood": made.ood,
        "failures": find_failures(dataset, evaluation.predictions, evaluation.split, recorder),
    })  # fmt: skip
    with spared("the report's page", recorder):
        draw_run(directory, report, dataset, evaluation.predictions, recorder)
    seconds["report"] = time.perf_counter() - at
    report = report.model_copy(update={"seconds": seconds})
    report.write(directory.path)
    return report


def _report(
    job: AnyJob,
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
        source=job.recipe.data.source_names,
        model=job.recipe.model.name,
        dataset=job.dataset.summary(),
        split=evaluation.split,
        figures=dict(evaluation.figures),
        leaks=leaks_of(job.dataset),
        rests_on=thin_parts(job.dataset),
        unreadable=len(job.dataset.unreadable),
        left_out=list(job.dataset.left_out),
        repeated_rows=job.dataset.repeated,
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
        class_mix=metadata.class_mix,
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
