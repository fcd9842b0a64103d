"""A run's report: failures, figures, page and model card."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from opsin.commands.evaluate import measure_run
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.arrays import Ints
from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import DeepAnalysis, Failures, Report, SuspectedLabel
from opsin.core.errors import OpsinError, RunError
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.storage import check_writable, write_bytes
from opsin.data.cache import digest_names
from opsin.data.corrections import Correction, with_earlier, write_corrections
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places, load_run_images
from opsin.data.sources.table import columns_of
from opsin.evaluation.mistakes import (
    cells_of,
    check_seed,
    clear_examples,
    confident_mistakes,
    doubt_labels,
    drawn_rows,
    least_confident_correct,
    too_weak,
    typical_rows,
)
from opsin.evaluation.out_of_distribution import measure_synthetic_ood, strange_images
from opsin.evaluation.slices import measure_traits, slice_accuracy
from opsin.report.card import model_card
from opsin.report.figures import run_figures
from opsin.report.figures.failure_figures import draw_map, draw_robustness, draw_slices
from opsin.report.figures.style import save, styled, svg_of
from opsin.report.run_page import PageImages, render
from opsin.report.terminal import labels_grounds
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Suspected label errors that a report names.
SUSPECTS: Final = 200
# Known images that strange ones are compared with, and that the map is made from, at most.
_COMPARED, _MAPPED = 2000, 5000
# Figures that the page has in a form of its own, or leaves out.
_BESIDE_THE_PAGE: Final = ("answers", "mistakes", "confusion")
_page_wanted: Final[ContextVar[bool]] = ContextVar("page_wanted", default=True)


@checked
def write_report(
    run: str | os.PathLike[str],
    *,
    deep: bool = True,
    fix: str | os.PathLike[str] | None = None,
    data: Places = (),
    seed: int = 0,
    device: str = "auto",
    watcher: Watcher = SILENT,
) -> Path:
    """Draw a finished run's figures and page anew.

    Args:
        run: A run directory.
        deep: Also disturb images, show strange ones and draw the map, which takes a minute.
        fix: File for the suspected label errors, to be corrected by hand and given to a later
            training as ``labels``. It is not written for a classifier that is too weak to tell;
            then ``watcher`` receives the reason.
        data: Where the run's images are now, if they were moved; they must be the same.
        seed: Seed for drawing examples of the answers.
        device: Device, as for `opsin.Classifier`.
        watcher: Receives the progress of the work.

    Returns:
        The page, ``report.html``.

    Raises:
        RecipeError: The seed is below 0.
        RunError: The run is missing or not finished.
        MovedError: The run's images are gone, and ``data`` does not name their new place.
        SourceError: They have changed since.
        StorageError: The disk refuses a write.
    """
    check_seed(seed)
    directory = RunDirectory.open(run)
    report = directory.read(Report)  # says so at once, where the run is not finished
    for file in (directory.page, *([] if fix is None else [Path(fix)])):
        check_writable(file)  # likewise
    images = load_run_images(directory, data, watcher=watcher)
    predictions = _predictions_of(directory, images)
    classifier = Classifier(directory.path, device=device, watcher=watcher)
    evaluation = measure_run(classifier.metadata, predictions, images)
    failures = find_failures(images, predictions, report.split, watcher)
    update: dict[str, object] = {"figures": dict(evaluation.figures), "failures": failures}
    if deep:
        update["deep"] = look_deeper(classifier, images, predictions.of(report.split), watcher)
    report = report.model_copy(update=update)
    report.write(directory.path)
    if fix is not None and failures.labels and failures.labels.too_weak:
        grounds = labels_grounds(failures.suspected, failures.labels)
        watcher.note(f"{os.fspath(fix)} was not written. {grounds}")
    elif fix is not None:
        rows = [
            Correction(
                suspect.digest, suspect.name, suspect.label, suspect.suggested, suspect.score
            )
            for suspect in failures.suspects
        ]
        write_corrections(fix, with_earlier(rows, images.corrections))
    draw_run(directory, report, images, predictions, watcher, seed=seed)
    return directory.page


def _predictions_of(directory: RunDirectory, dataset: Dataset) -> RunPredictions:
    parts: dict[PredictedPart, PartPredictions] = {}
    for part, kept in RunPredictions.read(directory):
        if not np.array_equal(dataset.labels[kept.rows], kept.labels):
            raise RunError(
                f"The labels of its {part} part in {directory.predictions.name} are others than "
                f"those in {directory.split.name}",
                "Restore the run's files, or train again.",
            )
        parts[part] = replace(kept, groups=dataset.units[kept.rows])
    return RunPredictions(parts)


@contextlib.contextmanager
def without_page() -> Iterator[None]:
    """Let trainings write no figures, page and model card, most of the time of a small one."""
    before = _page_wanted.set(False)
    try:
        yield
    finally:
        _page_wanted.reset(before)


def draw_run(
    directory: RunDirectory,
    report: Report,
    dataset: Dataset,
    predictions: RunPredictions,
    watcher: Watcher,
    *,
    seed: int = 0,
) -> None:
    """Write ``figures/``, ``report.html`` and ``README.md`` from the run's files and images."""
    if not _page_wanted.get():
        return
    recipe, history = Run(directory.path).recipe, directory.lines(Epoch)
    images = _images(dataset, report, predictions.of(report.split), seed)
    drawings = _drawings(report, history, images)
    for name in (*drawings, "disturbed"):  # those of an earlier report, which drew others, too
        for kind in ("png", "svg"):
            with contextlib.suppress(OSError):
                (directory.figures / f"{name}.{kind}").unlink()
    watcher.begin("Report", len(drawings) + 1, "figures")
    drawn: dict[str, str] = {}
    with styled():
        for done, (name, draw) in enumerate(drawings.items()):
            watcher.advance(done)
            with best_effort(f"the figure {name}", watcher):
                figure = draw()
                save(figure, directory.figures / f"{name}.png")
                if name not in _BESIDE_THE_PAGE:
                    drawn[name] = svg_of(figure)
    name = directory.path.name
    with best_effort("the model card", watcher, directory.card):
        source = recipe.data.source_names
        card = model_card(report, recipe.training.seed, name=name, source=source)
        write_bytes(directory.card, card.encode("utf-8", "replace"))
    page = render(report, recipe, history, name=name, images=images, drawn=drawn)
    write_bytes(directory.page, page.encode("utf-8", "replace"))
    watcher.end()


