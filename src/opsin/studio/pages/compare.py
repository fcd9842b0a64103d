"""Compare: which run is better, if any."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter
from typing import Final
from weakref import WeakKeyDictionary

from nicegui import ui

from opsin.core.artifacts.records import Epoch
from opsin.core.errors import MovedError, OpsinError
from opsin.core.format import clock, count, file_size, percent, plus_minus, with_interval
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import ComparedPair, ComparedRun, Comparison, DifferentAnswers
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout, terms
from opsin.studio.parts.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.parts.image_sheet import ImageSheet
from opsin.studio.parts.live_curves import EChartOptions, points_of
from opsin.studio.parts.waiting_line import WaitingLine
from opsin.studio.runs.compared import MOST, Compared
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.threads import ComputedOnce
from opsin.studio.words import safe

# Okabe and Ito's palette, for runs in their order; the first two are the farthest apart.
_COLOURS: Final = (
    "#0072b2", "#d98f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8f8f00", "#7f7f7f",
    "#5b3a9e", "#a05a2c",
)  # fmt: skip
_LETTERS: Final = "ABCDEFGHIJ"
# Curves that are drawn: field of an epoch, and heading.
_CURVES: Final = (
    ("val_loss", "Validation loss (cross entropy, nats)"),
    ("val_accuracy", "Validation accuracy"),
)
# Images of each kind of disagreement.
_IMAGES: Final = 48

_Making = ComputedOnce[str, Comparison]
# Comparisons under way, of each studio: several windows wait for the same one. They are kept with
# their jobs, not here.
_MAKING: Final[WeakKeyDictionary[Studio, _Making]] = WeakKeyDictionary()


async def compare(studio: Studio, runs: str = "") -> None:
    """Build it."""
    ids = list(dict.fromkeys(each for each in runs.split(",") if each))
    body = None
    with layout.page(studio, "Compare runs", "/compare", guide="how-to/compare.html"):
        if not _choose(studio, ids):
            return
        compared = await asyncio.to_thread(Compared, studio.runs, studio.jobs, ids)
        body = _CompareBody(studio, ids, compared, _MAKING.setdefault(studio, _Making(most=0)))
        await body.build()
    if body is not None:  # else an error is shown in its place
        await ui.context.client.connected()
        await body.fill()


PAGE = Page("/compare", compare, nav="Compare", order=50)


def _choose(studio: Studio, ids: Sequence[str]) -> bool:
    """Offer the runs there are; tell whether enough of them were chosen."""
    able = {row.id: row for row in studio.runs.rows() if row.accuracy is not None}
    if len(able) < 2:
        layout.empty(
            "Compare two or more finished runs that share test images here.", "Train one", "/train"
        )
        return False
    for each in ids:
        able.setdefault(each, studio.runs.row(each))
    names = {
        id_: f"{safe(row.name, 60)} · {with_interval(row.accuracy, row.low, row.high)}"
        for id_, row in able.items()
    }

    def go() -> None:
        ui.navigate.to(f"/compare?runs={','.join(chosen.value)}")

    with layout.panel():
        chosen = ui.select(
            names, value=list(ids), multiple=True, label=f"Runs, 2 to {MOST}; the others are set "
            "against the first", with_input=len(names) > 12,
        ).props("use-chips").style("width: min(100%, 48rem)")  # fmt: skip
        with ui.element("div").classes("op-actions"):
            layout.action("Compare", go, primary=len(ids) < 2)
    return len(ids) >= 2


class _CompareBody:
    """The page below the choice of runs.

    Args:
        studio: What all windows share.
        ids: The runs.
        compared: What is known of them.
        making: Comparisons that are being made, for all windows.
    """

    def __init__(
        self, studio: Studio, ids: Sequence[str], compared: Compared, making: _Making
    ) -> None:
        self._studio = studio
        self._ids = ids
        self._making = making
        self._rows: list[RunRow] = [studio.runs.row(each) for each in ids]
        self._compared = compared

    async def build(self) -> None:
        """Show what takes no time: which letter is which run, and the curves."""
        # What is fitted in one go counts trees, or nothing, where others count epochs.
        histories = await asyncio.to_thread(
            lambda: [
                self._studio.runs.get(row.id).read_history() if row.in_steps else []
                for row in self._rows
            ]
        )
        self._holder = ui.element("div")
        with self._holder:
            self._waiting = WaitingLine("Comparing")
        with layout.panel("Curves"):
            _curves(histories)
            with ui.element("p").classes("op-row"):
                for place, row in enumerate(self._rows):
                    letter = ui.label(f"{_LETTERS[place]}  {safe(row.name, 60)}")
                    letter.style(f"border-left: .8rem solid {_COLOURS[place]}; padding-left: .4rem")
        self._below = ui.element("div")

    async def fill(self) -> None:
        """Show the comparison; make it first if there is none yet."""
        error, found = None, await asyncio.to_thread(self._compared.known)
        try:
            if found is None:
                found = await self._wait()
        except OpsinError as failed:
            error = failed
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            if found is None:
                layout.error_line(error or "")
                return
            self._table(found)
        opened, shown = None, [pair.disagreements for pair in found.pairs]
        rows: list[list[int | None]] = [[None] * len(each) for each in shown]
        moved: MovedError | None = None
        try:
            opened = await self._studio.opened.of_run(self._ids[0])
            rows = [await asyncio.to_thread(rows_of, each, opened) for each in shown]
        except MovedError as gone:
            moved = gone
        except OpsinError:
            opened = None  # the comparison says all the same who is right
        if self._below.is_deleted:
            return
        with self._below:
            if moved is not None:
                layout.error_line(moved)
            for place, (pair, own) in enumerate(zip(found.pairs, rows, strict=True), start=1):
                self._disagreements(pair, place, opened, own)

    async def _wait(self) -> Comparison:
        """Return the comparison that some window waits for already, or make it.

        Leaving the page does not stop the work: its answer is kept.
        """
        return await self._making.get(self._compared.name, self._make)

    async def _make(self) -> Comparison:
        job = await asyncio.to_thread(self._compared.start)
        asked = JobAction(self._studio.jobs, job)
        await asked.over(self._waiting.tell)
        return await asyncio.to_thread(self._compared.result, asked.job)

    def _table(self, found: Comparison) -> None:
        """Show the figures side by side, and what the paired tests say."""
        with layout.panel("Verdict"):
            with ui.element("p"):
                ui.label(f"{safe(found.headline, 400)}.").classes("op-answer")
            for pair in found.pairs:
                said = pair.sentence
                if said.startswith(found.headline):  # of the only one, it is the beginning
                    said = said.removeprefix(found.headline).strip(" ()")
                with ui.element("p").classes("op-muted"):
                    ui.label(f"{safe(said, 600)}.")
            for note in (*found.remarks, *found.notes):
                with ui.element("p").classes("op-muted"):
                    ui.label(safe(self._compared.in_names(note), 600))
            rows = [_cells(each, row) for each, row in zip(found.runs, self._rows, strict=True)]
            ImageSheet(
                ("Run", "Model", "Accuracy", *(each.heading for each in headline_metrics()),
                 "Parameters", "File", "Trained"),
                rows, f"Figures on {count(found.images)} {found.part} images",
            )  # fmt: skip

    def _disagreements(
        self, pair: ComparedPair, place: int, opened: DecodedDataset | None, rows: list[int | None]
    ) -> None:
        """Show the images to which two runs gave different answers."""
        one, other = pair.letters
        row_of = {id(image): row for image, row in zip(pair.disagreements, rows, strict=True)}
        total = len(pair.disagreements)
        with layout.panel(f"{one} and {other} disagree on {count(total)} images"):
            if opened is None and total:
                ui.label(
                    "The images are not in the cache any more; their names are shown."
                ).classes("op-muted")
            for title, images in pair.by_who_is_right():
                with ui.element("h3"):
                    more = f", the first {_IMAGES}" if len(images) > _IMAGES else ""
                    ui.label(f"{title} ({count(len(images))}{more})")
                shown = images[:_IMAGES]
                if opened is None:
                    _names(shown, one, other)
                else:
                    ImageGallery(
                        [
                            _shown(
                                f"{place}-{number}", each, row_of[id(each)], opened, (one, other)
                            )
                            for number, each in enumerate(shown)
                        ],
                        title,
                        side=96,
                    )


def _cells(said: ComparedRun, row: RunRow) -> tuple[str, ...]:
    """Return a run's row of the table."""
    metrics = [metric.value(said) for metric in headline_metrics()]
    return (
        f"{said.letter}  {row.name}",
        said.model,
        plus_minus(said),
        *("–" if value is None else f"{value:.4f}" for value in metrics),
        "–" if said.parameters is None else count(said.parameters),
        "–" if said.bytes is None else file_size(said.bytes),
        "–" if said.seconds is None else clock(said.seconds),
    )


