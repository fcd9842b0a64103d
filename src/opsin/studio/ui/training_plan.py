"""What a training would be, computed by a process beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from nicegui import background_tasks, ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, file_size
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe
from opsin.report.training_plan import Plan
from opsin.studio.errors import NotThere
from opsin.studio.jobs.training_form import MODEL_WORDS
from opsin.studio.ui.charts import chart
from opsin.studio.ui.kit import StatusLine, facts, question
from opsin.studio.ui.tables import Column, table
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Seconds without a change after which a plan is computed.
_QUIET: Final = 0.8


class Planner:
    """Computes a plan after each change, and shows it; the newest wins.

    Args:
        studio: The state of all windows.
        words: Returns the command line; called in a thread.
        on_plan: Is called with each new plan.
    """

    def __init__(
        self, studio: Studio, words: Callable[[], list[str]], on_plan: Callable[[Plan], object]
    ) -> None:
        self._studio, self._words, self._on_plan = studio, words, on_plan
        self._number, self._job = 0, ""
        self._status = StatusLine()
        self._content = ui.element("div").classes("stack")
        studio.changed.subscribe(self._follow)
        ui.context.client.on_delete(lambda _: self.stop())

    def ask(self) -> None:
        """Compute a plan, once nothing has changed for a moment."""
        self._number += 1
        background_tasks.create(self._ask(self._number), name="plan")

    def stop(self, text: str = "") -> None:
        """Compute nothing more, and say why."""
        self._number += 1
        if not self._content.is_deleted:
            self._content.clear()
            self._status.say(text) if text else self._status.clear()
        background_tasks.create(self._drop(), name="plan dropped")

    async def _ask(self, number: int) -> None:
        await asyncio.sleep(_QUIET)
        if number != self._number:
            return
        await self._drop()
        self._status.say("Estimating the time …")
        try:
            words = await asyncio.to_thread(self._words)
            job = await asyncio.to_thread(self._studio.jobs.add, "plan", "Estimate", words)
        except OpsinError as error:
            self._status.fail(error)
            return
        if number == self._number:
            self._job = job.id
        else:
            await asyncio.to_thread(self._studio.jobs.remove, job.id)

    async def _drop(self) -> None:
        job, self._job = self._job, ""
        if job:
            await asyncio.to_thread(self._studio.jobs.remove, job)

    async def _follow(self, topic: str) -> None:
        if topic != "jobs" or not self._job:
            return
        try:
            job = self._studio.jobs.get(self._job)
        except NotThere:
            self._job = ""
            return
        if not job.over:
            return
        plan = await asyncio.to_thread(self._studio.jobs.output, job.id, Plan)
        if job.id != self._job or self._content.is_deleted:
            return  # another was asked for
        await self._drop()
        self._content.clear()
        if job.state != "done" or plan is None:
            cause = job.cause or "There is no estimate: the settings do not fit together."
            self._status.fail(await asyncio.to_thread(self._studio.sets.in_names, cause))
            return
        self._status.clear()
        with self._content:
            show_plan(plan)
        self._on_plan(plan)


def show_plan(plan: Plan) -> None:
    """Show what a training would be: its figures, its doubts, and a network's layers folded."""
    recipe = plan.recipe
    model = MODEL_WORDS.get(recipe.model.name, recipe.model.name).partition(":")[0]
    items = [("Model", model)]
    parts = {"train": "to learn from", "val": "to choose by", "test": "to test with"}
    images = [f"{count(n)} {parts.get(part, part)}" for part, n in plan.images.items() if n]
    items.append(("Photographs", " · ".join(images)))
    if isinstance(recipe, Recipe):
        items += [("Epochs", count(recipe.training.epochs)),
                  ("Parameters", count(plan.parameters or 0)),
                  ("Memory", f"about {file_size(plan.memory or 0)}")]  # fmt: skip
    facts([*items, ("Computed on", plan.device)])
    for text in plan.notes:
        with ui.element("p").classes("warning"):
            ui.label(safe(text, 400))
    if isinstance(recipe, Recipe):
        question("Which layers?", lambda: layer_table(plan.layers))
        if plan.rates:
            rates = [[share * recipe.training.epochs, rate] for share, rate in plan.rates]
            question("How does the learning rate change?", lambda: _rate_chart(rates))


def _rate_chart(rates: Sequence[Sequence[float]]) -> None:
    options = {
        "xAxis": {"type": "value", "name": "epoch", "nameLocation": "middle", "nameGap": 24},
        "yAxis": {"type": "value"},
        "series": [{"type": "line", "name": "rate", "showSymbol": False, "data": rates}],
    }
    chart(options, "Learning rate by epoch", columns=["epoch", "rate"], rows=rates, height=240)


def layer_table(layers: Sequence[Layer]) -> None:
    """The layers of a network, with the sums of their parameters and multiply-adds."""
    titles = ("Layer", "Kind", "Output", "Parameters", "Multiply-adds")
    keys = ("layer", "kind", "output", "parameters", "work")
    columns = [Column(key, title, text=i < 3)
               for i, (key, title) in enumerate(zip(keys, titles, strict=True))]  # fmt: skip
    rows = [
        {"id": i, "layer": layer.name, "kind": layer.kind,
         "output": "×".join(map(str, layer.shape)),
         "parameters": count(layer.parameters), "parameters_sort": layer.parameters,
         "work": count(layer.multiply_adds), "work_sort": layer.multiply_adds}
        for i, layer in enumerate(layers)
    ]  # fmt: skip
    table(columns, rows, "Layers of the network")
