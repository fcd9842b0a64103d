"""Train: images, model, and what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Query
from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE, FITTED, TRAIN_OPTIONS
from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import Location
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.glossary import find_term
from opsin.data.corrections import write_corrections
from opsin.data.sources.named import NAMES
from opsin.studio.jobs import training_form
from opsin.studio.pages.moved_images import tell_moved
from opsin.studio.pages.page import Page
from opsin.studio.pages.plan_preview import Planner
from opsin.studio.parts import layout, terms
from opsin.studio.parts.network_choice import (
    is_fetched,
    known_networks,
    network_choice,
    price_of,
    text_of,
)
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.runs.dataset_cache import recipe_of
from opsin.studio.runs.run_index import SPLIT_OPTIONS
from opsin.studio.state import Studio
from opsin.studio.words import safe
from opsin.trackers import trackers

# Characters of a run's name.
_NAME_MOST: Final = 80


async def train(
    studio: Studio,
    set: str = "",  # noqa: A002  the word of the address
    source_run: Annotated[str, Query(alias="from")] = "",
    labels: str = "",
) -> None:
    """Build it."""
    with layout.page(studio, "Train", "/train", guide="how-to/studio.html#train"):
        page = _Train(studio)
        await asyncio.to_thread(page.read, set, source_run, labels)
        if source_run:
            await tell_moved(await asyncio.to_thread(studio.runs.get, source_run))
        page.build()


PAGE = Page("/train", train, nav="Train", order=30)


class _Train:
    """The form, and the plan beside it.

    Args:
        studio: What all windows share.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._recipe: RecordedRecipe | None = None
        self._run: RunDirectory | None = None
        self._location = Location()
        self._cloned = self._called = ""
        self._track: list[str] = []
        #: The set whose corrections of labels the cloned run is trained again with.
        self._labels = ""
        self._images: dict[str, str] = {}
        #: The networks there are, those of them that would be fetched, and the trackers.
        self._networks: dict[str, str] = {}
        self._fetched: set[str] = set()
        self._trackers: dict[str, str] = {}
        self._chosen = ""
        #: What the cloned run has, and what the form says now.
        self._before: dict[str, str] = {}
        self._values: dict[str, str] = {"model": "auto"}

    # What the form begins with.

    def read(self, wanted: str, source_run: str, labels: str) -> None:
        """Read the sets there are, and the run whose settings are taken over.

        Args:
            wanted: The set, or a source's name, that the address asks for.
            source_run: The run that is cloned.
            labels: The set whose corrections replace those that the run was trained with.

        Raises:
            NotThere: There is no such run, or set.
            RunError: Its files are damaged.
        """
        sets = self._studio.sets.all()
        self._networks = known_networks(self._studio)
        self._fetched = {each for each in self._networks if is_fetched(each)}
        self._trackers = training_form.tracker_words()
        if source_run:
            row, directory = self._studio.runs.row(source_run), self._studio.runs.get(source_run)
            self._recipe, self._run = directory.read(RecordedRecipe), directory
            self._location = directory.location()
            self._cloned = row.name
            self._before = training_form.values_of(self._recipe)
            self._values = dict(self._before)
            if self._values.get("model") not in training_form.MODEL_WORDS:  # of an earlier version
                self._values["model"] = "auto"
            self._images["run"] = f"the images of {safe(row.name, 60)}"
            if labels:
                self._labels = self._studio.sets.get(labels).id
                self._images["run"] += ", with corrected labels"
                self._called = f"{row.source}-{row.model}-corrected"[:_NAME_MOST]
        self._images |= {f"set:{each.id}": safe(each.title, 60) for each in sets}
        added = {each.sources for each in sets if not each.options}
        self._images |= {f"name:{name}": name for name in NAMES if (name,) not in added}
        named = self._studio.sets.find(wanted) if wanted in NAMES else None
        given = [f"set:{wanted}", f"name:{wanted}", f"set:{named.id}" if named else ""]
        usual = ["run", *(f"set:{each.id}" for each in sets[:1])]
        self._chosen = next((key for key in (*given, *usual) if key in self._images), "")

    def build(self) -> None:
        """Show the form, and ask for a first plan."""
        if self._cloned:
            with ui.element("p").classes("op-muted"):
                ui.label(f"With the settings of {safe(self._cloned)}.")
        if not self._chosen:
            layout.empty("Add your images first, or choose a known set below.", "Add", "/data")
        with ui.element("div").classes("op-columns op-below"):
            with layout.panel("Settings").props("id=settings"):
                self._front()
                with ui.expansion("Advanced settings").classes("op-more") as more:
                    self._rest_of_form()
                    self._choose_trackers()
                more.props('header-class="op-muted"')
                self._name = ui.input("Name (optional)", value=self._called)
                self._name.props(f"dense maxlength={_NAME_MOST}").classes("op-field")
                with ui.element("div").classes("op-actions"):
                    self._start = layout.action("Start", self._begin, primary=True)
                self._faults = ui.element("div")
                self._status = StatusLine()
            with layout.panel("Estimate"):
                self._planner = Planner(self._studio)
        self._replan()

    def _front(self) -> None:
        ui.select(
            self._images, label="Images", value=self._chosen or None, on_change=self._choose
        ).classes("op-field").props("options-dense")
        model = ui.select(
            training_form.MODEL_WORDS,
            label="Model",
            value=self._values.get("model", "auto"),
            on_change=self._choose_model,
        )
        terms.ask_beside(model.classes("op-field").props("options-dense"), find_term("--model"))
        self._of_model()

    @ui.refreshable_method
    def _of_model(self) -> None:
        """Show what stands in front for the chosen kind of model."""
        if self._values.get("model") == BACKBONE:
            network_choice(self._networks, self._values.get("backbone", ""), self._choose_network)
            ui.checkbox(
                "Train the network's own weights too", value=self._tunes, on_change=self._tune
            )
            with ui.element("p").classes("op-hint"):
                ui.label(
                    "Takes minutes to hours, and is kept only where validation images say that it "
                    "is better."
                )
        if self._values.get("model") in FITTED and not self._tunes:
            return
        with ui.element("div").classes("op-row"):
            self._input("epochs", "Epochs")
            self._input("budget", "Or a time limit (10m)")
        with ui.element("p").classes("op-hint"):
            ui.label("Leave both empty for an automatic number of epochs.")
        shown = ui.select(
            training_form.AUGMENT_WORDS,
            label="What the images show",
            value=self._values.get("augment", ""),
            on_change=lambda event: self._set("augment", event.value),
        )
        terms.ask_beside(shown.classes("op-field").props("options-dense"), find_term("--augment"))

    @ui.refreshable_method
    def _rest_of_form(self) -> None:
        """Show what is folded away: generated from the recipe's own descriptions."""
        for heading, fields in training_form.fields_for(self._values.get("model", "auto")).items():
            with ui.element("h3"):
                terms.word(heading)
            for field in fields:
                options = training_form.CHOICES.get(field.name, {})
                if field.choices:
                    options = {"": "Automatic", **{each: each for each in field.choices}}
                if options:
                    chosen = self._values.get(field.name) or next(iter(options))
                    choice = ui.select(
                        {chosen: chosen, **options},
                        label=field.label,
                        value=chosen,
                        on_change=lambda event, name=field.name: self._set(name, event.value),
                    )
                    choice.classes("op-field").props("dense options-dense")
                    terms.ask_beside(choice, find_term(field.flag))
                else:
                    self._input(field.name, field.label)
                with ui.element("p").classes("op-hint"):
                    ui.label(field.help)

    def _choose_trackers(self) -> None:
        """Offer the trackers that are installed; where a run is shown changes nothing about it."""
        words = self._trackers
        with ui.element("h3"):
            ui.label("Experiment trackers")
        if words:
            ui.select(
                words,
                label="Also show the run in",
                value=[],
                multiple=True,
                on_change=lambda event: setattr(self, "_track", event.value),
            ).classes("op-field").props("dense options-dense")
        with ui.element("p").classes("op-hint"):
            every = [kind.title for kind in trackers().values()]
            listed = f"{', '.join(every[:-1])} and {every[-1]}"
            ui.label(
                "Where it is sent to is set where the studio is started."
                if words
                else f"{listed} can be chosen here where they are installed."
            )

    def _input(self, name: str, label: str) -> None:
        field = ui.input(
            label,
            value=self._values.get(name, ""),
            on_change=lambda event: self._set(name, event.value),
        )
        field.classes("op-field").props("dense")
        if name in TRAIN_OPTIONS:
            terms.ask_beside(field, find_term(TRAIN_OPTIONS[name].flag))

    # What changes.

    def _choose(self, event: Any) -> None:
        before, self._chosen = self._chosen, event.value or ""
        if self._cloned and "run" in (before, self._chosen):
            # How a run's images were prepared says nothing about others.
            own = self._before if self._chosen == "run" else {}
            self._values |= {name: own.get(name, "") for name in training_form.prepared_options()}
            self._rest_of_form.refresh()
        self._replan()

    def _choose_model(self, event: Any) -> None:
        # Another model's options mean nothing to this one; those of the run come back with its own.
        keep = {"size", "channels", "resize", "seed"}
        keep |= set() if event.value in FITTED else {"epochs", "budget", "augment"}
        before = self._before if event.value == self._before.get("model") else {}
        kept = {name: value for name, value in self._values.items() if name in keep}
        self._values = {**before, **kept, "model": event.value}
        self._of_model.refresh()
        self._rest_of_form.refresh()
        self._replan()

    @property
    def _tunes(self) -> bool:
        """Whether a pretrained network is to be fine-tuned."""
        return self._values.get("model") == BACKBONE and self._values.get("fine_tune") == "yes"

    def _tune(self, event: Any) -> None:
        # A head on frozen features has no epochs: what was asked of them goes with the choice.
        gone = dict.fromkeys(("epochs", "budget", "augment"), "")
        self._values |= {"fine_tune": "yes"} if event.value else {"fine_tune": "", **gone}
        self._of_model.refresh()
        self._replan()

    def _choose_network(self, chosen: str) -> None:
        self._values |= {"backbone": chosen, "prepare": ""}
        self._replan()

    def _set(self, name: str, value: str | None) -> None:
        self._values[name] = value or ""
        self._replan()

    def _replan(self) -> None:
        """Ask for a plan of what the form says, or say what keeps it from being trained."""
        self._status.clear()
        self._faults.clear()
        faults = self._what_is_wrong()
        with self._faults:
            for fault in faults:
                layout.error_line(fault)
        self._start.set_enabled(bool(self._chosen) and not faults)
        if not self._chosen:
            self._planner.wait("Choose images to get an estimate.")
        elif faults:
            self._planner.wait("Correct the settings to get an estimate.")
        elif self._network() in self._fetched:
            self._planner.wait(price_of(self._network()))
        else:
            self._planner.ask(lambda: self._argv(plan=True))

    def _network(self) -> str:
        """Return the pretrained network that is chosen, or nothing."""
        is_asked = self._values.get("model") == BACKBONE
        return self._values.get("backbone", "") if is_asked else ""

    def _what_is_wrong(self) -> list[str]:
        model = self._values.get("model", "auto")
        if model == BACKBONE and not self._network():
            return ["Choose a pretrained network."]
        faults = (training_form.fault(name, text, model) for name, text in self._values.items())
        return [fault for fault in faults if fault]

    # What is asked for.

    def _argv(self, *, plan: bool, name: str = "") -> list[str]:
        """Return the command line of what the form says; reads and writes small files."""
        settings = self._studio.settings
        values = self._values
        recipe = None
        if self._recipe is not None:
            values = {k: v for k, v in values.items() if v != self._before.get(k, "")}
            recipe = training_form.keep_recipe(
                settings.home / "recipes", self._recipe, values, same_images=self._chosen == "run"
            )
        images, labels = self._source()
        given = {
            name: value for name, value in values.items() if (name, value) != ("model", "auto")
        }
        before = self._run_before(values)
        if before is not None:
            given["parts_of"] = str(before.path)
        if given.get("backbone"):
            given["backbone"] = text_of(self._studio, given["backbone"])
        return training_form.argv(
            images,
            given,
            runs=settings.runs,
            recipe=recipe,
            labels=labels,
            name=name,
            track=self._track,
            plan=plan,
        )

    def _run_before(self, values: Mapping[str, str]) -> RunDirectory | None:
        """Return the run whose parts the images keep; ``None`` where they are to be split anew."""
        kind, _, which = self._chosen.partition(":")
        if any(values.get(name) for name in SPLIT_OPTIONS):
            return None
        if kind == "set":
            return self._studio.runs.last_of(recipe_of(self._studio.sets.get(which)))
        cut = self._run is not None and self._run.split.is_file()
        folds = self._recipe is not None and self._recipe.data.fold is not None
        return self._run if kind == "run" and cut and not folds else None

    def _source(self) -> tuple[list[str], Path | None]:
        """Return the words that say which images are meant, and the table of corrections."""
        kind, _, which = self._chosen.partition(":")
        if kind == "run":
            words, labels = training_form.words_of_location(self._location)
            if not self._labels:
                return words, labels
            labels = self._studio.sets.corrections_path(self._labels)
            if not labels.is_file():
                # The run was corrected from elsewhere, its set never was: no table says it better.
                write_corrections(labels, [])
            return words, labels
        if kind == "name":
            return ["--", which], None
        found = self._studio.sets.get(which)
        corrections = self._studio.sets.corrections_path(which)
        return found.words(), corrections if corrections.is_file() else None

    async def _begin(self) -> None:
        self._status.clear()
        self._start.disable()
        try:
            words = await asyncio.to_thread(self._argv, plan=False, name=self._name.value or "")
            title = f"{self._images[self._chosen]}, {self._values.get('model', 'auto')}"
            job = await asyncio.to_thread(self._studio.jobs.add, "train", title, words)
        except OpsinError as error:
            self._status.fail(error)
            self._start.set_enabled(not self._what_is_wrong())
            return
        self._planner.stop()
        self._studio.changed.emit("jobs")
        ui.navigate.to(f"/jobs/{job.id}")
