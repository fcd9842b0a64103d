"""A fresh file learns how sure it may be, and when to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from opsin.core.metadata import Calibration, Metadata, Reject
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier

# Training pictures that the classes' means are taken from: more make them no better.
_KNOWN: Final = 5000


def finish_file(directory: RunDirectory, dataset: Dataset, watcher: Watcher) -> dict[str, Any]:
    """Fit temperature and reject threshold of a run's file, and write them into it.

    Validation and training pictures alone are looked at. The answers stay what they were: a
    temperature changes no order, and a refusal is told beside the answer.

    Args:
        directory: The run, its file exported.
        dataset: What it was trained on.
        watcher: Is told how far the work is.

    Returns:
        ``calibration`` and ``reject``, as they travel in the file, or ``None`` each.
    """
    from opsin.evaluation.calibration import fit_temperature, log_loss_of  # noqa: PLC0415
    from opsin.evaluation.reject import ClassPrototypes, choose_threshold  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import finish  # noqa: PLC0415

    classifier = Classifier(directory.classifier)
    split, classes = dataset.split, len(dataset.classes)
    shown = _spread(dataset.labels[split.train], split.train, _KNOWN)
    watcher.begin("Calibrate", len(shown) + len(split.val), "pictures")

    def outputs(rows: NDArray[np.int64], names: Sequence[str], done: int) -> list[NDArray[Any]]:
        parts = []
        for part in classifier.iter_layers(dataset.images, names, rows):
            parts.append([part[name] for name in names])
            done += len(parts[-1][0])
            watcher.advance(done)
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    (seen,) = outputs(shown, ["embedding"], 0)
    known = ClassPrototypes.of(seen, dataset.labels[shown], classes)
    temperature, calibration, reject = 1.0, None, None
    if len(split.val):
        logits, embeddings = outputs(split.val, ["head", "embedding"], len(shown))
        labels = dataset.labels[split.val]
        temperature = fit_temperature(logits, labels)
        losses = (log_loss_of(logits, labels), log_loss_of(logits, labels, temperature))
        calibration = Calibration(temperature=temperature, images=len(labels), log_loss=losses)
        chosen = choose_threshold(known.familiarity(embeddings))
        if chosen is not None:
            reject = Reject(threshold=chosen[0], rate=chosen[1], images=len(labels))
    watcher.end()
    metadata = classifier.metadata.model_copy(update={"calibration": calibration, "reject": reject})
    finish(
        directory.classifier,
        metadata,
        temperature=temperature,
        scales=known.scales,
        means=known.directions,
    )
    return {
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "reject": None if reject is None else reject.model_dump(mode="json"),
    }


def stamp(directory: RunDirectory, **update: Any) -> Metadata:
    """Change what travels in a run's file beside the network, and return all of it."""
    from opsin.onnx_files.postprocessing import finish  # noqa: PLC0415

    metadata = Classifier(directory.classifier).metadata.model_copy(update=update)
    finish(directory.classifier, metadata)
    return metadata


def _spread(labels: NDArray[np.int64], rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Choose rows of each class evenly along the set, rare classes whole; in rising order."""
    classes, counts = np.unique(labels, return_counts=True)
    share = most // max(len(classes), 1)
    chosen = []
    for number, count in zip(classes, counts, strict=True):
        own = rows[labels == number]
        places = np.linspace(0, count - 1, min(max(share, 1), int(count))).round()
        chosen.append(own[places.astype(np.int64)])
    return np.sort(np.concatenate(chosen)) if chosen else rows[:0]
