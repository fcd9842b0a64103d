"""A run's report, with its images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError, RunError
from opsin.core.format import clock, count, file_size, percent, plus_minus, with_interval
from opsin.evaluation.metric_table import known_metrics
from opsin.report.terminal import corrected_in_words, over_classes
from opsin.studio.pages.plan_preview import layer_sheet
from opsin.studio.pages.relabel import open_relabel
from opsin.studio.parts import layout
from opsin.studio.parts.gallery import GalleryImage
from opsin.studio.parts.image_sheet import ImageSheet
from opsin.studio.parts.matrix import MOST, Matrix
from opsin.studio.runs.run_answers import RunAnswers, read_answers
from opsin.studio.runs.run_row import RunRow
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.library.dataset_cache import DecodedDataset
    from opsin.studio.state import Studio

# Images of a cell that are shown.
_OF_CELL: Final = 200
# Pairs of classes that are told where there are too many for a matrix.
_PAIRS: Final = 20
#: Figures of a run's folder that are shown, and what each is.
_DRAWN: Final = (
    ("curves", "Loss and accuracy by epoch"),
    ("calibration", "Said confidence and share of right answers"),
    ("roc", "Right alarms by false alarms, for each class"),
    ("slices", "Accuracy by brightness, contrast and other traits"),
    ("answers", "Answers to images drawn at random"),
    ("mistakes", "Mistakes"),
    ("map", "The test images by what the network sees in them"),
    ("robustness", "Accuracy on disturbed images"),
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
    report = (await asyncio.to_thread(directory.read, Report)).to_json()
    drawn = await asyncio.to_thread(_drawn, directory)
    try:
        figures = report["figures"][report["split"]]
        chosen = _cell(cell, len(figures["classes"]))
        place = _above(row, report, figures, chosen)
        _below(row, report, figures, drawn)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RunError(
            "a whole report.json", f"it lacks some of its parts ({error!r:.80})",
            "Make it again: opsin report RUN",
        ) from error  # fmt: skip
    if chosen:
        await ui.context.client.connected()
        with place:
            await _show_cell(studio, row, directory, report, chosen)


def _above(
    row: RunRow, report: dict[str, Any], figures: dict[str, Any], chosen: tuple[int, int] | None
) -> ui.element:
    """Show verdict, figures and matrix; return the place of the chosen cell's images."""
    with ui.element("p").classes("op-verdict"):
        ui.label(verdict(report))
    layout.figures(figure_rows(figures))
    for line in _warnings(report, figures):
        with ui.element("p").classes("op-muted"):
            ui.label(safe(line, 400))
    names = [entry["name"] for entry in figures["classes"]]
    with layout.panel("What is taken for what"):
        if len(names) <= MOST:
            Matrix(
                figures["confusion"], names, address=f"/runs/{row.id}?tab=report&cell=",
                chosen=chosen,
            )  # fmt: skip
            with ui.element("p").classes("op-muted"):
                ui.label("Each number leads to its images.")
        _pairs(row, figures, names)
        place = ui.element("div").props('id="cell"')
    with layout.panel("By class"):
        _by_class(figures)
    return place


def _below(
    row: RunRow, report: dict[str, Any], figures: dict[str, Any], drawn: Sequence[str]
) -> None:
    """Show calibration, slices, layers, figures, times and files."""
    slices = (report.get("failures") or {}).get("slices")
    with ui.element("div").classes("op-columns op-below"):
        # Runs of earlier versions lack it.
        if "reliability" in figures:
            with layout.panel("How far its confidence can be believed"):
                _calibration(report, figures)
        if slices:
            with layout.panel("Where it fails"):
                _slices(slices)
    known = [(name, what) for name, what in _DRAWN if f"{name}.png" in drawn]
    if known:
        with ui.element("section").classes("op-panel"), ui.expansion("Images of the report"):
            for name, what in known:
                with ui.element("figure").classes("op-figure"):
                    image = ui.element("img").props('loading="lazy"')
                    image._props["src"] = f"/files/{row.id}/{name}.png"
                    image._props["alt"] = what
                    with ui.element("figcaption"):
                        ui.label(what)
    if report.get("layers"):
        with ui.element("section").classes("op-panel"), ui.expansion("Layers"):
            layer_sheet(report["layers"])
    with layout.panel("How it was made"):
        _made(row, report)