def rows_of(images: Sequence[DifferentAnswers], opened: DecodedDataset) -> list[int | None]:
    """Return the row of each image in the first run; ``None`` where it is not there.

    Exact copies are told apart by their names and classes: no row stands for two images.
    """
    classes, names = opened.classes, opened.decoded.names
    here = [
        (digest, names[row], classes[label])
        for row, (digest, label) in enumerate(
            zip(digest_names(opened.decoded.digests), opened.decoded.labels, strict=True)
        )
    ]
    there = [(each.digest, each.name, each.actual) for each in images]
    rows: list[int | None] = [None] * len(images)
    for one, other in pair_up(there, here, (lambda each: each, itemgetter(0, 2))):
        rows[one] = other
    return rows


def _said(image: DifferentAnswers, letters: tuple[str, str]) -> str:
    return " · ".join(
        f"{letter}: {safe(answer.label, 24)} {percent(answer.confidence)}"
        for letter, answer in zip(letters, image.answers, strict=True)
    )


def _shown(
    id_: str,
    image: DifferentAnswers,
    row: int | None,
    opened: DecodedDataset,
    letters: tuple[str, str],
) -> GalleryImage:
    """Return an image with both answers; one whose row is unknown has no address."""
    mark: Mark = "" if any(answer.right for answer in image.answers) else "wrong"
    said = _said(image, letters)
    label = f"{safe(image.actual, 24)}? " if mark else ""
    return GalleryImage(
        id_,  # not the digest: the same image may be there twice
        "" if row is None else opened.address(row),
        f"{image.actual}; {said}",
        f"{label}{said}",
        mark,
    )


