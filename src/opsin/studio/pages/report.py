"""A run's report, with its images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, RunPredictions
from opsin.core.artifacts.run_report import PartFigures, Report, Slices
from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, counted, file_size, percent, plus_minus, with_interval
from opsin.evaluation.metric_table import known_metrics
from opsin.report.run_page import verdict
from opsin.report.terminal import corrected_in_words, ood_in_words, over_classes
from opsin.studio.pages.plan_preview import layer_sheet
from opsin.studio.pages.relabel import open_relabel
from opsin.studio.parts import layout
from opsin.studio.parts.gallery import GalleryImage
from opsin.studio.parts.image_sheet import ImageSheet
from opsin.studio.parts.matrix import MOST, Matrix
from opsin.studio.runs.run_index import RunRow
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.decoded_dataset import DecodedDataset
    from opsin.studio.state import Studio

# Images of a cell that are shown.
_OF_CELL: Final = 200
# Pairs of classes that are listed where there are too many for a matrix.
_PAIRS: Final = 20
#: Figures of a run's folder that are shown, and what each is.
_DRAWN: Final = (
    ("curves", "Loss and accuracy by epoch"),
    ("calibration", "Confidence and accuracy"),
    ("roc", "ROC curve of each class"),
    ("slices", "Accuracy by brightness, contrast and other traits"),
    ("answers", "Answers to images drawn at random"),
    ("mistakes", "Mistakes"),
    ("map", "Map of the test images"),
    ("robustness", "Accuracy on corrupted images"),
)


async def show(studio: Studio, row: RunRow, directory: RunDirectory, *, cell: str) -> None:
    """Show the whole report.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.
        cell: The cell whose images are shown: right class and answer, as ``3-5``; or nothing.

    Raises:
        RunError: ``report.json`` is damaged.
    """
    report = await asyncio.to_thread(directory.read, Report)
    drawn = await asyncio.to_thread(_drawn, directory)
    chosen = _cell(cell, len(report.judged.classes))
    place = _above(row, report, chosen)
    _below(row, report, drawn)
    if chosen:
        await ui.context.client.connected()
        with place:
            await _show_cell(studio, row, directory, report, chosen)


def _above(row: RunRow, report: Report, chosen: tuple[int, int] | None) -> ui.element:
    """Show verdict, figures and matrix; return the place of the chosen cell's images."""
    figures = report.judged
    with ui.element("p").classes("op-verdict"):
        ui.label(verdict(report))
    layout.figures(figure_rows(figures))
    for line in _warnings(report):
        with ui.element("p").classes("op-muted"):
            ui.label(safe(line, 400))
    names = [entry.name for entry in figures.classes]
    with layout.panel("Confusion matrix"):
        if len(names) <= MOST:
            Matrix(
                figures.confusion, names, address=f"/runs/{row.id}?tab=report&cell=",
                chosen=chosen,
            )  # fmt: skip
            with ui.element("p").classes("op-muted"):
                ui.label("Each number leads to its images.")
        _pairs(row, figures, names)
        place = ui.element("div").props('id="cell"')
    with layout.panel("By class"):
        _by_class(figures)
    return place


def _below(row: RunRow, report: Report, drawn: Sequence[str]) -> None:
    """Show calibration, slices, layers, figures, times and files."""
    slices = report.failures.slices if report.failures else None
    with ui.element("div").classes("op-columns op-below"):
        # Runs of earlier versions lack it.
        if report.judged.reliability:
            with layout.panel("Can you trust its confidence?"):
                _calibration(report)
        if slices:
            with layout.panel("Where does it fail?"):
                _slices(slices)
    known = [(name, what) for name, what in _DRAWN if f"{name}.png" in drawn]
    if known:
        with ui.element("section").classes("op-panel"), ui.expansion("Figures of the report"):
            for name, what in known:
                with ui.element("figure").classes("op-figure"):
                    image = ui.element("img").props('loading="lazy"')
                    image._props["src"] = f"/files/{row.id}/{name}.png"
                    image._props["alt"] = what
                    with ui.element("figcaption"):
                        ui.label(what)
    if report.layers:
        with ui.element("section").classes("op-panel"), ui.expansion("Layers"):
            layer_sheet(report.layers)
    with layout.panel("How was it trained?"):
        _made(row, report)


