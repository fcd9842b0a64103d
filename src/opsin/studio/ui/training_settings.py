"""The settings of a training: three levels in front, the rest in three groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE, FITTED, TRAIN_OPTIONS, Fitting
from opsin.core.glossary import find_term
from opsin.core.recipe import AUGMENTATION, PREPARATION, SPLIT, TRAINING
from opsin.core.recipe_options import NO, YES, RecipeOption
from opsin.studio.jobs import training_form
from opsin.studio.ui.kit import heading, note
from opsin.studio.ui.network_picker import network_picker, price_of
from opsin.studio.ui.terms import ask_beside
from opsin.studio.ui.training_levels import Level

#: The groups, and the options of each by their headings in the recipe; the network has the others.
GROUPS: Final = {
    "What it learns from": (PREPARATION, SPLIT, AUGMENTATION),
    "The network": (),
    "How it trains": (TRAINING,),
}
_GROUPED: Final = {name for names in GROUPS.values() for name in names}
# Options that stay when another model is chosen; the others mean nothing to it.
_STAY: Final = {"size", "channels", "resize", "seed"}
_STAY_BY_EPOCHS: Final = {"epochs", "budget", "augment"}


class TrainingSettings:
    """The form of a training.

    Args:
        levels: The three levels.
        networks: Pretrained networks to choose from, in words.
        trackers: Installed experiment trackers: names and titles.
        before: Settings of an earlier training to begin with.
        on_change: Is called when something changed.
    """

    def __init__(
        self, levels: Sequence[Level], networks: Mapping[str, str], trackers: Mapping[str, str],
        before: Mapping[str, str], on_change: Callable[[], object],
    ) -> None:  # fmt: skip
        self._levels = {level.name: level for level in levels}
        self._networks, self._trackers = networks, dict(trackers)
        self.before, self._on_change = dict(before), on_change
        self._values = dict(before)
        self._automatic: dict[str, str] = {}
        self._fields: dict[str, ui.input] = {}
        #: Trackers that the training is shown in, too.
        self.track: list[str] = []

    @property
    def level(self) -> Level | None:
        """The level that these settings are; ``None`` if more was chosen."""
        return next((lv for lv in self._levels.values() if lv.options == self.values), None)

    @property
    def values(self) -> dict[str, str]:
        """The options that are not automatic."""
        values = {name: value for name, value in self._values.items() if value.strip()}
        if values.get("model") == "auto" and not self.before:
            del values["model"]
        return values

    @property
    def faults(self) -> list[str]:
        """What is wrong with them."""
        if self._model == BACKBONE and not self._values.get("backbone"):
            return ["Choose a pretrained network."]
        faults = (training_form.fault(n, v, self._model) for n, v in self._values.items())
        return [fault for fault in faults if fault]

    @property
    def price(self) -> str:
        """What must be downloaded first; ``""`` if nothing."""
        return price_of(self._values.get("backbone", "")) if self._model == BACKBONE else ""

    @property
    def _model(self) -> str:
        return self._values.get("model") or "auto"

    @property
    def _trained(self) -> str:
        """The model that would be trained, as far as it is known."""
        return self._automatic.get("model", "auto") if self._model == "auto" else self._model

    @property
    def _by_epochs(self) -> bool:
        fine_tune = self._values.get("fine_tune") or self._automatic.get("fine_tune")
        return self._trained not in FITTED or fine_tune == YES

    def build_levels(self) -> None:
        """Show the three levels, each with its time."""
        now = self.level
        choices = {lv.name: f"{lv.title}: {lv.words}" for lv in self._levels.values() if not lv.off}
        self._radio = ui.radio(choices, value=now.name if now and not now.off else None)
        self._radio.props('aria-label="How good?"').on_value_change(lambda e: self._take(e.value))
        for level in self._levels.values():
            if level.off:
                note(f"{level.title}: not possible here. {level.off}")

    def _take(self, name: str | None) -> None:
        if name is not None and self._levels[name].options != self.values:
            self._values = dict(self._levels[name].options)
            self._automatic = {}
            self.build_groups.refresh()
            self._on_change()

    @ui.refreshable_method
    def build_groups(self) -> None:
        """Show everything else, generated from the recipe's own descriptions."""
        self._fields = {}
        first = {"What it learns from": self._build_images, "The network": self._build_network,
                 "How it trains": self._build_length}  # fmt: skip
        for title, names in GROUPS.items():
            heading(title)
            with ui.element("div").classes("fields"):
                first[title]()
                for group, options in training_form.fields_for(self._trained).items():
                    if group in (names or {group} - _GROUPED):
                        for option in filter(self._means_something, options):
                            self._field(option)

    def _means_something(self, option: RecipeOption) -> bool:
        """Whether an option means something to the chosen model: a head has no epochs."""
        of_epochs = option.group in (AUGMENTATION, TRAINING)
        if self._trained != BACKBONE or self._by_epochs or not of_epochs:
            return True
        return option.name in Fitting.model_fields

    def _build_images(self) -> None:
        if self._by_epochs:
            self._choice("augment", "What the images show", training_form.AUGMENT_WORDS)

    def _build_network(self) -> None:
        words = dict(training_form.MODEL_WORDS)
        if self._trained in words and self._model == "auto" != self._trained:
            words["auto"] = f"Automatic: {words[self._trained].partition(':')[0]}"
        self._choice("model", "Model", words)
        if self._model == BACKBONE:
            chosen = self._values.get("backbone", "")
            network_picker(self._networks, chosen, lambda name: self._set("backbone", name))
            box = ui.checkbox("Train the network itself too", value=self._by_epochs)
            box.on_value_change(lambda e: self._set("fine_tune", YES if e.value else NO))

    def _build_length(self) -> None:
        if self._by_epochs:
            self._text("epochs", "Epochs", "Passes over the photographs.")
            self._text("budget", "Time", "Instead of epochs, such as 10m or 1h30m.")
            if self._trackers:
                ui.select(
                    self._trackers, label="Also show it in", value=self.track, multiple=True,
                    on_change=lambda event: setattr(self, "track", event.value),
                )  # fmt: skip

    def _field(self, option: RecipeOption) -> None:
        choices = training_form.CHOICES.get(option.name)
        if option.choices:
            choices = {"": "Automatic", **{choice: choice for choice in option.choices}}
        if choices:
            self._choice(option.name, option.label, choices, option.help)
        else:
            self._text(option.name, option.label, option.help)

    def _choice(self, name: str, label: str, options: Mapping[str, str], text: str = "") -> None:
        words = dict(options)
        if "" in words and name in self._automatic:
            words[""] = f"Automatic: {words.get(self._automatic[name], self._automatic[name])}"
        chosen = self._values.get(name) or next(iter(words))
        with ui.element("div"):
            field = ui.select(
                {chosen: chosen, **words}, label=label, value=chosen,
                on_change=lambda event: self._set(name, event.value),
            )  # fmt: skip
            self._explain(field.props("options-dense"), name, text)

    def _text(self, name: str, label: str, text: str) -> None:
        with ui.element("div"):
            field = ui.input(
                label, value=self._values.get(name, ""),
                validation=lambda value: training_form.fault(name, value, self._model) or None,
                on_change=lambda event: self._set(name, event.value),
            ).props("stack-label hide-bottom-space")  # fmt: skip
            field.props["placeholder"] = self._placeholder(name)
            self._explain(field, name, text)
        self._fields[name] = field

    def _placeholder(self, name: str) -> str:
        return f"Automatic: {self._automatic[name]}" if name in self._automatic else "Automatic"

    def _explain(self, field: ui.element, name: str, text: str) -> None:
        flag = TRAIN_OPTIONS[name].flag if name in TRAIN_OPTIONS else f"--{name}"
        ask_beside(field, find_term(flag))
        if text:
            note(text)

    def show_automatic(self, values: Mapping[str, object]) -> None:
        """Show what would be chosen where nothing is set."""
        before = self._trained, self._by_epochs
        self._automatic = {
            name: TRAIN_OPTIONS[name].write(value) if name in TRAIN_OPTIONS else str(value)
            for name, value in values.items()
            if value is not None
        }
        if before != (self._trained, self._by_epochs):
            self.build_groups.refresh()
        for name, field in self._fields.items():
            field.props["placeholder"] = self._placeholder(name)

    def _set(self, name: str, value: str | None) -> None:
        if (value or "") == self._values.get(name, ""):
            return
        self._values[name] = value or ""
        if name == "backbone":
            self._values["prepare"] = ""  # of the network before
        elif name == "model":
            stay = _STAY if self._model in FITTED else _STAY | _STAY_BY_EPOCHS
            kept = {key: text for key, text in self._values.items() if key in stay}
            old = self.before if self._model == self.before.get("model") else {}
            self._values = {**old, **kept, "model": self._model}
        elif name == "fine_tune" and value == NO:
            self._values |= dict.fromkeys(_STAY_BY_EPOCHS, "")
        if name in ("model", "fine_tune"):
            self.build_groups.refresh()
        now = self.level
        self._radio.set_value(now.name if now and not now.off else None)
        self._on_change()
