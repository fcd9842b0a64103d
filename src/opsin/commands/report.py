"""The figures, the page and the model card of a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.evaluate import measure_run, source_labels
from opsin.commands.find_failures import find_failures, look_deeper
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError, RunError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import check_writable, write_bytes
from opsin.data.corrections import Correction, with_earlier, write_corrections
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places, load_run_images
from opsin.evaluation.mistakes import (
    cells_of,
    check_seed,
    confident_mistakes,
    drawn_rows,
    least_confident_correct,
)
from opsin.evaluation.robustness import disturbed_examples
from opsin.report.card import model_card
from opsin.report.doubts import labels_grounds
from opsin.report.figures.calibration_figures import draw_curves_of_classes, draw_reliability
from opsin.report.figures.failure_figures import (
    draw_disturbed,
    draw_map,
    draw_robustness,
    draw_slices,
)
from opsin.report.figures.run_figures import ShownAnswer, draw_answers, draw_confusion, draw_curves
from opsin.report.figures.style import save, styled
from opsin.report.run_page import Cell, Images, Suspect, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Figures that the page has in a form of its own, or leaves out.
_BESIDE_THE_PAGE: Final = ("answers", "mistakes", "confusion", "disturbed")


@checked
def write_report(
    run: str | os.PathLike[str],
    *,
    deep: bool = True,
    fix: str | os.PathLike[str] | None = None,
    data: Places = (),
    seed: int = 0,
    watcher: Watcher = SILENT,
) -> Path:
    """Draw a finished run's figures and page anew.

    Args:
        run: A run directory.
        deep: Also disturb images, show strange ones and draw the map, which takes a minute.
        fix: File for the suspected label errors, to be corrected by hand and given to a later
            training as ``labels``. From a classifier that is too weak to tell it is not written,
            and ``watcher`` is told why.
        data: Where the run's images are now, if they were moved; they must be the same.
        seed: Decides which images are drawn as examples of the answers; another one draws others.
        watcher: Is told how far the work is.

    Returns:
        The page, ``report.html``.

    Raises:
        RecipeError: The seed is below 0.
        RunError: The run is missing or not finished.
        MovedError: The images it was made from are gone, and ``data`` does not say where to.
        SourceError: They have changed since.
        StorageError: The disk refuses a write.
    """
    check_seed(seed)
    opened = Run(run)
    facts = opened.report  # says so at once, where the run is not finished
    directory = opened.directory
    for file in (directory.page, *([] if fix is None else [Path(fix)])):
        check_writable(file)  # likewise
    images = load_run_images(directory, data, watcher=watcher)
    classifier = opened.classifier()
    kept = _answers_of(directory, images)
    leaking = np.concatenate(images.leaking)
    for part in ("val", "test"):  # runs of earlier versions did not keep them
        if f"{part}_rows" in kept:
            kept |= source_labels(images, part)
    evaluation = measure_run(classifier.metadata, kept, leaking, images.corrected)
    facts["figures"] = evaluation.figures
    facts["failures"] = find_failures(images, kept, facts["split"], watcher)
    if deep:
        facts["deep"] = look_deeper(classifier, images, kept, facts["split"], watcher)
    Report.model_validate(facts).write(directory.path)
    if fix is not None:
        _write_suspects(fix, images, facts["failures"], watcher)
    draw_run(directory, images, kept, watcher, seed)
    return directory.page


def _answers_of(directory: RunDirectory, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return a run's ``predictions.npz``, which must be about these images and their labels.

    Raises:
        RunError: It is not: what would be said of one image would be written of another.
    """
    kept = directory.load_arrays(directory.predictions)
    for part in ("val", "test"):
        rows = kept.get(f"{part}_rows")
        if rows is not None and not np.array_equal(dataset.labels[rows], kept[f"{part}_labels"]):
            raise RunError(
                f"answers in {directory.predictions.name} to the run's own images",
                f"labels of its {part} part are others than those of {directory.split.name}",
                "Restore the run's files, or train again.",
            )
    return kept


def _write_suspects(
    file: str | os.PathLike[str], dataset: Dataset, failures: dict[str, Any], watcher: Watcher
) -> None:
    """Write a corrections file: the suspects, and what was corrected before.

    Where the classifier is too weak to tell, nothing is written.
    """
    if failures["labels"] and failures["labels"]["too_weak"]:
        watcher.note(f"{os.fspath(file)} was not written. {labels_grounds(failures)}")
        return
    rows = [
        Correction(
            each["digest"],
            each["name"],
            each["label"],
            suggested=each["suggested"],
            score=each["score"],
            present=each["label"],
        )
        for each in failures["suspects"]
    ]
    earlier = dataset.corrected.rows if dataset.corrected else ()
    write_corrections(file, with_earlier(rows, earlier))


