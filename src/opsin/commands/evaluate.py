"""Evaluation of a classifier file, on its own run's images or on others."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from opsin.commands.known_images import can_compare, known_classes, nearly_seen, prepared_for
from opsin.commands.predict.stream import open_classifier
from opsin.commands.test_set_usage import OwnImages, key_of, note_look
from opsin.core.arguments import checked
from opsin.core.arrays import Bools, Ints
from opsin.core.artifacts import run_report
from opsin.core.artifacts.records import CorrectionCounts, LeftOut
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart, RunPredictions
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.metadata import Metadata, Score
from opsin.core.recipe import DataRecipe
from opsin.data.cache import short_digest
from opsin.data.corrections import Decoded
from opsin.data.dataset import Dataset, fingerprint_of, read_corrected, resolve_sources
from opsin.data.fill_cache import rows_at_once
from opsin.data.image_tree import left_out_in_words
from opsin.data.lazy_images import THREADS, Images
from opsin.data.near_duplicates import near_duplicates
from opsin.data.split import TEST, groups_by_name, pairs_of, split_groups
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers

Part = Literal["test", "own-test", "unseen", "val", "all"]

if TYPE_CHECKING:
    from opsin.evaluation.out_of_fold import OutOfFold


@dataclass(frozen=True)
class RunEvaluation:
    """A run's answers and figures, by part."""

    predictions: RunPredictions
    figures: Mapping[PredictedPart, run_report.PartFigures]

    @property
    def split(self) -> PredictedPart:
        """The part that the verdict rests on: ``test``, else all images, else ``val``."""
        order: tuple[PredictedPart, ...] = ("test", "out_of_fold")
        return next((part for part in order if part in self.figures), "val")

    @property
    def score(self) -> Score:
        """The verdict, as stored in the file."""
        return Score(split=self.split, **self.figures[self.split].plain)


