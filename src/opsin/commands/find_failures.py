"""Where a run's classifier fails: wrong labels, weak slices, disturbed and strange images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import (
    DeepAnalysis,
    Failures,
    MapFigures,
    StrangeKind,
    SuspectedLabel,
)
from opsin.core.events import Watcher
from opsin.data.cache import digest_names
from opsin.data.dataset import Dataset
from opsin.data.table_columns import columns_of
from opsin.evaluation.embedding_map import map_embedding, map_figures
from opsin.evaluation.label_errors import clear_examples, doubt_labels, too_weak
from opsin.evaluation.mistakes import typical_rows
from opsin.evaluation.out_of_distribution import measure_synthetic_ood, strange_images
from opsin.evaluation.robustness import robustness
from opsin.evaluation.slices import measure_traits, slice_accuracy
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    pass

#: Suspected label errors that a report names.
SUSPECTS: Final = 200
# Known images that strange ones are compared with, and that the map is made from, at most.
_COMPARED, _MAPPED = 2000, 5000


def find_failures(
    dataset: Dataset, predictions: RunPredictions, part: PredictedPart, watcher: Watcher
) -> Failures:
    """Find suspected label errors and weak slices: what takes seconds."""
    unseen = predictions.parts.get("out_of_fold", predictions.parts.get("val"))
    suspects, doubts = [], None
    if unseen is not None:
        labels, probabilities, rows = unseen.labels, unseen.probabilities, unseen.rows
        doubts = doubt_labels(probabilities, labels, dataset.classes, unseen.groups)
        doubted = doubts.suspects
        for place, suggested, score in zip(
            doubted.rows[:SUSPECTS], doubted.suggested, doubted.scores, strict=False
        ):
            clear = clear_examples(probabilities, labels, int(suggested), 1)
            row = int(rows[place])
            suspects.append(
                SuspectedLabel(
                    row=row,
                    name=dataset.names[row],
                    digest=digest_names(dataset.digests[[row]])[0],
                    label=dataset.classes[labels[place]],
                    suggested=dataset.classes[suggested],
                    score=round(float(score), 6),
                    example=int(rows[clear[0]]) if len(clear) else None,
                )
            )
    judged = predictions.of(part)
    columns = {
        name: [texts[row] for row in judged.rows] for name, texts in columns_of(dataset).items()
    }
    slices = slice_accuracy(
        judged.right,
        measure_traits(dataset.images, judged.rows, dataset.sizes, watcher=watcher),
        columns,
        labels=judged.labels,
        groups=judged.groups,
        too_weak=too_weak(judged.right, judged.labels, dataset.classes, judged.groups),
        out_of_fold=part == "out_of_fold",
    )
    return Failures(
        suspects=suspects,
        suspected=0 if doubts is None else len(doubts.suspects),
        labels=None if doubts is None else doubts.evidence,
        slices=slices,
    )


def look_deeper(
    classifier: Classifier,
    dataset: Dataset,
    judged: PartPredictions,
    watcher: Watcher,
) -> DeepAnalysis:
    """Disturb images, show strange ones, and map all of them: what takes a minute."""
    weak = too_weak(judged.right, judged.labels, dataset.classes, judged.groups)
    disturbed = robustness(
        classifier.probabilities,
        dataset.images,
        dataset.labels,
        judged.rows,
        groups=dataset.units,
        watcher=watcher,
    )
    return DeepAnalysis(
        too_weak=weak,
        robustness=disturbed,
        strangers=None if weak else _show_strangers(classifier, dataset, judged, watcher),
        map=_map_images(classifier, dataset, judged, watcher),
    )


def _show_strangers(
    classifier: Classifier, dataset: Dataset, judged: PartPredictions, watcher: Watcher
) -> list[StrangeKind] | None:
    """Show images of other things; ``None`` where the file cannot tell them."""
    if judged.ood_score is None:
        return None
    kinds = strange_images(*dataset.images.shape[1:])
    if dataset.recipe.source == "digits":
        del kinds["digits"]
    watcher.begin("Strange", len(kinds), "kinds")
    values = {}
    for done, (name, images) in enumerate(kinds.items(), start=1):
        found = [part.ood_score for part in classifier.iter_answers(images)]
        values[name] = np.concatenate([part for part in found if part is not None])
        watcher.advance(done)
    watcher.end()
    step = max(1, len(judged.ood_score) // _COMPARED)
    reject = classifier.metadata.reject
    return measure_synthetic_ood(
        judged.ood_score[::step], values, None if reject is None else reject.max_ood_score
    )


def _map_images(
    classifier: Classifier, dataset: Dataset, judged: PartPredictions, watcher: Watcher
) -> MapFigures:
    """Lay images out on a plane by their embeddings."""
    mapped = typical_rows(len(judged.rows), _MAPPED)
    rows, labels = judged.rows[mapped], judged.labels[mapped]
    watcher.begin("Map", len(rows), "images")
    embeddings = []
    done = 0
    for values_of in classifier.iter_layers(dataset.images, ["embedding"], rows):
        embeddings.append(values_of["embedding"])
        watcher.advance(done := done + len(embeddings[-1]))
    watcher.end()
    names = [dataset.names[row] for row in rows]
    placed = map_embedding(np.concatenate(embeddings), labels)
    return map_figures(placed, names, labels, judged.answers[mapped], dataset.classes)
