"""Where a run's classifier fails: wrong labels, weak slices, disturbed and strange images."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import Watcher
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.table_columns import columns_of
from opsin.evaluation.mistakes import typical_rows
from opsin.runtime.classifier import Classifier

#: Suspected label errors that a report names.
SUSPECTS: Final = 200
# Known images that strange ones are compared with, and that the map is made from, at most.
_COMPARED, _MAPPED = 2000, 5000


def find_failures(
    dataset: Dataset, kept: dict[str, NDArray[Any]], part: str, watcher: Watcher
) -> dict[str, Any]:
    """Find suspected label errors and weak slices: what takes seconds.

    Args:
        dataset: The images of the run.
        kept: What ``predictions.npz`` holds, its rows those of ``dataset``.
        part: What the verdict rests on, ``test`` or ``val``; it is sliced.
        watcher: Is told how far the work is.

    Returns:
        ``suspects``: labels of validation images that the answers contradict, the most doubtful
        first, each with its ``row``, ``name``, ``digest``, ``label``, ``suggested``, ``score`` and
        an ``example``, the row of a typical image of the suggested class; ``suspected``: how many
        there are in all; ``labels``: what they rest on, or why none are named
        (`opsin.evaluation.evidence.Doubts`; ``None`` without validation images); ``slices``: see
        `opsin.evaluation.slices.slice_accuracy`.
    """
    from opsin.evaluation.evidence import doubt_labels, too_weak  # noqa: PLC0415
    from opsin.evaluation.label_errors import clear_examples  # noqa: PLC0415
    from opsin.evaluation.slices import measure_traits, slice_accuracy  # noqa: PLC0415

    named: list[dict[str, Any]] = []
    doubts = None
    if "val_rows" in kept:
        rows, labels = kept["val_rows"], kept["val_labels"]
        doubts = doubt_labels(kept["val_probabilities"], labels, dataset.classes)
        found = doubts.suspects
        for place, suggested, score in zip(
            found.rows[:SUSPECTS], found.suggested, found.scores, strict=False
        ):
            clear = clear_examples(kept["val_probabilities"], labels, int(suggested), 1)
            row = int(rows[place])
            named.append({
                "row": row,
                "name": dataset.names[row],
                "digest": short_digest(dataset.digests[row]).tobytes().hex(),
                "label": dataset.classes[labels[place]],
                "suggested": dataset.classes[suggested],
                "score": round(float(score), 6),
                "example": int(rows[clear[0]]) if len(clear) else None,
            })  # fmt: skip
    rows, labels = kept[f"{part}_rows"], kept[f"{part}_labels"]
    right = kept[f"{part}_probabilities"].argmax(axis=1) == labels
    traits = measure_traits(dataset.images, rows, dataset.sizes, watcher=watcher)
    columns = {name: [texts[row] for row in rows] for name, texts in columns_of(dataset).items()}
    return {
        "suspects": named,
        "suspected": 0 if doubts is None else len(doubts.suspects),
        "labels": None if doubts is None else doubts.to_json(),
        "slices": slice_accuracy(
            right,
            traits,
            columns,
            labels=labels,
            too_weak=too_weak(int(right.sum()), labels, dataset.classes),
        ),
    }


def look_deeper(
    classifier: Classifier,
    dataset: Dataset,
    kept: dict[str, NDArray[Any]],
    part: str,
    watcher: Watcher,
) -> dict[str, Any]:
    """Disturb images, show strange ones, and map all of them: what takes a minute.

    Returns:
        ``robustness`` (`opsin.evaluation.robustness`), ``strangers``
        (`opsin.evaluation.out_of_distribution`; ``None`` where the file cannot tell, or is too weak
        to), ``too_weak``: why it is, or ``""``; ``map``
        (`opsin.evaluation.embedding_map.map_to_json`).
    """
    from opsin.evaluation.embedding_map import map_embedding, map_to_json  # noqa: PLC0415
    from opsin.evaluation.evidence import too_weak  # noqa: PLC0415
    from opsin.evaluation.out_of_distribution import measure_strangers, strange_images  # noqa: PLC0415
    from opsin.evaluation.robustness import robustness  # noqa: PLC0415

    rows, labels = kept[f"{part}_rows"], kept[f"{part}_labels"]
    right = kept[f"{part}_probabilities"].argmax(axis=1) == labels
    said: dict[str, Any] = {
        "too_weak": too_weak(int(right.sum()), labels, dataset.classes),
        "robustness": robustness(
            classifier.probabilities, dataset.images, dataset.labels, rows, watcher=watcher
        ),
        "strangers": None,
    }
    familiar = kept.get(f"{part}_familiarity")
    if familiar is not None and not said["too_weak"]:
        reject = classifier.metadata.reject
        kinds = strange_images(*dataset.images.shape[1:])
        if dataset.recipe.source == "digits":
            del kinds["digits"]
        watcher.begin("Strange", len(kinds), "kinds")
        values = {}
        for done, (name, images) in enumerate(kinds.items(), start=1):
            values[name] = classifier.layers(images, ["familiarity"])["familiarity"]
            watcher.advance(done)
        watcher.end()
        step = max(1, len(familiar) // _COMPARED)
        threshold = None if reject is None else reject.threshold
        said["strangers"] = measure_strangers(familiar[::step], values, threshold)
    mapped = typical_rows(len(rows), _MAPPED)
    rows, labels = rows[mapped], labels[mapped]
    watcher.begin("Map", len(rows), "images")
    embeddings = []
    done = 0
    for values_of in classifier.iter_layers(dataset.images, ["embedding"], rows):
        embeddings.append(values_of["embedding"])
        watcher.advance(done := done + len(embeddings[-1]))
    watcher.end()
    answers = kept[f"{part}_probabilities"][mapped].argmax(axis=1)
    names = [dataset.names[row] for row in rows]
    placed = map_embedding(np.concatenate(embeddings), labels)
    said["map"] = map_to_json(placed, names, labels, answers, dataset.classes)
    return said
