"""Train: pictures, model, and what it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Query
from nicegui import ui

from opsin.classical.recipe import MODELS
from opsin.data.sources.named import NAMES
from opsin.errors import OpsinError
from opsin.studio import asking, frame
from opsin.studio.pages.planned import Planner
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: What a first-time visitor trains on.
_FIRST: Final = "fashion-mnist"


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/train")
    async def train(
        set: str = "",  # noqa: A002  the word of the address
        source_run: Annotated[str, Query(alias="from")] = "",
    ) -> None:
        with frame.page(studio, "Train", "train"):
            page = _Train(studio)
            await asyncio.to_thread(page.read, set, source_run)
            page.build()


class _Train:
    """The form, and the plan beside it.

    Args:
        studio: What all windows share.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._recipe: dict[str, Any] = {}
        self._location: dict[str, Any] = {}
        self._cloned = ""
        self._pictures: dict[str, str] = {}
        self._chosen = ""
        #: What the cloned run has, and what the form says now.
        self._before: dict[str, str] = {}
        self._values: dict[str, str] = {"model": "auto"}

    # What the form begins with.

    def read(self, wanted: str, source_run: str) -> None:
        """Read the sets there are, and the run whose settings are taken over.

        Raises:
            NotThere: There is no such run.
            RunError: Its files are damaged.
        """
        sets = self._studio.sets.all()
        if source_run:
            row, directory = self._studio.runs.row(source_run), self._studio.runs.get(source_run)
            self._recipe = directory.read(directory.recipe)
            self._location = directory.location()
            self._cloned = row.name
            self._before = asking.values_of(self._recipe)
            self._values = dict(self._before)
            self._pictures["run"] = f"the pictures of {safe(row.name, 60)}"
        self._pictures |= {f"set:{each.id}": safe(each.title, 60) for each in sets}
        added = {each.sources for each in sets if not each.options}
        self._pictures |= {f"name:{name}": name for name in NAMES if (name,) not in added}
        named = self._studio.sets.find(wanted) if wanted in NAMES else None
        given = [f"set:{wanted}", f"name:{wanted}", f"set:{named.id}" if named else ""]
        usual = ["run", *(f"set:{each.id}" for each in sets[:1]), f"name:{_FIRST}"]
        self._chosen = next(key for key in (*given, *usual) if key in self._pictures)

    def build(self) -> None:
        """Show the form, and ask for a first plan."""
        if self._cloned:
            with ui.element("p").classes("op-muted"):
                ui.label(f"With the settings of {safe(self._cloned)}.")
        with ui.element("div").classes("op-columns op-below"):
            with frame.panel("What and how"):
                self._front()
                with ui.expansion("All other settings").classes("op-more") as more:
                    self._rest_of_form()
                more.props('header-class="op-muted"')
                self._name = ui.input("Name (may stay empty)").props("dense maxlength=80")
                self._name.classes("op-field")
                with ui.element("div").classes("op-actions"):
                    self._start = frame.action("Start", self._begin, primary=True)
                self._trouble = ui.element("div")
            with frame.panel("What it would be"):
                self._planner = Planner(self._studio)
        self._replan()

    def _front(self) -> None:
        ui.select(
            self._pictures, label="Pictures", value=self._chosen, on_change=self._choose
        ).classes("op-field").props("options-dense")
        ui.select(
            asking.MODEL_WORDS,
            label="Model",
            value=self._values.get("model", "auto"),
            on_change=self._choose_model,
        ).classes("op-field").props("options-dense")
        self._networks = ui.element("div")
        with self._networks, ui.element("div").classes("op-row"):
            self._input("epochs", "Epochs")
            self._input("budget", "Or a time (10m)")
        with self._networks:
            with ui.element("p").classes("op-hint"):
                ui.label("Both empty: as many as suit the pictures.")
            ui.select(
                asking.AUGMENT_WORDS,
                label="What the pictures show",
                value=self._values.get("augment", ""),
                on_change=lambda event: self._set("augment", event.value),
            ).classes("op-field").props("options-dense")
        self._networks.set_visibility(not self._classical)

    @property
    def _classical(self) -> bool:
        return self._values.get("model") in MODELS

    @ui.refreshable_method
    def _rest_of_form(self) -> None:
        """Show what is folded away: generated from the recipe's own descriptions."""
        for heading, fields in asking.fields_for(self._values.get("model", "auto")).items():
            with ui.element("h3"):
                ui.label(heading)
            for field in fields:
                if field.choices:
                    options = {"": "as decided", **{each: each for each in field.choices}}
                    ui.select(
                        options,
                        label=field.label,
                        value=self._values.get(field.name, ""),
                        on_change=lambda event, name=field.name: self._set(name, event.value),
                    ).classes("op-field").props("dense options-dense")
                else:
                    self._input(field.name, field.label)
                with ui.element("p").classes("op-hint"):
                    ui.label(field.text)

    def _input(self, name: str, label: str) -> None:
        ui.input(
            label,
            value=self._values.get(name, ""),
            on_change=lambda event: self._set(name, event.value),
        ).classes("op-field").props("dense")

    # What changes.

    def _choose(self, event: Any) -> None:
        before, self._chosen = self._chosen, event.value
        if self._cloned and "run" in (before, self._chosen):
            # How a run's pictures were prepared says nothing about others.
            own = self._before if self._chosen == "run" else {}
            self._values |= {name: own.get(name, "") for name in asking.PREPARED}
            self._rest_of_form.refresh()
        self._replan()

    def _choose_model(self, event: Any) -> None:
        # Another model's options mean nothing to this one; those of the run come back with its own.
        keep = {"size", "channels", "resize", "seed"}
        before = self._before if event.value == self._before.get("model") else {}
        kept = {name: value for name, value in self._values.items() if name in keep}
        self._values = {**before, **kept, "model": event.value}
        self._networks.set_visibility(not self._classical)
        self._rest_of_form.refresh()
        self._replan()

    def _set(self, name: str, value: str | None) -> None:
        self._values[name] = value or ""
        self._replan()

    def _replan(self) -> None:
        self._trouble.clear()
        self._planner.ask(lambda: self._argv(plan=True))

    # What is asked for.

    def _argv(self, *, plan: bool, name: str = "") -> list[str]:
        """Return the command line of what the form says; reads and writes small files."""
        settings = self._studio.settings
        values = self._values
        recipe = None
        if self._recipe:
            values = {k: v for k, v in values.items() if v != self._before.get(k, "")}
            recipe = asking.keep_recipe(
                settings.home / "recipes",
                self._recipe,
                values,
                same_pictures=self._chosen == "run",
            )
        pictures, labels = self._source()
        given = {
            name: value for name, value in values.items() if (name, value) != ("model", "auto")
        }
        return asking.argv(
            pictures, given, runs=settings.runs, recipe=recipe, labels=labels, name=name, plan=plan
        )

    def _source(self) -> tuple[list[str], Path | None]:
        """Return the words that say which pictures are meant, and the table of corrections."""
        kind, _, which = self._chosen.partition(":")
        if kind == "run":
            return asking.words_of_location(self._location)
        if kind == "name":
            return ["--", which], None
        found = self._studio.sets.get(which)
        corrections = self._studio.sets.corrections_path(which)
        return found.words(), corrections if corrections.is_file() else None

    async def _begin(self) -> None:
        self._trouble.clear()
        self._start.disable()
        try:
            words = await asyncio.to_thread(self._argv, plan=False, name=self._name.value or "")
            title = f"{self._pictures[self._chosen]}, {self._values.get('model', 'auto')}"
            job = await asyncio.to_thread(self._studio.jobs.add, "train", title, words)
        except OpsinError as error:
            with self._trouble:
                frame.error_line(error)
            self._start.enable()
            return
        self._planner.stop()
        self._studio.changed.emit("jobs")
        ui.navigate.to(f"/jobs/{job.id}")