def verdict(report: dict[str, Any]) -> str:
    """Say in one sentence how good the classifier is, and on what grounds.

    Example:
        >>> figures = {"accuracy": 0.92, "low": 0.91, "high": 0.93, "images": 1000}
        >>> verdict({"split": "test", "figures": {"test": figures}})[:36]
        'Right for 92.0% of 1,000 test pictur'
    """
    figures = report["figures"][report["split"]]
    span = f"95% interval {percent(figures['low'])} to {percent(figures['high'])}"
    right = f"Right for {percent(figures['accuracy'])} of {count(figures['images'])}"
    if report["split"] == "test":
        return f"{right} test images that it had never seen ({span})."
    return (
        f"{right} validation images ({span}). This is optimistic: choices were made on them, and "
        "there are no test images."
    )


def figure_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures with their 95% intervals, where these are known."""
    over = f" {over_classes(figures)}"
    return [
        (metric.title + over * metric.over_classes, metric.text(figures))
        for metric in known_metrics(figures)
    ]


def _warnings(report: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """Return what limits the figures."""
    said = []
    if report["training"].get("diverged"):
        cause = report["training"]["diverged"]
        said.append(f"The training broke off: {cause}. The file is of the best epoch before.")
    if report.get("rests_on"):
        said.append(report["rests_on"])
    looks = report.get("looks", 1)
    if report["split"] == "test" and looks > 1:
        said.append(f"{count(looks)} runs were measured on this test set: the best of several is a "
                    "little too good.")  # fmt: skip
    if figures.get("corrected"):
        said.append(f"{corrected_in_words(figures['corrected'], report['split'])}.")
    leaks = report.get("leaks") or {}
    shared = leaks.get("exact", 0) + leaks.get("near", 0)
    if leaks.get("all_copied"):
        said.append(
            "Every test image has an exact copy among the training images, so the validation "
            "images are judged by instead."
        )
    elif shared:
        said.append(
            f"{count(shared)} test images have a copy or a near duplicate among the training "
            "images (kept, as they were given)."
        )
    without = figures.get("without_leaks")
    if without:
        said.append(f"Without them: {plus_minus(without)} "
                    f"on {count(without['images'])}.")  # fmt: skip
    refused = figures.get("refused")
    if refused:
        said.append(
            f"{count(refused['count'])} of {count(refused['images'])} images get the answer "
            f'"none of these" ({percent(refused["share"])}), since they look unlike the training.'
        )
    return said


def _pairs(row: RunRow, figures: dict[str, Any], names: Sequence[str]) -> None:
    """List the pairs that are most often confused, each with the way to its images."""
    pairs = figures["confused"][:_PAIRS] if len(names) > MOST else figures["confused"][:5]
    if not pairs:
        with ui.element("p"):
            ui.label("Nothing is confused.")
        return
    with ui.element("ul").classes("op-pairs"):
        for pair in pairs:
            at = f"{names.index(pair['actual'])}-{names.index(pair['predicted'])}"
            with ui.element("li"):
                words = f"{safe(pair['actual'], 60)} → {safe(pair['predicted'], 60)}"
                ui.link(words, f"/runs/{row.id}?tab=report&cell={at}")
                ui.label(f"{count(pair['count'])} of {count(pair['of'])}").classes("op-muted")


def _by_class(figures: dict[str, Any]) -> None:
    rows = []
    for entry in figures["classes"]:
        cells = [entry["name"]]
        for what in ("precision", "recall", "f1"):
            low, high = entry.get(f"{what}_interval") or (None, None)
            cells.append(with_interval(entry[what], low, high) if entry["count"] else "—")
        rows.append([*cells, count(entry["count"])])
    ImageSheet(["Class", "Precision", "Recall", "F1", "Images"], rows, "Figures of each class")


def _calibration(report: dict[str, Any], figures: dict[str, Any]) -> None:
    with ui.element("p"):
        text = f"Calibration error {figures['calibration_error']:.4f}"
        before = figures.get("uncalibrated") or {}
        if isinstance(before.get("calibration_error"), int | float):
            text += f" (before calibration {before['calibration_error']:.4f})"
        found = report.get("calibration") or {}
        if isinstance(found.get("temperature"), int | float):
            text += f"; temperature {found['temperature']:.3f}"
        ui.label(f"{text}. 0 means: of the answers given at 80%, four out of five are right.")
    rows = [
        [
            f"{percent(entry['low'])} to {percent(entry['high'])}",
            percent(entry["confidence"]),
            percent(entry["accuracy"]),
            count(entry["count"]),
        ]
        for entry in figures["reliability"]
    ]
    ImageSheet(["Confidence", "Mean", "Right", "Images"], rows, "Confidence and accuracy")


def _slices(slices: dict[str, Any]) -> None:
    if slices.get("too_weak"):
        with ui.element("p"):
            ui.label(f"The classifier is too weak to tell: {safe(str(slices['too_weak']), 400)}.")
        return
    rows = []
    for entry in slices.get("weakest", []):
        why = (
            "as its classes explain" if entry.get("explained") else "more than its classes explain"
        )
        rows.append(
            [entry["name"], with_interval(entry["accuracy"], entry["low"], entry["high"]),
             count(entry["images"]), why if entry.get("weak") else "within chance"]
        )  # fmt: skip
    if not rows:
        with ui.element("p"):
            ui.label("No kind of image stands out.")
        return
    ImageSheet(["Images with", "Accuracy", "Images", "Lower than the rest"], rows, "Weakest slices")


def _made(row: RunRow, report: dict[str, Any]) -> None:
    training, seconds, file = report["training"], report["seconds"], report["file"]
    with ui.element("p"):
        ui.label(safe(str(report["dataset"])))
    steps = f"{training['epochs']} of {training['asked']}, best {training['best_epoch']}"
    length = ("Epochs", steps)
    if "fitted_to" in training:
        length = ("Fitted to", f"{count(training['fitted_to'])} images")
    layout.figures(
        [
            ("Device", safe(str(training["device"]))),
            length,
            ("Parameters", count(training["parameters"])),
            ("Training", clock(seconds["train"])),
            ("In all", clock(sum(seconds.values()))),
            ("classifier.onnx", file_size(file["bytes"])),
        ]
    )
    for name, reason in (report.get("reasons") or {}).items():
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
    studio: Studio,
    row: RunRow,
    directory: RunDirectory,
    report: dict[str, Any],
    chosen: tuple[int, int],
) -> None:
    names = [entry["name"] for entry in report["figures"][report["split"]]["classes"]]
    actual, predicted = (safe(names[each], 60) for each in chosen)
    title = f"{actual}, known" if chosen[0] == chosen[1] else f"{actual} taken for {predicted}"
    with ui.element("h3") as heading:
        ui.label(title)
    try:
        answers = await asyncio.to_thread(read_answers, directory, report["split"])
        relabel = await open_relabel(studio, row, directory)
    except OpsinError as error:
        layout.error_line(error)
        return
    if heading.is_deleted:
        return  # the window was closed meanwhile
    places = answers.of_cell(*chosen)
    with ui.element("p").classes("op-muted"):
        more = f", the first {_OF_CELL} by confidence" if len(places) > _OF_CELL else ""
        ui.label(f"{count(len(places))} images{more}. Choose some to give them another class.")
    relabel.bar()
    if places:
        relabel.gallery(shown(answers, relabel.opened, places[:_OF_CELL], names), title)
    ui.run_javascript("document.getElementById('cell').scrollIntoView({block: 'start'})")


def shown(
    answers: RunAnswers, opened: DecodedDataset, places: Sequence[int], names: Sequence[str]
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
