"""How good a file is, on its own run's images or on others."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.commands.nearly_seen import nearly_seen
from opsin.commands.own_images import OwnImages
from opsin.commands.test_set_usage import count_looks, key_of, note_look
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory, refuse_swapped
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Metadata, Score
from opsin.core.recipe import DataRecipe
from opsin.data.cache import Decoded, as_keys, short_digest
from opsin.data.corrections import Applied
from opsin.data.dataset import Dataset, fingerprint_of, read_corrected
from opsin.data.lazy_images import Images
from opsin.data.split import TEST
from opsin.runtime.classifier import Answers, Classifier


@dataclass(frozen=True)
class RunEvaluation:
    """The figures of a run's file.

    Args:
        split: Which part the verdict rests on: ``test`` or, where there is none, ``val``.
        figures: What `opsin.evaluation.metrics.measure` says of each part.
    """

    split: Literal["test", "val"]
    figures: dict[str, Any]

    @property
    def score(self) -> Score:
        """The verdict, as it travels in the file."""
        figures = self.figures[self.split]
        return Score(
            split=self.split,
            images=figures["images"],
            accuracy=figures["accuracy"],
            low=figures["low"],
            high=figures["high"],
        )


def answers(
    classifier: Classifier,
    images: Images,
    rows: NDArray[np.int64],
    what: str,
    watcher: Watcher,
    *,
    tta: bool = False,
) -> Answers:
    """Return the file's answers to some rows of ``images``."""
    watcher.begin(what, len(rows), "images")
    parts: list[Answers] = []
    done = 0
    for part in classifier.iter_answers(images, rows, views=classifier.views if tta else None):
        parts.append(part)
        done += len(part.probabilities)
        watcher.advance(done)
    watcher.end()
    known = [part.familiarity for part in parts if part.familiarity is not None]
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
) -> RunEvaluation:
    """Evaluate a run's file on validation data and, once, on the test set.

    The answers are kept in ``predictions.npz``. A test set of nothing but copies of what was
    trained on would prove nothing, and is passed over.

    Args:
        directory: The run.
        classifier: Its calibrated file.
        validation: The file's answers to the validation images, if there are any.
        dataset: What it was trained on.
        watcher: Is told how far the work is.
    """
    found = {} if validation is None else {"val": validation}
    test = dataset.split.test
    if len(test) and not dataset.test_is_copied:
        found["test"] = answers(classifier, dataset.images, test, "Test", watcher)
    kept: dict[str, NDArray[Any]] = {}
    for part, given in found.items():
        rows = dataset.split.rows(part)
        labels = dataset.labels[rows]
        kept |= {f"{part}_rows": rows, f"{part}_labels": labels, **source_labels(dataset, part)}
        kept[f"{part}_probabilities"] = given.probabilities
        if given.familiarity is not None:
            kept[f"{part}_familiarity"] = given.familiarity
    directory.save_arrays(directory.predictions, **kept)
    leaking = np.concatenate(dataset.leaking)
    return measure_run(classifier.metadata, kept, leaking, dataset.corrected)


def source_labels(dataset: Dataset, part: str) -> dict[str, NDArray[np.int64]]:
    """Return a part's labels before the user's corrections, as ``predictions.npz`` keeps them."""
    if dataset.source_labels is None:
        return {}
    return {f"{part}_source_labels": dataset.source_labels[dataset.split.rows(part)]}


def measure_run(
    metadata: Metadata,
    kept: Mapping[str, NDArray[Any]],
    leaking: NDArray[np.int64],
    corrections: Applied | None = None,
) -> RunEvaluation:
    """Measure a run's answers.

    Args:
        metadata: What travels in its file.
        kept: What ``predictions.npz`` holds.
        leaking: Rows of test images that have a duplicate outside the test part.
        corrections: What the user's corrections did to the labels.
    """
    from opsin.evaluation.metrics import measure  # noqa: PLC0415  scipy takes a second to load

    figures: dict[str, Any] = {}
    for part in ("val", "test"):
        if f"{part}_rows" not in kept:
            continue
        found = Answers(kept[f"{part}_probabilities"], kept.get(f"{part}_familiarity"))
        labels = kept[f"{part}_labels"]
        figures[part] = {
            **measure(found.probabilities, labels, metadata.classes),
            **_of_file(metadata, found, labels),
            "corrected": _corrected(
                found, labels, kept.get(f"{part}_source_labels", labels), corrections
            ),
        }
    if "test" in figures:
        right = kept["test_probabilities"].argmax(axis=1) == kept["test_labels"]
        own = np.isin(kept["test_rows"], leaking)
        figures["test"]["without_leaks"] = (
            _share(right[~own]) if own.any() and not own.all() else None
        )
    return RunEvaluation("test" if "test" in figures else "val", figures)


