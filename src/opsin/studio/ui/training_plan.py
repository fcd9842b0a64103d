"""What a training would be, computed by a process beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nicegui import background_tasks, ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, file_size
from opsin.core.recipe import Recipe
from opsin.report.training_plan import Plan
from opsin.studio.jobs.queue import JobAction
from opsin.studio.jobs.training_form import MODEL_WORDS
from opsin.studio.ui.kit import StatusLine, facts, without_commands
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Seconds without a change after which a plan is computed.
_QUIET: Final = 0.8
_PARTS: Final = {"train": "to learn from", "val": "to choose by", "test": "to test with"}


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
        self._number = 0
        self._status = StatusLine()
        self._content = ui.element("div").classes("stack")

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

    async def _ask(self, number: int) -> None:
        def is_old() -> bool:
            return number != self._number or self._content.is_deleted

        await asyncio.sleep(_QUIET)
        if is_old():
            return
        self._status.say("Estimating the time …")
        jobs = self._studio.jobs
        try:
            words = await asyncio.to_thread(self._words)
            asked = await JobAction.ask(jobs, "plan", "Estimate", words)
            try:
                if not await asked.over(left=is_old):
                    return
                plan, cause = await asked.answer(Plan)
            finally:
                await asyncio.to_thread(jobs.remove, asked.job.id)
            if plan is None:
                raise OpsinError(await asyncio.to_thread(self._studio.sets.in_names, cause))
        except OpsinError as error:
            if not is_old():
                self._content.clear()
                self._status.fail(without_commands(str(error)))
            return
        if not is_old():
            self._status.clear()
            self._content.clear()
            with self._content:
                show_plan(plan)
                self._on_plan(plan)


def show_plan(plan: Plan) -> None:
    """Show what a training would be: its figures and its doubts."""
    recipe = plan.recipe
    images = [f"{count(n)} {_PARTS.get(part, part)}" for part, n in plan.images.items() if n]
    items = [("Model", MODEL_WORDS.get(recipe.model.name, recipe.model.name).partition(":")[0]),
             ("Photographs", " · ".join(images))]  # fmt: skip
    if isinstance(recipe, Recipe):
        items += [("Epochs", count(recipe.training.epochs)),
                  ("Parameters", count(plan.parameters or 0)),
                  ("Memory", f"about {file_size(plan.memory or 0)}")]  # fmt: skip
    facts([*items, ("Computed on", plan.device)])
    for text in plan.notes:
        with ui.element("p").classes("warning"):
            ui.label(safe(text, 400))
