"""The settings of a training: three levels in front, the rest in three groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE, FITTED, TRAIN_OPTIONS, Fitting
from opsin.core.glossary import Term, find_term
from opsin.core.recipe import AUGMENTATION, PREPARATION, SPLIT, TRAINING
from opsin.core.recipe_options import NO, YES, RecipeOption
from opsin.studio.jobs import training_form
from opsin.studio.ui.kit import heading, note
from opsin.studio.ui.network_picker import PIXELS, Network, key_of, network_picker
from opsin.studio.ui.terms import ask_beside
from opsin.studio.ui.training_levels import Level, words_of

#: The groups, and the options of each by their headings in the recipe; the network has the others.
GROUPS: Final = {
    "What it learns from": (PREPARATION, SPLIT, AUGMENTATION),
    "The network": (),
    "How it trains": (TRAINING,),
}
# Options that stay when another model is chosen; the others mean nothing to it.
_STAY: Final = {"size", "channels", "resize", "seed"}
# Groups of options for trainings by epochs.
_OF_EPOCHS: Final = (AUGMENTATION, TRAINING)
_STAY_BY_EPOCHS: Final = {"epochs", "budget", "augment"}


class TrainingSettings:
    """The form of a training.

    Args:
        levels: The three levels.
        networks: Pretrained networks to choose from.
        trackers: Installed experiment trackers: names and titles.
        before: Settings of an earlier training to begin with.
        on_change: Is called when something changed.
    """

    def __init__(
        self, levels: Sequence[Level], networks: list[Network], trackers: Mapping[str, str],
        before: Mapping[str, str], on_change: Callable[[], object],
    ) -> None:  # fmt: skip
        self._levels: dict[str, Level] = {level.name: level for level in levels}
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
        chosen = key_of(self._values.get("backbone", "")) if self._model == BACKBONE else ""
        return next((net.price for net in self._networks if net.key == chosen), "")

    @property
    def _model(self) -> str:
        return self._values.get("model") or "auto"

    # The levels.

    def build_levels(self) -> None:
        """Show the three levels, each with its time."""
        now = self.level
        choices = {
            lv.name: f"{lv.title}: {words_of(lv)}" for lv in self._levels.values() if not lv.off
        }
        radio = ui.radio(choices, value=now.name if now else None)
        radio.props('aria-label="How good?"').on_value_change(lambda e: self._take(e.value))
        self._radio = radio
        for level in self._levels.values():
            if level.off:
                note(f"{level.title}: not possible here. {level.off}")

    def _take(self, name: str | None) -> None:
        if name is not None and self._levels[name].options != self.values:
            self._values = dict(self._levels[name].options)
            self._automatic = {}
            self.build_groups.refresh()
            self._on_change()

    # The groups.

    @ui.refreshable_method
    def build_groups(self) -> None:
        """Show everything else, generated from the recipe's own descriptions."""
        self._fields = {}
        fields = training_form.fields_for(self._model)
        known = {name for names in GROUPS.values() for name in names}
        for title, names in GROUPS.items():
            heading(title)
            with ui.element("div").classes("fields"):
                self._first_of(title)
                for group, options in fields.items():
                    if group in names or (not names and group not in known):
                        for option in options:
                            if self._means_something(option):
                                self._field(option)

    @property
    def _by_epochs(self) -> bool:
        return self._model not in FITTED or self._values.get("fine_tune") == YES

    def _means_something(self, option: RecipeOption) -> bool:
        """Whether an option means something to the chosen model: a head has no epochs."""
        if self._model != BACKBONE or self._by_epochs or option.group not in _OF_EPOCHS:
            return True
        return option.name in Fitting.model_fields

    def _first_of(self, title: str) -> None:
        by_epochs = self._by_epochs
        if title == "What it learns from" and by_epochs:
            self._choice("augment", "What the images show", training_form.AUGMENT_WORDS)
        elif title == "The network":
            self._choice("model", "Model", training_form.MODEL_WORDS)
            if self._model == BACKBONE:
                chosen = key_of(self._values.get("backbone", ""))
                network_picker(self._networks, chosen, self._set_network)
                self._choice("prepare", "Its pixels", PIXELS)
                box = ui.checkbox("Train the network itself too", value=by_epochs)
                box.on_value_change(lambda e: self._set("fine_tune", YES if e.value else NO))
        elif title == "How it trains" and by_epochs:
            self._text("epochs", "Epochs", "Passes over the photographs.")
            self._text("budget", "Time", "Instead of epochs, such as 10m or 1h30m.")
            if self._trackers:
                self._choose_trackers()

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
            ask_beside(field.props("options-dense"), _term_of(name))
            if text:
                note(text)

    def _text(self, name: str, label: str, text: str) -> None:
        with ui.element("div"):
            field = ui.input(
                label, value=self._values.get(name, ""),
                validation=lambda value: training_form.fault(name, value, self._model) or None,
                on_change=lambda event: self._set(name, event.value),
            ).props("stack-label hide-bottom-space")  # fmt: skip
            field.props["placeholder"] = f"Automatic {self._automatic.get(name, '')}".strip()
            ask_beside(field, _term_of(name))
            note(text)
        self._fields[name] = field

    def _choose_trackers(self) -> None:
        ui.select(
            self._trackers, label="Also show it in", value=self.track, multiple=True,
            on_change=lambda event: setattr(self, "track", event.value),
        )  # fmt: skip

    def show_automatic(self, values: Mapping[str, object]) -> None:
        """Show what would be chosen where nothing is set."""
        self._automatic = {
            name: TRAIN_OPTIONS[name].write(value) if name in TRAIN_OPTIONS else str(value)
            for name, value in values.items()
            if value is not None
        }
        for name, field in self._fields.items():
            field.props["placeholder"] = f"Automatic: {self._automatic.get(name, 'none')}"
            field.update()

    # What changes.

    def _set(self, name: str, value: str | None) -> None:
        if (value or "") == self._values.get(name, ""):
            return
        self._values[name] = value or ""
        if name == "model":
            stay = _STAY | (set() if self._model in FITTED else _STAY_BY_EPOCHS)
            kept = {key: text for key, text in self._values.items() if key in stay}
            own = self.before if self._model == self.before.get("model") else {}
            self._values = {**own, **kept, "model": self._model}
        elif name == "fine_tune" and value == NO:
            self._values |= dict.fromkeys(_STAY_BY_EPOCHS, "")
        if name in ("model", "fine_tune"):
            self.build_groups.refresh()
        now = self.level
        self._radio.set_value(now.name if now and not now.off else None)
        self._on_change()

    def _set_network(self, key: str) -> None:
        self._values["prepare"] = ""
        self._set("backbone", key.removeprefix("name:"))


def _term_of(name: str) -> Term | None:
    return find_term(TRAIN_OPTIONS[name].flag if name in TRAIN_OPTIONS else f"--{name}")
