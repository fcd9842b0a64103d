"""The settings of a training: three levels in front, the rest in three groups."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE
from opsin.core.format import counted, file_size
from opsin.core.recipe import DATA_OPTIONS, override
from opsin.core.recipe_options import RecipeOption
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.training_form import CHOICES, LABELS, OPTIONS, fault, fields_for
from opsin.studio.progress import factor_of
from opsin.studio.ui.kit import heading, note
from opsin.studio.words import of_photographs

_SMALL, _LARGE = "efficientnet-lite0", "efficientnet-lite2"
# Seconds of two ordinary cores for an image's features by each network.
_FEATURES: Final = {_SMALL: 0.033, _LARGE: 0.07}
# Seconds that the features of all images may take with each network, as `opsin.commands` has it.
_MOST: Final = {_LARGE: 120.0, _SMALL: 600.0}
# Images up to which every image judges, in ten folds or in five.
_JUDGED, _TEN_FOLDS = 2_000, 500
# Minutes of the best level, by the number of images up to which they suit.
_MINUTES: Final = ((300, 10), (1_000, 15), (5_000, 30))
_LONGEST: Final = 60


class Level(NamedTuple):
    """One of three choices."""

    text: str  # what it does
    options: dict[str, str]  # as in a form (`opsin.studio.jobs.training_form`)
    expected: Mapping[str, float]  # seconds of each phase, before this machine was measured
    seconds: float | None  # on this machine, if they are known
    off: str  # why it cannot be chosen

    @property
    def words(self) -> str:
        """Its time, and what it does."""
        return f"{time_in_words(self.seconds)}, {self.text}" if self.seconds else self.text


def can_train_networks() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def levels_for(number: int, jobs: Sequence[Job], *, known: int = 0) -> dict[str, Level]:
    """The levels for a number of images, of which the good one's network knows ``known``.

    Quick is left out where it is not quicker than Good.
    """
    knows = all(NAMED[name].path is not None for name in _FEATURES)
    folds = 1 if number > _JUDGED else 11 if number <= _TEN_FOLDS else 6

    def head(name: str, new: int) -> dict[str, float]:
        """Seconds of each phase of a head on a network's features."""
        phases = {
            "start": 3.0 + 0.005 * number,
            "features": 0.5 + _FEATURES.get(name, 0.0) * max(0, new),
            "heads": folds * (0.35 + 0.0004 * min(number, 1_500)),
            "finish": 6.0 + 0.005 * min(number, _JUDGED),
        }
        return phases if name and knows and number else {}

    suits = next((name for name, most in _MOST.items() if number * _FEATURES[name] <= most), "")
    quick, good = head(_SMALL, number), head(suits, number - known)
    fast, usual = (factor_of(jobs) * sum(phases.values()) or None for phases in (quick, good))
    minutes = next((m for most, m in _MINUTES if number <= most), _LONGEST)
    chosen = "with a network that Opsin chooses for your photographs"
    if good:
        chosen = f"with a network that has seen a million photographs{', and yours' * bool(known)}"
    elif not knows:
        chosen = "from nothing, since no network that knows photographs is installed here"
    learns = "while the network itself learns from your photographs, too"
    smaller = "with a smaller network that has seen a million photographs"
    small = {"model": BACKBONE, "backbone": _SMALL}
    no_torch = "" if can_train_networks() else "It needs PyTorch, which is not installed here."
    best = {}
    if good and not no_torch:
        best = {**good, "epochs": max(1.0, 60.0 * minutes - sum(good.values()))}
    missing = "" if knows else "It needs a network that knows photographs, and none is installed."
    levels = {
        "Quick": Level(smaller, small, quick, fast, missing),
        "Good": Level(chosen, {}, good, usual, "" if knows else no_torch),
    }
    if fast and usual and fast >= usual:
        del levels["Quick"]
    whole = Level(learns, {"budget": f"{minutes}m"}, best, 60.0 * minutes, no_torch)
    return levels | {"As good as it gets": whole}


def time_in_words(seconds: float) -> str:
    """A time that is estimated, with as many digits as that deserves."""
    if seconds < 100:
        step = 5 if seconds < 60 else 10
        return f"about {step * max(1, round(seconds / step))} seconds"
    if seconds < 5400:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {seconds / 3600:.1f} hours"


class TrainingSettings:
    """The form of a training; ``before`` are the settings of an earlier one to begin with."""

    def __init__(
        self, levels: dict[str, Level], before: Mapping[str, str], on_change: Callable[[], object]
    ) -> None:
        self._levels = levels
        self._values, self._on_change = dict(before), on_change
        self._automatic: dict[str, str] = {}
        self._fields: dict[str, ui.input | ui.select] = {}
        self._networks = {"": "Automatic"} | {
            name: f"{name}: {known.suits}"
            + ("" if known.path else f", is downloaded ({file_size(known.size)}, {known.licence})")
            for name, known in NAMED.items()
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

    def _known(self, name: str) -> str:
        """An option's value, chosen or automatic; ``""`` as long as that is not known."""
        return self._values.get(name) or self._automatic.get(name, "")

    def build_levels(self) -> None:
        """Show the three levels, each with its time."""
        choices = {
            title: f"{title}: {lv.words}" for title, lv in self._levels.items() if not lv.off
        }
        self._radio = ui.radio(choices).props('aria-label="How good?"')
        self._show_level()
        self._radio.on_value_change(lambda event: self._take(event.value))
        for title, level in self._levels.items():
            if level.off:
                note(f"{title}: not possible here. {level.off}")

    def _show_level(self) -> None:
        fits = (title for title, lv in self._levels.items() if lv == self.level and not lv.off)
        self._radio.set_value(next(fits, None))

    def _take(self, title: str | None) -> None:
        if title is not None and self._levels[title].options != self.values:
            self._values, self._automatic = dict(self._levels[title].options), {}
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
                for option in options:
                    self._field(option.name, option)

    def _field(self, name: str, option: RecipeOption) -> None:
        """A choice, or a text that is checked while it is typed; below it what it means."""
        label = LABELS.get(name, option.label)
        choices = dict(self._networks if name == "backbone" else CHOICES.get(name, {}))
        text = "" if choices else of_photographs(option.help)
        if option.choices and not choices:
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
                    label,
                    value=self._values.get(name, ""),
                    placeholder=self._placeholder(name),
                    validation=lambda text: fault(name, text, self._known("model")) or None,
                )
                field.props("stack-label hide-bottom-space")
            self._fields[name] = field
            field.on_value_change(lambda event: self._set(name, event.value or ""))
            if text:
                note(text)

    def _placeholder(self, name: str) -> str:
        return f"Automatic: {self._automatic[name]}" if name in self._automatic else "Automatic"

    def show_automatic(self, values: Mapping[str, object]) -> None:
        """Show what would be chosen where nothing is set."""
        before = self._known("model"), self._known("fine_tune")
        self._automatic = {
            name: OPTIONS[name].write(value)
            for name, value in values.items()
            if name in OPTIONS and value is not None
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
        if name == "backbone":
            self._values.pop("prepare", None)  # of the network before
        if name in ("model", "fine_tune"):
            groups = fields_for(self._known("model"), self._known("fine_tune")).values()
            fitting = {*DATA_OPTIONS, *(option.name for group in groups for option in group)}
            self._values = {key: v for key, v in self._values.items() if key in fitting}
            self.build_fields.refresh()
        for gone in before.keys() - self._values.keys() & self._fields.keys():
            self._fields[gone].set_value("")
        self._show_level()
        self._on_change()