def _drawings(
    report: Report, history: Sequence[Epoch], images: PageImages
) -> dict[str, Callable[[], Figure]]:
    figures, failures, deep = report.judged, report.failures, report.deep
    answers, mistakes = images.drawn, images.mistakes
    right = sum(answer.right for answer in answers)
    drawings: dict[str, Callable[[], Figure]] = {
        "confusion": lambda: run_figures.draw_confusion(figures),
        "answers": lambda: run_figures.draw_answers(
            answers,
            f"{right} of {len(answers)} drawn at random are right; in all {figures.accuracy:.1%}",
        ),
        "mistakes": lambda: run_figures.draw_answers(
            mistakes[:15], "The most confident mistakes" if mistakes else "No mistakes"
        ),
        "calibration": lambda: run_figures.draw_reliability(figures),
    }
    if len(history) > 1:
        drawings["curves"] = lambda: run_figures.draw_curves(history, report.training.unit)
    if any(entry.roc for entry in figures.curves.classes):
        drawings["roc"] = lambda: run_figures.draw_curves_of_classes(figures)
    if failures and failures.slices.traits:
        drawings["slices"] = lambda: draw_slices(failures.slices)
    if deep:
        drawings["robustness"] = lambda: draw_robustness(deep.robustness)
        drawings["map"] = lambda: draw_map(deep.map)
    return drawings


