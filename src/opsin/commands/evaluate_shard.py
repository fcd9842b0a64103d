"""An evaluation in shards: each answers a part of the images, and all are measured together."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.commands.classify.each import open_classifier
from opsin.commands.evaluate import (
    EvaluationResult,
    answers_to,
    check_known_classes,
    judge,
    place_of_figures,
    prepared_for,
    result_of,
)
from opsin.commands.labelled_rows import LabelledRows
from opsin.commands.labelled_shard import LabelledShard, MadeShard, recipe_of
from opsin.commands.nearly_seen import can_compare
from opsin.commands.shard_manifest import ShardManifest
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import refuse_swapped
from opsin.core.errors import OpsinError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.dataset import find_given
from opsin.data.decode import check_readable, open_found
from opsin.data.shard import Shard
from opsin.data.sources import find_all
from opsin.data.split import TEST
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers


@checked
def evaluate_shard(
    model: str | os.PathLike[str] | Classifier,
    *sources: object,
    out: str | os.PathLike[str],
    shard: str,
    tta: bool = False,
    device: str = "auto",
    watcher: Watcher = SILENT,
    **options: Any,
) -> MadeShard:
    """Do a part of an evaluation; `opsin.merge` of all gives what `opsin.evaluate` writes.

    A shard that was killed continues where it stopped; one that is finished is not made again.
    Answers to the run's own test images are a look at its test set; all shards of a source are one.

    Args:
        model: See `opsin.evaluate`; an open classifier needs ``threads=1``.
        *sources: See there.
        out: What `opsin.merge` will write: ``figures.json``.
        shard: ``2/3``: the second of three equal parts of the images, into
            ``figures-00002-of-00003.npz``.
        tta: See there.
        device: See there.
        watcher: Receives the progress of the work.
        **options: See there; without ``labels``.

    Raises:
        RecipeError: There is no such shard, or it was made with another model or options.
        SourceError: As `opsin.evaluate` does.
        StorageError: The disk refuses a write.

    Example:
        >>> made = evaluate_shard(                                   # doctest: +SKIP
        ...     "runs/boots", "photos", out="figures.json", shard="2/3"
        ... )
    """
    place = place_of_figures(out, Shard.parse(shard))
    if options.get("labels"):
        raise RecipeError(
            "labels as they are in the source, for a shard",
            f"got corrections, {options['labels']}",
            "Give a table of images with the corrected labels.",
        )
    refuse_swapped(model, sources, "opsin evaluate {model} {images}")
    classifier = open_classifier(model, device=device, watcher=watcher)
    recipe, held = find_given(sources, options | prepared_for(classifier), watcher)
    found = held or find_all(recipe, watcher=watcher)
    contents = open_found(found, recipe, for_training=False)
    check_known_classes(classifier, contents.classes, recipe.source)
    if tta and classifier.without_views:
        watcher.note(classifier.without_views)
    # The others are not judged, whatever the other shards hold.
    asked = contents.given == TEST
    asked = asked if asked.any() else np.ones(len(contents), bool)

    def look(rows: range, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        numbers = np.full((len(images), len(classifier.classes) + 1), np.nan, np.float32)
        places = np.flatnonzero(asked[rows.start : rows.stop])
        if places.size:
            answered = answers_to(classifier, images[places], tta=tta)
            numbers[places, :-1] = answered.probabilities
            if answered.ood_score is not None:
                numbers[places, -1] = answered.ood_score
        return numbers

    made = LabelledShard("evaluate", recipe, contents, place, watcher)
    like = made.preparation()
    return made.make(
        look,
        len(classifier.classes) + 1,
        pixels=can_compare(len(contents), (like.height, like.width, like.channels)),
        made_with={"the classifier": _digest(classifier), "tta": tta},
        where={"model": classifier.title, "file": str(classifier.path.absolute())},
    )


def _digest(classifier: Classifier) -> str:
    return hashlib.sha256(classifier.content).hexdigest()[:16]


def join_evaluation(
    manifests: Sequence[ShardManifest], rows: LabelledRows, watcher: Watcher
) -> EvaluationResult:
    """Measure the answers of all shards together.

    Args:
        manifests: What the shards say of themselves.
        rows: Their images with their answers.
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: The classifier is no longer where the shards were made with it.
        SourceError: Too many files cannot be read.
    """
    recipe, classifier = recipe_of(manifests[0]), _classifier_of(manifests)
    check_readable(rows.decoded, recipe)
    judged = judge(classifier, rows.decoded)
    numbers = rows.found[judged.rows]
    if np.isnan(numbers[:, 0]).any():  # only test images were asked
        raise SourceError(
            "test images that can be read", "none of the source's can", "Check the files."
        )
    scores = None if np.isnan(numbers[:, -1]).any() else numbers[:, -1]
    return result_of(
        classifier, rows.decoded, judged, Answers(np.ascontiguousarray(numbers[:, :-1]), scores),
        model=str(manifests[0].summary["model"]), recipe=recipe, seconds=0.0,
        watcher=watcher, inputs=manifests[0].inputs,
    )  # fmt: skip


def _classifier_of(manifests: Sequence[ShardManifest]) -> Classifier:
    """Open the classifier that shards were made with, where one of them says it is."""
    places = {str(each.summary[name]): None for each in manifests for name in ("file", "model")}
    for place in places:
        with contextlib.suppress(OpsinError):
            classifier = open_classifier(place)
            if _digest(classifier) == manifests[0].options["the classifier"]:
                return classifier
    raise RecipeError(
        "the classifier that the shards were made with, to measure their answers",
        f"it is not at {next(iter(places))}",
        "Bring it back there, or merge on a machine that has it.",
    )