def draw_run(
    directory: RunDirectory,
    dataset: Dataset,
    kept: dict[str, NDArray[Any]],
    watcher: Watcher,
    seed: int = 0,
) -> None:
    """Write ``figures/``, ``report.html`` and ``README.md`` from the run's files and images.

    A figure that fails is left out, and so is the card.

    Args:
        directory: The run.
        dataset: Its images.
        kept: What ``predictions.npz`` holds, its rows those of ``dataset``.
        watcher: Is told how far the work is.
        seed: Decides which examples of the answers are shown.
    """
    run = Run(directory.path)
    facts, recipe = run.report, run.recipe.model_dump(mode="json")
    history = directory.read_history()
    figures = facts["figures"][facts["split"]]
    images = _images(dataset, facts, kept, seed)
    drawn_ones, mistakes = images.drawn, images.mistakes
    right = sum(answer.right for answer in drawn_ones)
    drawings: dict[str, Callable[[], Figure]] = {
        "confusion": lambda: draw_confusion(figures),
        "answers": lambda: draw_answers(
            drawn_ones,
            f"{right} of {len(drawn_ones)} drawn at random are right; in all "
            f"{figures['accuracy']:.1%}",
        ),
        "mistakes": lambda: draw_answers(
            mistakes[:15], "The most confident mistakes" if mistakes else "No mistakes"
        ),
        "calibration": lambda: draw_reliability(figures),
    }
    if len(history) > 1:
        unit = facts["training"].get("unit", "epochs")
        drawings["curves"] = lambda: draw_curves(history, unit)
    if any("roc" in entry for entry in figures["curves"]["classes"]):
        drawings["roc"] = lambda: draw_curves_of_classes(figures)
    if facts["failures"]["slices"]["traits"]:
        drawings["slices"] = lambda: draw_slices(facts["failures"]["slices"])
    if facts.get("deep"):
        first = drawn_ones[0].pixels
        drawings["disturbed"] = lambda: draw_disturbed(disturbed_examples(first), first)
        drawings["robustness"] = lambda: draw_robustness(facts["deep"]["robustness"])
        drawings["map"] = lambda: draw_map(facts["deep"]["map"])
    watcher.begin("Report", len(drawings) + 1, "figures")
    drawn: dict[str, str] = {}
    with styled():
        for done, (name, draw) in enumerate(drawings.items()):
            watcher.advance(done)
            files = [directory.figures / f"{name}.{kind}" for kind in ("png", "svg")]
            with spared(f"the figure {name}", watcher, files):
                figure = draw()
                for file in files:
                    save(figure, file)
                if name not in _BESIDE_THE_PAGE:
                    drawn[name] = files[1].read_text(encoding="utf-8")
    with spared("the model card", watcher, [directory.card]):
        card = model_card(facts, recipe, name=directory.path.name)
        write_bytes(directory.card, card.encode("utf-8", "replace"))
    page = render(facts, recipe, history, name=directory.path.name, images=images, drawn=drawn)
    write_bytes(directory.page, page.encode("utf-8", "replace"))
    watcher.end()


@contextlib.contextmanager
def spared(what: str, watcher: Watcher, files: Sequence[Path] = ()) -> Iterator[None]:
    """Let a part of the report fail without the rest: hours of training may hang on it.

    Args:
        what: The part, as the warning calls it.
        watcher: Is told which part is missing, and why.
        files: Its files; what is left of earlier ones goes, since it would show something else.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, the run is worth more
        why = str(error) if isinstance(error, OpsinError) else f"{type(error).__name__}: {error}"
        watcher.note(f"{what} could not be made, and is left out ({why})")
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()


def _images(
    dataset: Dataset, facts: dict[str, Any], kept: dict[str, NDArray[Any]], seed: int
) -> Images:
    """Choose the images that the page shows."""
    part = facts["split"]
    rows, labels, probabilities = (
        kept[f"{part}_{what}"] for what in ("rows", "labels", "probabilities")
    )
    classes = dataset.classes

    def shown(places: NDArray[np.int64]) -> list[ShownAnswer]:
        return [
            ShownAnswer(
                pixels=dataset.images[rows[place]],
                name=dataset.names[rows[place]],
                actual=classes[labels[place]],
                probabilities=dict(zip(classes, map(float, probabilities[place]), strict=True)),
            )
            for place in places
        ]

    return Images(
        drawn=shown(drawn_rows(len(rows), seed=seed)),
        seed=seed,
        mistakes=shown(confident_mistakes(probabilities, labels)),
        unsure=shown(least_confident_correct(probabilities, labels)),
        cells=[
            Cell(cell["actual"], cell["predicted"], cell["count"], shown(cell["rows"]))
            for cell in cells_of(probabilities, labels)
        ],
        suspects=[
            Suspect(
                pixels=dataset.images[each["row"]],
                example=None if each["example"] is None else dataset.images[each["example"]],
                **{name: each[name] for name in ("name", "label", "suggested", "score")},
            )
            for each in facts["failures"]["suspects"][:12]
        ],
    )
