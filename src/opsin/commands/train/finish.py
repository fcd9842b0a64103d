"""The end of every training: calibrate, check, test, write once, report."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from opsin._version import __version__
from opsin.commands.evaluate import RunEvaluation, evaluate_run
from opsin.commands.test_set_usage import count_looks, key_of, leaks_of, note_look
from opsin.commands.train.add_to import compared
from opsin.commands.train.calibrate import ExportedFile, calibrate, try_views
from opsin.commands.train.learner import Learner
from opsin.core.artifacts import run_report
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.metadata import Metadata, Views
from opsin.core.recipe import Recipe
from opsin.core.storage import write_json
from opsin.data.audit import Audit
from opsin.data.cache import short_digest
from opsin.data.corrections import write_corrections
from opsin.data.dataset import thin_parts
from opsin.data.run_images import write_images
from opsin.evaluation.out_of_fold import OutOfFold
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier
from opsin.runtime.providers import CPU

# Images that the file and the network, or scikit-learn's model, are compared on; and for a head on
# a pretrained network, each of which takes that network's time twice.
_PARITY_IMAGES: Final = 512
_PARITY_KNOWN: Final = 8


def write_request(learner: Learner, audit: Audit) -> None:
    """Write what was asked for, and of which images, before the training begins."""
    directory, dataset = learner.directory, learner.dataset
    write_json(directory.recipe, learner.recipe.model_dump(mode="json"))
    split = {part: dataset.split.rows(part) for part in ("train", "val", "test")}
    digests = short_digest(dataset.digests)
    facts = {"findings": audit.counts(), "test_set": key_of(digests, split["test"])}
    dataset.describe().model_copy(update=facts).write(directory.path)
    sources = short_digest(dataset.source_digests)
    directory.save_arrays(directory.split, digests=digests, source_digests=sources, **split)
    write_images(directory, dataset)
    if dataset.corrected:
        write_corrections(directory.corrections, dataset.corrections)


def finish(
    learner: Learner, exported: ExportedFile, audit: Audit, seconds: dict[str, float]
) -> run_report.Report:
    """Calibrate, check and evaluate a run's file, write it once, and write the report."""
    from opsin.commands import report as page  # noqa: PLC0415  needs matplotlib
    from opsin.onnx_files.postprocessing import finished  # noqa: PLC0415  needs onnx

    at = time.perf_counter()
    directory, dataset, watcher = learner.directory, learner.dataset, learner.watcher
    training = learner.facts()  # before the evaluation, which a Ctrl-C does not end
    watcher.doing("the evaluation")
    made = calibrate(exported, adjusts=learner.calibrates)
    shipped = made.classifier
    # What is known of all images has been computed once by the file's own operators.
    most = _PARITY_IMAGES if exported.known is None else _PARITY_KNOWN
    rows = np.sort(np.concatenate([dataset.split.val, dataset.split.train])[:most])
    file = shipped
    if file.device != CPU:  # parity is a promise of the CPU
        file = Classifier.of_content(file.path, file.content, most=None)
    with ThreadPoolExecutor(1) as beside:
        checking = beside.submit(learner.difference, file, rows)
        if directory.predictions.is_file():  # it was evaluated, and then went on
            test_set = directory.read(DatasetRecord).test_set
            note_look(directory, test_set, len(dataset.split.test), None, watcher=watcher)
        judged = exported.judged[0] if exported.judged is not None else None
        if judged is not None:
            _save_folds(directory, judged, len(dataset))
        evaluation = evaluate_run(
            directory, shipped, made.validation, dataset, watcher, test=made.test, judged=judged
        )
        varied = Views(flip=False, shift=0)
        if isinstance(learner.recipe, Recipe):
            varied = Views(flip=learner.recipe.training.flip, shift=learner.recipe.training.shift)
        views = try_views(shipped, made.validation, dataset, varied, watcher)
    difference = checking.result()
    metadata = shipped.metadata.model_copy(update={"score": evaluation.score, "views": views})
    content = finished(shipped.content, metadata)
    _write(directory, exported, content)
    seconds["evaluate"] = time.perf_counter() - at
    at = time.perf_counter()
    watcher.doing("the report")
    facts = run_report.FileFacts(bytes=len(content))
    if difference is not None:
        facts = facts.model_copy(update={"parity_images": len(rows), "difference": difference})
    report = _report(
        learner,
        audit,
        training.model_copy(update={"answered_on": shipped.device}),
        evaluation,
        metadata,
        file=facts,
        looks=count_looks(directory, directory.read(DatasetRecord).test_set),
        ood=made.ood,
        seconds=dict(seconds),
        failures=page.find_failures(dataset, evaluation.predictions, evaluation.split, watcher),
    )
    if learner.recipe.added_to is not None:
        report = compared(directory, report, learner.recipe.added_to, watcher)
    with page.best_effort("the report's page", watcher):
        page.draw_run(directory, report, dataset, evaluation.predictions, watcher)
    seconds["report"] = time.perf_counter() - at
    report = report.model_copy(update={"seconds": seconds})
    report.write(directory.path)
    return report


def _write(directory: RunDirectory, exported: ExportedFile, content: bytes) -> None:
    from opsin.inspection.neighbours import keep_embeddings  # noqa: PLC0415  needs onnx

    write_classifier(directory.classifier, content)
    if exported.known is not None:  # later, the network would have to see every image again
        train = exported.dataset.split.train
        keep_embeddings(directory, content, train, exported.of_all["embedding"])


def _save_folds(directory: RunDirectory, judged: OutOfFold, images: int) -> None:
    fold = np.full(images, -1)
    fold[judged.rows] = judged.fold
    split = directory.load_arrays(directory.split)
    directory.save_arrays(directory.split, **split | {"fold": fold})


def _report(
    learner: Learner,
    audit: Audit,
    training: run_report.TrainingFacts,
    evaluation: RunEvaluation,
    metadata: Metadata,
    **more: Any,
) -> run_report.Report:
    layers, recipe, dataset, views = learner.layers, learner.recipe, learner.dataset, metadata.views
    sizes = {
        "parameters": sum(layer.parameters for layer in layers),
        "trainable": sum(layer.trainable for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
    }
    return run_report.Report(
        opsin=__version__,
        parent=recipe.parent,
        reasons=recipe.reasons,
        source=recipe.data.source_names,
        model=recipe.model.name,
        dataset=dataset.summary(),
        split=evaluation.split,
        figures=dict(evaluation.figures),
        leaks=leaks_of(dataset),
        rests_on=thin_parts(dataset),
        unreadable=len(dataset.unreadable),
        left_out=list(dataset.left_out),
        repeated_rows=dataset.repeated,
        findings=[
            run_report.ReportedFinding(count=found.count, title=found.title, opsin=found.opsin)
            for found in audit.findings
        ],
        training=training.model_copy(update={"device": learner.device_name, **sizes}),
        calibration=metadata.calibration,
        class_mix=metadata.class_mix,
        reject=metadata.reject,
        views=views and run_report.ReportedViews(**views.model_dump()),
        layers=layers,
        **more,
    )