def figure_rows(figures: PartFigures) -> list[tuple[str, str]]:
    """Return the figures with their 95% intervals, where these are known."""
    over = f" {over_classes(figures)}"
    return [
        (metric.title + over * metric.over_classes, metric.text(figures))
        for metric in known_metrics(figures)
    ]


def _warnings(report: Report) -> list[str]:
    """Return what limits the figures."""
    figures, said = report.judged, []
    if cause := report.training.diverged:
        said.append(f"The training broke off: {cause}. The file is of the best epoch before.")
    if report.rests_on:
        said.append(report.rests_on)
    if report.split == "test" and report.looks > 1:
        said.append(
            f"This test set was looked at {count(report.looks)} times by the runs of this folder: "
            "the best of several figures is a little too good."
        )
    if figures.few_groups:
        said.append(
            f"These images come in {count(figures.groups or 0)} groups, which are few: the "
            "intervals are rough."
        )
    if figures.corrected:
        said.append(f"{corrected_in_words(figures.corrected, report.split)}.")
    if report.leaks.all_copied:
        said.append(
            "Every test image has an exact copy among the training images, so the validation "
            "images are judged by instead."
        )
    elif shared := report.leaks.exact + report.leaks.near:
        said.append(
            f"{count(shared)} test images have a copy or a near duplicate among the training "
            "images (kept, as they were given)."
        )
    if without := figures.without_leaks:
        said.append(f"Without them: {plus_minus(without)} on {count(without.images)}.")
    if refused := figures.refused:
        said.append(
            f"{count(refused.count)} of {count(refused.images)} images get the answer "
            f'"none of these" ({percent(refused.share)}), since they look unlike the training.'
        )
    if report.ood:
        said.append(f"Unknown images: {ood_in_words(report.ood)} (0.5 is chance).")
    return said


def _pairs(row: RunRow, figures: PartFigures, names: Sequence[str]) -> None:
    """List the pairs that are most often confused, each with the way to its images."""
    pairs = figures.confused[:_PAIRS] if len(names) > MOST else figures.confused[:5]
    if not pairs:
        with ui.element("p"):
            ui.label("No classes are confused.")
        return
    with ui.element("ul").classes("op-pairs"):
        for pair in pairs:
            at = f"{names.index(pair.actual)}-{names.index(pair.predicted)}"
            with ui.element("li"):
                words = f"{safe(pair.actual, 60)} → {safe(pair.predicted, 60)}"
                ui.link(words, f"/runs/{row.id}?tab=report&cell={at}")
                ui.label(f"{count(pair.count)} of {count(pair.of)}").classes("op-muted")


def _by_class(figures: PartFigures) -> None:
    rows = []
    for entry in figures.classes:
        cells = [entry.name]
        for value, ends in (
            (entry.precision, entry.precision_interval),
            (entry.recall, entry.recall_interval),
            (entry.f1, entry.f1_interval),
        ):
            cells.append(with_interval(value, *(ends or ())) if entry.count else "—")
        rows.append([*cells, count(entry.count)])
    ImageSheet(["Class", "Precision", "Recall", "F1", "Images"], rows, "Figures of each class")


def _calibration(report: Report) -> None:
    figures = report.judged
    with ui.element("p"):
        text = f"Calibration error {figures.calibration_error:.4f}"
        if figures.uncalibrated:
            text += f" (before calibration {figures.uncalibrated.calibration_error:.4f})"
        if report.calibration:
            text += f"; temperature {report.calibration.temperature:.3f}"
        ui.label(f"{text}. 0 means: of the answers given at 80%, four out of five are right.")
    rows = [
        [
            f"{percent(entry.low)} to {percent(entry.high)}",
            percent(entry.confidence),
            percent(entry.accuracy),
            count(entry.count),
        ]
        for entry in figures.reliability
    ]
    ImageSheet(["Confidence", "Mean", "Right", "Images"], rows, "Confidence and accuracy")


