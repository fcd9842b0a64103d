"""Quick, good, as good as it gets: what each trains, and how long it takes on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from opsin.backbones.named_backbones import NAMED
from opsin.core.format import counted
from opsin.studio.jobs.job import Job
from opsin.studio.progress import factor_of

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

    name: str
    title: str
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
    """Whether networks can be trained here: PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def has_pretrained() -> bool:
    """Whether the networks of the box are installed."""
    return all(NAMED[name].path is not None for name in _FEATURES)


def levels_for(
    images: int | None, jobs: Sequence[Job], *, known: int = 0, network: str = ""
) -> list[Level]:
    """The three levels for a number of images, ``known`` of them to a network (default: to all)."""
    number, knows = images or 0, has_pretrained()
    folds = 1 if number > _JUDGED else 11 if number <= _TEN_FOLDS else 6

    def head(name: str) -> dict[str, float]:
        """Seconds of each phase of a head on a network's features."""
        new = number - known if network in ("", name) else number
        phases = {
            "start": 3.0 + 0.005 * number,
            "features": 0.5 + _FEATURES.get(name, 0.0) * max(0, new),
            "heads": folds * (0.35 + 0.0004 * min(number, 1_500)),
            "finish": 6.0 + 0.005 * min(number, _JUDGED),
        }
        return phases if name and knows and number else {}

    suits = next((name for name, most in _MOST.items() if number * _FEATURES[name] <= most), "")
    quick, good = head(_SMALL), head(suits)
    fast, usual = (factor_of(jobs) * sum(head.values()) or None for head in (quick, good))
    minutes = next((m for most, m in _MINUTES if number <= most), _LONGEST)
    best = {**good, "epochs": max(1.0, 60.0 * minutes - sum(good.values()))} if good else {}
    chosen = "with a network that Opsin chooses for your photographs"
    if good:
        chosen = "with a network that has seen a million photographs"
        chosen += ", and yours" if known and network in ("", suits) else ""
    elif not knows:
        chosen = "from nothing, since no network that knows photographs is installed here"
    learns = "while the network itself learns from your photographs, too"
    no_torch = "" if can_train_networks() else "It needs PyTorch, which is not installed here."
    missing = "" if knows else "It needs a network that knows photographs, and none is installed."
    return [
        Level("quick", "Quick", "with a smaller network that has seen a million photographs",
              {"model": "backbone", "backbone": _SMALL}, quick, fast, missing),
        Level("good", "Good", chosen, {}, good, usual, "" if knows else no_torch),
        Level("best", "As good as it gets", learns, {"budget": f"{minutes}m"},
              {} if no_torch else best, minutes * 60.0, no_torch),
    ]  # fmt: skip


def time_in_words(seconds: float) -> str:
    """A time that is estimated, with as many digits as that deserves."""
    if seconds < 100:
        step = 5 if seconds < 60 else 10
        return f"about {step * max(1, round(seconds / step))} seconds"
    if seconds < 5400:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {seconds / 3600:.1f} hours"
