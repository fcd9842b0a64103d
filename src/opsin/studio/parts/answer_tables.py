"""Answers to many images, as tables."""

from __future__ import annotations

from nicegui import ui
from pydantic import BaseModel

from opsin.core.format import count, percent
from opsin.runtime.prediction import Prediction
from opsin.studio.jobs.job import Job
from opsin.studio.parts import layout
from opsin.studio.parts.download_link import download_link
from opsin.studio.parts.image_sheet import ImageSheet
from opsin.studio.words import safe


def answer_row(key: str, answer: Prediction) -> dict[str, str]:
    """Return an image's row of the table."""
    second = answer.top(2)[-1]
    return {
        "id": key,
        "src": f"/kept/{key}.png",
        "name": safe(answer.name, 60),
        "said": safe(answer.answer, 60),
        "sure": percent(answer.confidence),
        "other": f"{safe(second[0], 60)}, {percent(second[1])}",
    }


def table(rows: list[dict[str, str]]) -> None:
    """Show images with their answers; the keys are ours, whatever the values say."""
    columns = [
        {"name": name, "label": label, "field": name, "align": "left", "sortable": name != "src"}
        for name, label in (
            ("src", "Image"), ("name", "Name"), ("said", "Answer"), ("sure", "Probability"),
            ("other", "Second"),
        )
    ]  # fmt: skip
    shown = ui.table(columns=columns, rows=rows, row_key="id", pagination=0).props("hide-bottom")
    shown.add_slot(
        "body-cell-src",
        '<q-td :props="props"><img v-if="props.row.src" class="op-pixel" width="48" height="48" '
        'alt="" :src="props.row.src" style="object-fit: contain"></q-td>',
    )
    shown.add_slot(
        "body-cell-said",
        '<q-td :props="props" style="white-space: normal; min-width: 9rem">'
        '<a v-if="props.row.href" :href="props.row.href">{{ props.row.said }}</a>'
        '<span v-else class="op-wrong">{{ props.row.said }}</span></q-td>',
    )


class ManyAnswers(BaseModel):
    """What ``opsin predict --out --json`` says, as far as it is shown.

    Args:
        images: Images that are done.
        refused: Those that are none of the classes.
        unreadable: Files that could not be read.
        seconds: How long it took.
        answers: How many have each answer, the most frequent first.
    """

    images: int
    refused: int
    unreadable: int
    seconds: float
    answers: dict[str, int]


def summary(job: Job, said: ManyAnswers) -> None:
    """Show what a job found, with its table to download."""
    with layout.panel("Answers"):
        layout.figures(
            [
                ("Images", count(said.images)),
                *([("None of these", count(said.refused))] if said.refused else []),
                ("Unreadable", count(said.unreadable)),
                ("Time", f"{said.seconds:.1f} s"),
            ]
        )
        download_link(job)
        rows = [(name, count(number)) for name, number in said.answers.items()]
        ImageSheet(("Answer", "Images"), rows, "Answers and how many images got each")