def answers(
    classifier: Classifier,
    images: Images,
    rows: Ints,
    what: str,
    watcher: Watcher,
    *,
    tta: bool = False,
) -> Answers:
    """Return the file's answers to some rows of ``images``."""
    views = classifier.views if tta else None
    # With one thread each, batches run in parallel.
    step = rows_at_once(images.shape[1:]) if classifier.threads == 1 else classifier.batch_size
    pieces = [rows[start : start + step] for start in range(0, len(rows), step)]

    def part_of(piece: Ints) -> Answers:
        return _joined([*classifier.iter_answers(images, piece, views=views)])

    pool = ThreadPoolExecutor(THREADS // (classifier.threads or THREADS) or 1)
    try:
        parts = pool.map(part_of, pieces)
        sized = watched(watcher, what, len(rows), parts, size=lambda p: len(p.probabilities))
        return _joined(list(sized))
    finally:
        pool.shutdown(cancel_futures=True)


def _joined(parts: Sequence[Answers]) -> Answers:
    known = [part.ood_score for part in parts if part.ood_score is not None]
    return Answers(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(known) if known else None,
    )


def evaluate_run(
    directory: RunDirectory,
    classifier: Classifier,
    validation: Answers | None,
    dataset: Dataset,
    watcher: Watcher,
    *,
    test: Answers | None = None,
    judged: OutOfFold | None = None,
) -> RunEvaluation:
    """Evaluate a run's file on validation data and, once, on the test set."""
    by_part: dict[PredictedPart, Answers] = {} if validation is None else {"val": validation}
    rows = {part: dataset.split.rows(part) for part in ("val", "test")}
    if judged is not None:
        by_part["out_of_fold"], rows["out_of_fold"] = judged.answers, judged.rows
    if len(rows["test"]) and not dataset.test_is_copied:
        by_part["test"] = test or answers(classifier, dataset.images, rows["test"], "Test", watcher)
    before = dataset.source_labels
    predictions = RunPredictions(
        {
            part: PartPredictions(
                rows[part],
                dataset.labels[rows[part]],
                predicted.probabilities,
                predicted.ood_score,
                None if before is None else before[rows[part]],
                dataset.units[rows[part]],
            )
            for part, predicted in by_part.items()
        }
    )
    predictions.write(directory)
    return measure_run(classifier.metadata, predictions, dataset)


def measure_run(metadata: Metadata, predictions: RunPredictions, dataset: Dataset) -> RunEvaluation:
    """Measure a run's answers."""
    from opsin.evaluation.metrics import widen  # noqa: PLC0415  scipy takes a second to load

    figures: dict[PredictedPart, run_report.PartFigures] = {}
    for part, kept in predictions:
        measured = _measured(metadata, kept, dataset.corrected)
        if part == "test":
            leaking = np.isin(kept.rows, np.concatenate(dataset.leaking))
            without = _without(leaking, kept.right, kept.groups)
            measured = measured.model_copy(update={"without_leaks": without})
        figures[part] = widen(measured) if part == "out_of_fold" else measured
    return RunEvaluation(predictions, figures)


def _measured(
    metadata: Metadata, kept: PartPredictions, corrections: CorrectionCounts | None
) -> run_report.PartFigures:
    from opsin.evaluation.metrics import measure  # noqa: PLC0415  scipy takes a second to load

    labels, groups = kept.labels, kept.groups
    more: dict[str, object] = {"uncalibrated": _uncalibrated(metadata, kept)}
    refused = Answers(kept.probabilities, kept.ood_score).rejected(metadata.reject)
    if refused is not None:
        share = accuracy_of(refused, groups)
        more["refused"] = run_report.Refused(
            images=len(refused),
            share=share.accuracy,
            low=share.low,
            high=share.high,
            count=int(refused.sum()),
            accuracy_of_others=None if refused.all() else float(kept.right[~refused].mean()),
        )
    before = labels if kept.source_labels is None else kept.source_labels
    changed = int((labels != before).sum())
    left_out = corrections.left_out if corrections else 0
    if changed or left_out:
        more["corrected"] = run_report.CorrectedLabels(
            labels=changed,
            images=len(labels),
            left_out=left_out,
            earlier=accuracy_of(kept.answers == before, groups),
        )
    figures = measure(kept.probabilities, labels, metadata.classes, groups)
    return figures.model_copy(update={"refused": None, "corrected": None} | more)


def _uncalibrated(metadata: Metadata, kept: PartPredictions) -> run_report.Uncalibrated | None:
    from opsin.evaluation.calibration import log_loss_of  # noqa: PLC0415  loads scipy
    from opsin.evaluation.metrics import ScoredAnswers  # noqa: PLC0415

    if metadata.calibration is None:
        return None
    mix = 0.0 if metadata.class_mix is None else metadata.class_mix.log_ratio
    # Up to normalisation, probabilities to the power of the temperature are those without it.
    logs = np.log(np.maximum(kept.probabilities, np.finfo(np.float32).tiny, dtype=np.float64))
    logs = (logs - mix) * metadata.calibration.temperature + mix
    before = np.exp(logs - logs.max(axis=1, keepdims=True))
    before /= before.sum(axis=1, keepdims=True)
    return run_report.Uncalibrated(
        log_loss=log_loss_of(logs, kept.labels),
        calibration_error=ScoredAnswers(before, kept.labels).calibration_error,
    )


def _without(which: Bools, right: Bools, groups: Ints | None) -> run_report.Accuracy | None:
    if not which.any() or which.all():
        return None
    return accuracy_of(right[~which], None if groups is None else groups[~which])


def accuracy_of(right: Bools, groups: Ints | None) -> run_report.Accuracy:
    """Return a share of images with its interval."""
    from opsin.evaluation.intervals import share  # noqa: PLC0415  scipy takes a second to load

    low, high = share(right, groups)
    return run_report.Accuracy(images=len(right), accuracy=float(right.mean()), low=low, high=high)


class EvaluationResult(run_report.PartFigures):
    """The figures of a file on some images, and their origin."""

    model: str
    source: str
    part: Part
    seen: int | None = Field(description="Images that it learnt from or was chosen by.")
    own_test: int | None = Field(description="Images of its run's own test part.")
    seen_nearly: int | None = Field(None, description="Near duplicates of what it learnt from.")
    without_seen_nearly: run_report.Accuracy | None = None
    unreadable: int
    left_out: list[LeftOut] = Field(
        default_factory=list, description="What the source holds and is not read, by kind."
    )
    repeated_rows: int = Field(0, description="Rows of a table that named an image once more.")
    looks: int | None = Field(None, description="How often this test set was looked at.")
    device: str = Field("cpu", description="Where the answers were computed.")
    seconds: float


@checked
def evaluate(
    model: str | os.PathLike[str] | Classifier,
    *sources: object,
    tta: bool = False,
    device: str = "auto",
    watcher: Watcher = SILENT,
    **options: Any,
) -> EvaluationResult:
    """Evaluate a classifier on images with labels.

    The test part is evaluated if the source names one; else the images that the classifier did not
    see in training; else all of them. An image that a table names repeatedly counts once; copies
    under other names count separately, as in training. All are prepared as the file requires. If
    any of the run's own test images are among them, this is one more look at its test set.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        *sources: Images with labels, whatever `opsin.load` takes; their classes must be among the
            classifier's.
        tta: Average the answers to a few variations of each image, as in `Classifier.predict`, if
            these helped on the validation images; else ``watcher`` receives why not.
        device: Device: see `Classifier`; an open one keeps its own.
        watcher: Receives the progress of the work.
        **options: Fields of `DataRecipe` about reading: ``classes``, ``columns`` …, and
            ``group_by``.

    Returns:
        The figures, with ``part``, the images evaluated; ``seen_nearly``, from
        `opsin.commands.known_images.nearly_seen`; and ``looks``, the number of looks at this test
        set by the runs of its folder.

    Raises:
        SourceError: The source is unusable or has classes that the classifier does not know.
    """
    classifier = open_classifier(model, device=device, watcher=watcher)
    recipe, held = resolve_sources(sources, options | prepared_for(classifier), watcher)
    _, decoded = read_corrected(recipe, located=held, watcher=watcher, for_training=False)
    if decoded.left_out:
        watcher.note(f"Left out: {left_out_in_words(decoded.left_out)}")
    class_index = known_classes(classifier, decoded.classes, recipe.source)
    judged = judge(classifier, decoded)
    rows, run_images = judged.rows, judged.own
    if tta and classifier.without_views:
        watcher.note(classifier.without_views)
    began = time.perf_counter()
    predicted = answers(classifier, decoded.images, rows, "Test", watcher, tta=tta)
    seconds = time.perf_counter() - began
    labels = class_index[decoded.labels[rows]]
    groups = _groups_of(judged, decoded, recipe, watcher)
    before = None if decoded.source_labels is None else class_index[decoded.source_labels[rows]]
    kept = PartPredictions(
        rows, labels, predicted.probabilities, predicted.ood_score, before, groups
    )
    corrections = None if before is None else decoded.corrected
    more: dict[str, object] = {"seen_nearly": None}  # also in its JSON
    if run_images is not None and judged.part != "own-test":
        near = nearly_seen(run_images, decoded, rows, watcher)
        if near is not None:
            without = _without(near, kept.right, groups)
            more = {"seen_nearly": int(near.sum()), "without_seen_nearly": without}
    of_run = run_images if judged.own_test else None
    if of_run is not None or judged.part == "test":
        key = of_run.key if of_run else key_of(short_digest(decoded.digests), rows)
        run = RunDirectory(classifier.path.parent)
        looks = note_look(run, key, len(rows), float(kept.right.mean()), watcher=watcher)
        more["looks"] = looks or None
    measured = _measured(classifier.metadata, kept, corrections)
    return EvaluationResult(
        model=classifier.title,
        source=recipe.source,
        part=judged.part,
        seen=judged.seen,
        own_test=judged.own_test,
        unreadable=len(decoded.unreadable),
        left_out=list(decoded.left_out),
        repeated_rows=decoded.repeated,
        device=classifier.device,
        seconds=seconds,
        **measured.model_dump(exclude_unset=True),
        **more,
    )


def _groups_of(judged: Judged, decoded: Decoded, recipe: DataRecipe, watcher: Watcher) -> Ints:
    """Return the units of the images judged: groups, copies and near copies."""
    rows = judged.rows
    names = groups_by_name(decoded.names, recipe) if recipe.group_by else decoded.groups
    pairs = [np.zeros((0, 2), np.int64)]
    if judged.own is not None:
        pairs.append(pairs_of(judged.own.groups(decoded.digests[rows])))
    listed = len(decoded.labels) + len(decoded.unreadable)
    if recipe.near_duplicates == "together" and can_compare(listed, decoded.images.shape[1:]):
        near = near_duplicates(
            decoded.images[rows], decoded.digests[rows], mirrored=decoded.mirrored, watcher=watcher
        )
        pairs.append(near.pairs)
    return split_groups(
        decoded.digests[rows], [names[row] for row in rows] if names else (), np.concatenate(pairs)
    )


@dataclass(frozen=True)
class Judged:
    """The rows to judge by, and how many of them the classifier has seen, if known."""

    part: Part
    rows: Ints
    seen: int | None = None
    own_test: int | None = None
    own: OwnImages | None = None


def judge(classifier: Classifier, decoded: Decoded) -> Judged:
    """Choose the rows to judge by, and count those that the classifier has seen."""
    test, everything = np.flatnonzero(decoded.source_parts == TEST), np.arange(len(decoded.labels))
    part: Part = "test" if test.size else "all"
    rows = test if test.size else everything
    run_images = OwnImages.of(classifier)
    if run_images is None:
        # A file alone has only a fingerprint of its training images.
        is_known = fingerprint_of(decoded) == classifier.metadata.fingerprint
        return Judged(part, rows, (0 if test.size else len(rows)) if is_known else None)
    train, val, tested = run_images.among(decoded.digests)
    seen = train | val
    if test.size:
        part = "own-test" if tested[test].all() else "test"
    elif (rows := np.flatnonzero(~seen)).size:
        is_own = tested[rows].all()
        part = "own-test" if is_own else "unseen" if len(rows) < len(everything) else "all"
    elif (rows := np.flatnonzero(val)).size:
        part = "val"
    else:
        part, rows = "all", everything
    return Judged(part, rows, int(seen[rows].sum()), int(tested[rows].sum()), run_images)
