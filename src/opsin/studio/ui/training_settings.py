"""The settings of a training: three levels in front, the rest in three groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE, TRAIN_OPTIONS
from opsin.core.format import file_size
from opsin.core.glossary import find_term
from opsin.core.recipe import DATA_OPTIONS, override
from opsin.core.recipe_options import RecipeOption
from opsin.studio.jobs.training_form import CHOICES, LABELS, fault, fields_for, trains_in_epochs
from opsin.studio.ui.kit import heading, note
from opsin.studio.ui.terms import ask_beside
from opsin.studio.ui.training_levels import Level
from opsin.trackers import is_installed, trackers

_BUDGET: Final = "Instead of epochs, such as 10m or 1h30m."


class TrainingSettings:
    """The form of a training; ``before`` are the settings of an earlier one to begin with."""

    def __init__(
        self, levels: Sequence[Level], before: Mapping[str, str], on_change: Callable[[], object]
    ) -> None:
        self._levels = {level.name: level for level in levels}
        self._values, self._on_change = dict(before), on_change
        self._automatic: dict[str, str] = {}
        self._fields: dict[str, ui.input | ui.select] = {}
        #: Trackers that the training is shown in, too.
        self.track: list[str] = []
        self._trackers = {name: kind.title for name, kind in trackers().items()
                          if is_installed(kind)}  # fmt: skip
        self._networks = {"": "Automatic"} | {
            name: f"{name}: {network.suits}"
            + ("" if network.path else f", is downloaded ({file_size(network.size)})")
            for name, network in NAMED.items()
        }

    @property
    def level(self) -> Level | None:
        """The level that these settings are; ``None`` if more was chosen."""
        return next((lv for lv in self._levels.values() if lv.options == self.values), None)

    @property
    def values(self) -> dict[str, str]:
        """The options that are not automatic."""
        return {name: value for name, value in self._values.items() if value.strip()}

    @property
    def faults(self) -> list[str]:
        """What is wrong with them."""
        values = self.values
        if values.get("model") == BACKBONE and "backbone" not in values:
            return ["Choose a pretrained network."]
        faults = (fault(name, value, values.get("model", "")) for name, value in values.items())
        return list(filter(None, faults))

    @property
    def price(self) -> str:
        """What must be downloaded first; ``""`` if nothing."""
        network = NAMED.get(self._values.get("backbone", ""))
        if network is None or network.path is not None:
            return ""
        size = file_size(network.size)
        return f"{size} are downloaded when the training starts. Licence: {network.licence}."

    def _known(self, name: str) -> str:
        """An option's value, chosen or automatic; ``""`` as long as that is not known."""
        return self._values.get(name) or self._automatic.get(name, "")

    def build_levels(self) -> None:
        """Show the three levels, each with its time."""
        choices = {lv.name: f"{lv.title}: {lv.words}" for lv in self._levels.values() if not lv.off}
        self._radio = ui.radio(choices).props('aria-label="How good?"')
        self._show_level()
        self._radio.on_value_change(lambda event: self._take(event.value))
        for level in self._levels.values():
            if level.off:
                note(f"{level.title}: not possible here. {level.off}")

    def _show_level(self) -> None:
        level = self.level
        self._radio.set_value(level.name if level and not level.off else None)

    def _take(self, name: str | None) -> None:
        if name is not None and self._levels[name].options != self.values:
            self._values, self._automatic = dict(self._levels[name].options), {}
            self.build_fields.refresh()
            self._on_change()

    @ui.refreshable_method
    def build_fields(self) -> None:
        """Show everything else, generated from the recipe's own descriptions."""
        self._fields = {}
        model, fine_tune = self._known("model"), self._known("fine_tune")
        for title, options in fields_for(model, fine_tune).items():
            heading(title)
            with ui.element("div").classes("fields"):
                if title == "The network":
                    self._field("model")
                for option in options:
                    self._field(option.name, option)
                if title == "How it trains" and trains_in_epochs(model, fine_tune):
                    self._field("budget")
                    if self._trackers:
                        field = ui.select(self._trackers, label="Also show it in", multiple=True)
                        field.bind_value(self, "track")

    def _field(self, name: str, option: RecipeOption | None = None) -> None:
        """A choice, or a text that is checked while it is typed; below it what it means."""
        label = LABELS.get(name) or (option.label if option else name)
        choices = dict(self._networks if name == "backbone" else CHOICES.get(name, {}))
        if option and option.choices and not choices:
            choices = {"": "Automatic"} | {choice: choice for choice in option.choices}
        with ui.element("div"):
            field: ui.input | ui.select
            if choices:
                automatic = self._automatic.get(name)
                if automatic and "" in choices:
                    words = choices.get(automatic, automatic).partition(":")[0]
                    choices[""] = f"Automatic: {words}"
                chosen = self._values.get(name) or next(iter(choices))
                field = ui.select({chosen: "As before"} | choices, label=label, value=chosen)
                field.props("options-dense")
            else:
                field = ui.input(
                    label, value=self._values.get(name, ""), placeholder=self._placeholder(name),
                    validation=lambda text: fault(name, text, self._known("model")) or None,
                )  # fmt: skip
                field.props("stack-label hide-bottom-space")
            self._fields[name] = field
            field.on_value_change(lambda event: self._set(name, event.value or ""))
            ask_beside(field, find_term(option.flag if option else f"--{name}"))
            if text := option.help if option and name not in LABELS else "":
                note(text)
            elif name == "budget":
                note(_BUDGET)

    def _placeholder(self, name: str) -> str:
        return f"Automatic: {self._automatic[name]}" if name in self._automatic else "Automatic"

    def show_automatic(self, values: Mapping[str, object]) -> None:
        """Show what would be chosen where nothing is set."""
        before = self._known("model"), self._known("fine_tune")
        self._automatic = {
            name: TRAIN_OPTIONS[name].write(value) if name in TRAIN_OPTIONS else str(value)
            for name, value in values.items()
            if value is not None
        }
        if before != (self._known("model"), self._known("fine_tune")):
            self.build_fields.refresh()
        for name, field in self._fields.items():
            if isinstance(field, ui.input):
                field.props["placeholder"] = self._placeholder(name)

    def _set(self, name: str, value: str) -> None:
        if value == self._values.get(name, ""):
            return
        before, self._values = self._values, override(self._values, {name: value})
        model, fine_tune = self._known("model"), self._known("fine_tune")
        if name == "backbone":
            self._values.pop("prepare", None)  # of the network before
        if name in ("model", "fine_tune"):
            if not trains_in_epochs(model, fine_tune):
                groups = fields_for(model, fine_tune).values()
                fitting = {
                    "model",
                    *DATA_OPTIONS,
                    *(item.name for group in groups for item in group),
                }
                self._values = {key: v for key, v in self._values.items() if key in fitting}
            self.build_fields.refresh()
        for gone in before.keys() - self._values.keys() & self._fields.keys():
            self._fields[gone].set_value("")
        self._show_level()
        self._on_change()