@contextlib.contextmanager
def best_effort(what: str, watcher: Watcher, file: Path | None = None) -> Iterator[None]:
    """Note the failure of a part of the report, and go on without it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, the run is worth more
        why = str(error) if isinstance(error, OpsinError) else f"{type(error).__name__}: {error}"
        watcher.note(f"{what} could not be made, and is left out ({why})")
        if file is not None:  # of an earlier report
            with contextlib.suppress(OSError):
                file.unlink()


def _images(dataset: Dataset, report: Report, judged: PartPredictions, seed: int) -> PageImages:
    labels, probabilities, classes = judged.labels, judged.probabilities, dataset.classes
    suspects = report.failures.suspects[:12] if report.failures else ()

    def shown(indices: Ints) -> list[run_figures.ShownAnswer]:
        return [
            run_figures.ShownAnswer(
                pixels=dataset.images[row],
                name=dataset.names[row],
                actual=classes[labels[index]],
                probabilities=dict(zip(classes, map(float, probabilities[index]), strict=True)),
            )
            for index, row in zip(indices, judged.rows[indices], strict=True)
        ]

    return PageImages(
        drawn=shown(drawn_rows(len(labels), seed=seed)),
        seed=seed,
        mistakes=shown(confident_mistakes(probabilities, labels)),
        unsure=shown(least_confident_correct(probabilities, labels)),
        cells=[(cell, shown(cell.rows)) for cell in cells_of(probabilities, labels)],
        suspects=[
            (
                suspect,
                dataset.images[suspect.row],
                None if suspect.example is None else dataset.images[suspect.example],
            )
            for suspect in suspects
        ],
    )


def find_failures(
    dataset: Dataset, predictions: RunPredictions, part: PredictedPart, watcher: Watcher
) -> Failures:
    """Find suspected label errors and weak slices, within seconds."""
    unseen = predictions.parts.get("out_of_fold", predictions.parts.get("val"))
    suspects, suspected, evidence = [], 0, None
    if unseen is not None:
        labels, probabilities, rows = unseen.labels, unseen.probabilities, unseen.rows
        doubted, evidence = doubt_labels(probabilities, labels, dataset.classes, unseen.groups)
        suspected = len(doubted)
        for index, suggested, score in zip(
            doubted.rows[:SUSPECTS], doubted.suggested, doubted.scores, strict=False
        ):
            clear = clear_examples(probabilities, labels, int(suggested), 1)
            row = int(rows[index])
            suspects.append(
                SuspectedLabel(
                    row=row,
                    name=dataset.names[row],
                    digest=digest_names(dataset.digests[[row]])[0],
                    label=dataset.classes[labels[index]],
                    suggested=dataset.classes[suggested],
                    score=round(float(score), 6),
                    example=int(rows[clear[0]]) if len(clear) else None,
                )
            )
    judged = predictions.of(part)
    columns = {
        name: [texts[row] for row in judged.rows]
        for name, texts in columns_of(dataset.located, dataset.names, dataset.groups).items()
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
    return Failures(suspects=suspects, suspected=suspected, labels=evidence, slices=slices)


def look_deeper(
    classifier: Classifier, dataset: Dataset, judged: PartPredictions, watcher: Watcher
) -> DeepAnalysis:
    """Disturb images, show strange ones, and map all of them, within a minute."""
    from opsin.evaluation.embedding_map import map_embedding  # noqa: PLC0415  slow to import
    from opsin.evaluation.robustness import robustness  # noqa: PLC0415  likewise

    weak = too_weak(judged.right, judged.labels, dataset.classes, judged.groups)
    disturbed = robustness(
        classifier.probabilities,
        dataset.images,
        dataset.labels,
        judged.rows,
        groups=dataset.units,
        watcher=watcher,
    )
    strangers = None
    if not weak and judged.ood_score is not None:  # else it cannot tell images of other things
        kinds = strange_images(*dataset.images.shape[1:])
        if dataset.recipe.source == "digits":
            del kinds["digits"]
        scores = {}
        for name in watched(watcher, "Strange", len(kinds), kinds, unit="kinds"):
            parts = [part.ood_score for part in classifier.iter_answers(kinds[name])]
            scores[name] = np.concatenate([part for part in parts if part is not None])
        step, reject = max(1, len(judged.ood_score) // _COMPARED), classifier.metadata.reject
        most = None if reject is None else reject.max_ood_score
        strangers = measure_synthetic_ood(judged.ood_score[::step], scores, most)
    mapped = typical_rows(len(judged.rows), _MAPPED)
    rows, labels = judged.rows[mapped], judged.labels[mapped]
    values = classifier.iter_layers(dataset.images, ["embedding"], rows)
    seen = (part["embedding"] for part in values)
    embeddings = [*watched(watcher, "Map", len(rows), seen, size=len)]
    names = [dataset.names[row] for row in rows]
    return DeepAnalysis(
        too_weak=weak,
        robustness=disturbed,
        strangers=strangers,
        map=map_embedding(
            np.concatenate(embeddings), labels, judged.answers[mapped], names, dataset.classes
        ),
    )