def _slices(slices: Slices) -> None:
    if slices.too_weak:
        with ui.element("p"):
            ui.label(f"The classifier is too weak to tell: {safe(slices.too_weak, 400)}.")
        return
    rows = []
    for entry in slices.weakest:
        why = "as its classes explain" if entry.explained else "more than its classes explain"
        rows.append(
            [entry.name, plus_minus(entry), count(entry.images),
             why if entry.weak else "within chance"]
        )  # fmt: skip
    if not rows:
        with ui.element("p"):
            ui.label("No group of images stands out.")
        return
    ImageSheet(["Images with", "Accuracy", "Images", "Lower than the rest"], rows, "Weakest slices")


def _made(row: RunRow, report: Report) -> None:
    training, seconds = report.training, report.seconds
    with ui.element("p"):
        ui.label(safe(report.dataset))
    length = []  # an imported run was trained elsewhere
    if training.fitted_to is not None:
        length = [("Fitted to", counted(training.fitted_to, "image"))]
    elif training.best_epoch is not None:
        of = f"{training.epochs:,} of {training.asked:,}, best {training.best_epoch:,}"
        length = [("Epochs", of)]
    layout.figures(
        [
            ("Device", safe(training.device)),
            *length,
            ("Parameters", count(training.parameters or 0)),
            ("Training", clock(seconds.get("train", 0.0))),
            ("Total", clock(sum(seconds.values()))),
            ("classifier.onnx", file_size(report.file.bytes or 0)),
        ]
    )
    for name, reason in report.reasons.items():
        with ui.element("p").classes("op-muted"):
            ui.label(safe(f"{name}: {reason}", 400))
    with ui.element("div").classes("op-actions"):
        for name in (
            "classifier.onnx",
            "report.html",
            "report.json",
            "recipe.json",
            "pictures.csv",
        ):
            ui.link(name, f"/files/{row.id}/{name}")


def _drawn(directory: RunDirectory) -> list[str]:
    return [path.name for path in directory.figures.glob("*.png")]


# The images of a cell.


def _cell(text: str, classes: int) -> tuple[int, int] | None:
    """Read ``3-5``; nothing where that is no cell."""
    parts = text.split("-")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 7 for p in parts):
        return None
    actual, predicted = map(int, parts)
    return (actual, predicted) if max(actual, predicted) < classes else None


async def _show_cell(
    studio: Studio, row: RunRow, directory: RunDirectory, report: Report, chosen: tuple[int, int]
) -> None:
    names = [entry.name for entry in report.judged.classes]
    actual, predicted = (safe(names[each], 60) for each in chosen)
    title = f"{actual}, known" if chosen[0] == chosen[1] else f"{actual} classified as {predicted}"
    with ui.element("h3") as heading:
        ui.label(title)
    try:
        answers, places = await asyncio.to_thread(_of_cell, directory, report, chosen)
        relabel = await open_relabel(studio, row, directory)
    except OpsinError as error:
        layout.error_line(error)
        return
    if heading.is_deleted:
        return  # the window was closed meanwhile
    with ui.element("p").classes("op-muted"):
        more = f", the first {_OF_CELL} by confidence" if len(places) > _OF_CELL else ""
        ui.label(f"{count(len(places))} images{more}. Choose some to give them another class.")
    relabel.bar()
    if places:
        relabel.gallery(shown(answers, relabel.opened, places[:_OF_CELL], names), title)
    ui.run_javascript("document.getElementById('cell').scrollIntoView({block: 'start'})")


def _of_cell(
    directory: RunDirectory, report: Report, cell: tuple[int, int]
) -> tuple[PartPredictions, list[int]]:
    answers = RunPredictions.read(directory).of(report.split)
    return answers, answers.surest((answers.labels == cell[0]) & (answers.answers == cell[1]))


def shown(
    answers: PartPredictions, opened: DecodedDataset, places: Sequence[int], names: Sequence[str]
) -> list[GalleryImage]:
    """Return images with their answers, as a gallery shows them.

    Args:
        answers: Those of the run.
        opened: Its images.
        places: Which of the answers.
        names: The classes.
    """
    found = []
    for place in places:
        image, right = int(answers.rows[place]), bool(answers.right[place])
        label, answer = names[int(answers.labels[place])], names[int(answers.answers[place])]
        sure = percent(float(answers.confidence[place]))
        found.append(
            GalleryImage(
                str(image),
                opened.address(image),
                f"{opened.name(image)}, {label}, answer {answer} {sure}",
                f"{answer} {sure}",
                "right" if right else "wrong",
            )
        )
    return found
