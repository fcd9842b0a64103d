"""A training's plan, before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from nicegui import background_tasks, ui

from opsin.classical.classical_recipe import ClassicalRecipe, FromBackbone
from opsin.core.errors import OpsinError
from opsin.core.format import about, count, file_size
from opsin.core.glossary import find_term
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe
from opsin.report.training_plan import Plan
from opsin.studio.errors import NotThere
from opsin.studio.parts import layout, terms
from opsin.studio.parts.image_sheet import ImageSheet
from opsin.studio.parts.live_curves import rate_curve
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.jobs.job import Job
    from opsin.studio.state import Studio

#: Seconds without a change after which a plan is asked for.
_QUIET: Final = 0.8


class Planner:
    """Asks for a plan in a process of its own, and shows it; the newest question wins.

    Args:
        studio: What all windows share.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._asked = 0
        self._job: str | None = None
        self._state = ui.label("").classes("op-muted").props('role="status"')
        self._place = ui.element("div")
        studio.changed.subscribe(self._heard)
        ui.context.client.on_delete(self.stop)

    def ask(self, words: Callable[[], list[str]]) -> None:
        """Ask for another plan, once nothing has changed for a moment.

        Args:
            words: Gives the command line; called in a thread.
        """
        self._asked += 1
        background_tasks.create(self._ask(self._asked, words), name="plan")

    def wait(self, words: str) -> None:
        """Show no plan until the next question; say what for."""
        self.stop()
        self._place.clear()
        self._state.set_text(words)

    def stop(self) -> None:
        """Ask for nothing more."""
        self._asked += 1
        background_tasks.create(self._drop(), name="plan dropped")

    async def _ask(self, number: int, words: Callable[[], list[str]]) -> None:
        await asyncio.sleep(_QUIET)
        if number != self._asked:
            return
        self._state.set_text("Estimating: a few training steps are measured …")
        await self._drop()
        try:
            argv = await asyncio.to_thread(words)
            job: Job = await asyncio.to_thread(
                self._studio.jobs.add, "plan", "Plan of a training", argv
            )
        except OpsinError as error:
            self._show_error(error)
            return
        if number == self._asked:
            self._job = job.id
        else:
            await asyncio.to_thread(self._studio.jobs.remove, job.id)

    async def _drop(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await asyncio.to_thread(self._studio.jobs.remove, job)

    async def _heard(self, topic: str) -> None:
        if topic != "jobs" or self._job is None:
            return
        try:
            job = self._studio.jobs.get(self._job)
        except NotThere:
            self._job = None
            return
        if not job.over:
            return
        found = await asyncio.to_thread(self._studio.jobs.output, job.id, Plan)
        if job.id != self._job:
            return  # a newer plan was asked for
        await self._drop()
        if job.state == "done" and found is not None:
            self._show(found)
        else:
            cause = job.cause or "The plan could not be made."
            self._show_error(await asyncio.to_thread(self._studio.sets.in_names, cause))

    def _show_error(self, error: OpsinError | str) -> None:
        if self._state.is_deleted:
            return
        self._state.set_text("")
        self._place.clear()
        with self._place:
            layout.error_line(error)

    def _show(self, plan: Plan) -> None:
        self._state.set_text("")
        self._place.clear()
        with self._place:
            show_plan(plan)


def show_plan(plan: Plan) -> None:
    """Show what a training would be."""
    recipe = plan.recipe
    parts = [f"{count(number)} {part}" for part, number in plan.images.items() if number]
    facts = [("Model", _model(recipe)), ("Images", " · ".join(parts))]
    if isinstance(recipe, Recipe) and plan.seconds is not None:
        most = "at most " if recipe.training.patience else ""
        facts += [
            ("Parameters", count(plan.parameters or 0)),
            ("Time", f"{most}about {about(plan.seconds)}, {recipe.training.epochs:,} epochs"),
            ("Memory", f"about {file_size(plan.memory or 0)} beside the images"),
        ]
    elif plan.seconds is not None:
        facts.append(("Time", f"about {about(plan.seconds)}"))
    facts.append(("Device", plan.device))
    layout.figures([(name, safe(text)) for name, text in facts])
    for name, reason in recipe.reasons.items():
        with ui.element("p"):
            ui.label(f"{name}: {safe(reason, 400)}")
    for note in plan.notes:
        with ui.element("p").classes("op-wrong"):
            ui.label(safe(note, 400))
    if not isinstance(recipe, Recipe):
        with ui.element("p").classes("op-muted"):
            if isinstance(recipe.model, FromBackbone):
                ui.label("Only a head is fitted, in one step: the network stays as it is.")
            else:
                ui.label("This model is fitted in one step: it has no epochs or learning rate.")
        return
    training = recipe.training
    with ui.element("h3"):
        terms.word(
            f"Learning rate: {training.schedule}, {training.learning_rate:.2g} at most",
            find_term("Learning rate schedule"),
        )
    rate_curve(plan.rates, training.epochs)
    with ui.element("h3"):
        terms.word("Layers")
    layer_sheet(plan.layers)


def layer_sheet(layers: Sequence[Layer]) -> ImageSheet:
    """Show the summary table of a network; the totals are its last row."""
    rows = [
        [
            layer.name,
            layer.kind,
            "×".join(map(str, layer.shape)),
            count(layer.parameters) if layer.parameters else "",
            count(layer.multiply_adds) if layer.multiply_adds else "",
        ]
        for layer in layers
    ]
    parameters = sum(layer.parameters for layer in layers)
    work = sum(layer.multiply_adds for layer in layers)
    return ImageSheet(
        ["Layer", "Kind", "Output", "Parameters", "Multiply-adds"],
        rows,
        "Layers of the network",
        total=["Total", "", "", count(parameters), count(work)],
        texts=2,
        kinds=1,
    )


def _model(recipe: Recipe | ClassicalRecipe) -> str:
    hidden = ",".join(map(str, recipe.model.hidden)) if isinstance(recipe, Recipe) else ""
    return f"{recipe.model.name} {hidden}".strip()