def _names(images: Sequence[DifferentAnswers], one: str, other: str) -> None:
    rows = [
        (str(each.name), str(each.actual),
         *(f"{answer.label} {percent(answer.confidence)}" for answer in each.answers))
        for each in images
    ]  # fmt: skip
    ImageSheet(("Image", "Label", one, other), rows, "Images with both answers")


def _curves(histories: Sequence[Sequence[Epoch]]) -> None:
    """Draw the epochs of all runs over each other."""
    if not any(histories):
        ui.label("None of these runs was trained in epochs.").classes("op-muted")
        return
    with ui.element("div").classes("op-curves"):
        for field, heading in _CURVES:
            with ui.element("div"):
                with ui.element("h3"):
                    terms.word(heading)
                chart = ui.echart(_options(histories, field), renderer="svg")
                chart.classes("op-chart").props('role="img"')
                chart._props["aria-label"] = f"{heading} of each run by epoch"
    missing = [_LETTERS[place] for place, each in enumerate(histories) if not each]
    if missing:
        ui.label(f"{', '.join(missing)}: trained in one go, without epochs.").classes("op-muted")


def _options(histories: Sequence[Sequence[Epoch]], field: str) -> EChartOptions:
    """Return what ECharts draws: a line a run, its letter at the end; no name of a user's."""
    text = {"color": "var(--muted)", "fontSize": 12}
    series = []
    for place, history in enumerate(histories):
        points = points_of(history, field)
        colour = _COLOURS[place]
        if points:
            series.append(
                {"type": "line", "name": _LETTERS[place], "data": points, "symbolSize": 5,
                 "showSymbol": len(points) <= 30, "lineStyle": {"color": colour, "width": 2},
                 "itemStyle": {"color": colour},
                 "endLabel": {"show": True, "formatter": "{a}", "fontSize": 13, "color": colour},
                 "labelLayout": {"moveOverlap": "shiftY"}}
            )  # fmt: skip
    return {
        "animation": False,
        "grid": {"left": 8, "right": 30, "top": 14, "bottom": 22, "containLabel": True},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "xAxis": {
            "type": "value", "minInterval": 1, "name": "epoch", "nameLocation": "middle",
            "nameGap": 24, "nameTextStyle": text, "axisLabel": text,
            "splitLine": {"show": False}, "axisLine": {"lineStyle": {"color": "var(--line)"}},
        },
        "yAxis": {
            "type": "value", "scale": True, "axisLabel": text,
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
        },
        "series": series,
    }  # fmt: skip