def _of_file(metadata: Metadata, found: Answers, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the temperature changed, and how many images are refused.

    Returns:
        ``uncalibrated``: ``log_loss`` and ``calibration_error`` as they would be without the
        file's temperature. ``refused``: the ``share`` of images that get "none of these", its
        ``count`` and interval (``low``, ``high``), and the accuracy of the others. ``None`` each
        where the file has no such thing.
    """
    from opsin.evaluation.calibration import (  # noqa: PLC0415
        calibration_error,
        log_loss_of,
        reliability,
    )

    said: dict[str, Any] = {"uncalibrated": None, "refused": None}
    calibration, reject = metadata.calibration, metadata.reject
    if calibration is not None:
        # Probabilities to the power of the temperature are, but for their sum, those without it.
        logs = np.log(np.maximum(found.probabilities, np.finfo(np.float32).tiny, dtype=np.float64))
        logs *= calibration.temperature
        before = np.exp(logs - logs.max(axis=1, keepdims=True))
        before /= before.sum(axis=1, keepdims=True)
        said["uncalibrated"] = {
            "log_loss": log_loss_of(logs, labels),
            "calibration_error": calibration_error(reliability(before, labels)),
        }
    if reject is not None and found.familiarity is not None:
        refused = found.rejected(reject)
        right = found.probabilities.argmax(axis=1) == labels
        said["refused"] = {
            **_share(refused, "share"),
            "count": int(refused.sum()),
            "accuracy_of_others": float(right[~refused].mean()) if not refused.all() else None,
        }
    return said


def _corrected(
    found: Answers,
    labels: NDArray[np.int64],
    before: NDArray[np.int64],
    corrections: Applied | None,
) -> dict[str, Any] | None:
    """Return what the user's corrections did to the measure; ``None``: nothing.

    Labels that are brought to a classifier's answers raise its accuracy, and it has learnt nothing.

    Returns:
        ``labels``: how many of the ``images`` have another one than in the source; ``left_out``:
        images of the whole collection; ``earlier``: the accuracy by the labels of the source.
    """
    changed = int((labels != before).sum())
    left_out = corrections.left_out if corrections else 0
    if not changed and not left_out:
        return None
    return {
        "labels": changed,
        "images": len(labels),
        "left_out": left_out,
        "earlier": _share(found.probabilities.argmax(axis=1) == before),
    }


def _share(which: NDArray[np.bool_], name: str = "accuracy") -> dict[str, Any]:
    """Return a share of images with its interval, and of how many."""
    from opsin.evaluation.intervals import wilson  # noqa: PLC0415

    low, high = wilson(int(which.sum()), len(which))
    share = float(which.mean()) if len(which) else None
    return {"images": len(which), name: share, "low": low, "high": high}


@checked
def evaluate(
    model: str | os.PathLike[str] | Classifier,
    *sources: str | os.PathLike[str],
    tta: bool = False,
    watcher: Watcher = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a classifier on images with labels.

    Judged are the test part, where the source names one; else those images that the classifier
    has not seen in its training; else all of them. Of exact copies one counts. They are prepared as
    the file asks, whatever their own size. Where any of the run's own test images are among them,
    this is one more look at its test set.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        *sources: Images with labels; their classes must be among the classifier's.
        tta: Average the answers to a few variations of each image, as in `Classifier.predict`, if
            these helped on the validation images; else ``watcher`` is told why not.
        watcher: Is told how far the work is.
        **options: Fields of `DataRecipe` that say how to read: ``classes``, ``columns`` …

    Returns:
        What `opsin.evaluation.metrics.measure` says, with ``model``, ``source``, ``part``
        (``test``, ``own-test``, ``unseen``, ``val`` or ``all``), ``seen`` and ``own_test`` (how
        many of the images judged the classifier learnt from or was chosen by, and how many are
        its run's own test images; ``None`` where a file without its run cannot tell),
        ``seen_nearly`` (how many are near duplicates of images that it learnt from or was chosen
        by, see `opsin.commands.own_images.nearly_seen`; with the accuracy ``without_seen_nearly``),
        ``unreadable``, ``seconds``, and ``looks``: how often the runs of its folder have looked at
        this test set.

    Raises:
        SourceError: The source is unusable or has classes that the classifier does not know.
    """
    from opsin.evaluation.metrics import measure  # noqa: PLC0415

    refuse_swapped(model, sources, "opsin evaluate {model} {images}")
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    preparation = classifier.metadata.preparation
    recipe = DataRecipe.of(
        *[os.fspath(source) for source in sources],
        size=(preparation.height, preparation.width),
        channels=preparation.channels,
        resize=preparation.resize,
        **options,
    )
    decoded = read_corrected(recipe, watcher=watcher, for_training=False)
    names = decoded.about["classes"]
    foreign = [name for name in names if name not in classifier.classes]
    if foreign:
        raise SourceError(
            f"classes among {', '.join(classifier.classes)}",
            f"{recipe.source} also has {', '.join(foreign[:5])}",
            "Leave them out with --classes, or rename the folders.",
        )
    judged = _judge(classifier, decoded)
    rows = judged.rows
    if tta and classifier.without_views:
        watcher.note(classifier.without_views)
    began = time.perf_counter()
    found = answers(classifier, decoded.images, rows, "Test", watcher, tta=tta)
    seconds = time.perf_counter() - began
    own = np.array([classifier.classes.index(name) for name in names], np.int64)
    labels = own[decoded.labels[rows]]
    figures = {
        "model": str(classifier.path),
        "source": recipe.source,
        "part": judged.part,
        "seen": judged.seen,
        "own_test": judged.own_test,
        "seen_nearly": None,
        "unreadable": len(decoded.unreadable),
        "looks": None,
        "seconds": seconds,
        **measure(found.probabilities, labels, classifier.classes),
        **_of_file(classifier.metadata, found, labels),
        "corrected": None
        if decoded.source_labels is None
        else _corrected(
            found, labels, own[decoded.source_labels[rows]], decoded.about["corrections"]
        ),
    }
    near = None
    if judged.own is not None and judged.part != "own-test":
        near = nearly_seen(judged.own, decoded, rows, watcher)
    if near is not None:
        right = found.probabilities.argmax(axis=1) == labels
        figures["seen_nearly"] = int(near.sum())
        figures["without_seen_nearly"] = (
            _share(right[~near]) if 0 < near.sum() < len(near) else None
        )
    own_images = judged.own
    if judged.own_test and own_images is not None:
        figures["looks"] = own_images.note_look(len(rows), figures["accuracy"])
    elif judged.part == "test":
        run = RunDirectory(classifier.path.parent)
        key = key_of(short_digest(decoded.digests), rows)
        note_look(run, key, figures)
        figures["looks"] = count_looks(run, key) or None
    return figures


@dataclass(frozen=True)
class _Judged:
    """Which rows are judged, why these, and how many of them the classifier has seen.

    Args:
        part: Why these.
        rows: ``int64[M]``, of exact copies of a class the first.
        seen: How many of them it learnt from or was chosen by; ``None`` where nobody knows.
        own_test: How many of them are the run's own test images; likewise.
        own: The run's own images.
    """

    part: Literal["test", "own-test", "unseen", "val", "all"]
    rows: NDArray[np.int64]
    seen: int | None = None
    own_test: int | None = None
    own: OwnImages | None = None


def _judge(classifier: Classifier, decoded: Decoded) -> _Judged:
    """Choose the rows to judge by, and count those that the classifier knows.

    Images are told by their content: neither names nor order matter, and each counts once.
    """
    test = _each_once(decoded, np.flatnonzero(decoded.given == TEST))
    everything = _each_once(decoded, np.arange(len(decoded.labels)))
    rows = test if test.size else everything
    part: Literal["test", "all"] = "test" if test.size else "all"
    own = OwnImages.of(classifier)
    if own is None:
        # A file alone knows its training images as a whole only.
        if fingerprint_of(decoded) == classifier.metadata.fingerprint:
            return _Judged(part, rows, 0 if test.size else len(rows))
        return _Judged(part, rows)
    train, val, tested = own.among(decoded.digests)
    seen = train | val

    def judged(part: Literal["test", "own-test", "unseen", "val", "all"],
               rows: NDArray[np.int64]) -> _Judged:  # fmt: skip
        return _Judged(part, rows, int(seen[rows].sum()), int(tested[rows].sum()), own)

    if test.size:
        return judged("own-test" if tested[test].all() else "test", test)
    new = everything[~seen[everything]]
    if new.size:
        if tested[new].all():
            return judged("own-test", new)
        return judged("unseen" if len(new) < len(everything) else "all", new)
    chosen_by = everything[val[everything]]
    return judged("val", chosen_by) if chosen_by.size else judged("all", everything)


def _each_once(decoded: Decoded, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out exact copies of the same class."""
    labels = np.ascontiguousarray(decoded.labels[rows]).view(np.uint8).reshape(len(rows), 8)
    of = np.concatenate([decoded.digests[rows], labels], axis=1)
    _, first = np.unique(as_keys(of), return_index=True)
    return rows[np.sort(first)]
