"""Quick, good, as good as it gets: what each trains, and how long it takes on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from opsin.backbones.named_backbones import NAMED
from opsin.core.format import counted, seconds_of
from opsin.studio.jobs.job import Job
from opsin.studio.progress import factor_of

LevelName = Literal["quick", "good", "best"]
# Seconds of two ordinary cores: the start, an image's features by each network, a head of one
# fold, and the end.
_START, _FINISH = 3.0, 4.5
_FEATURES: Final = {"efficientnet-lite0": 0.033, "efficientnet-lite2": 0.07}
_HEAD, _HEAD_OF_IMAGE = 0.35, 0.0004
# Seconds that the features of all images may take with each network, as `opsin.commands` has it.
_MOST: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
# Images up to which every image judges, in ten folds or in five.
_JUDGED, _TEN_FOLDS = 2_000, 500
# Minutes of the best level, by the number of images up to which they suit.
_MINUTES: Final = ((300, 10), (1_000, 15), (5_000, 30))
_LONGEST: Final = 60


@dataclass(frozen=True)
class Level:
    """One of three choices: its words, the options of a training, and its time.

    Args:
        name: Its key.
        title: Its name for people.
        text: What it does.
        options: Options as in a form (`opsin.studio.jobs.training_form`).
        expected: Seconds of each phase of it, before this machine was measured.
        seconds: Seconds on this machine; ``None`` if nobody knows yet.
        off: Why it cannot be chosen.
    """

    name: LevelName
    title: str
    text: str
    options: dict[str, str] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    off: str = ""


def can_train_networks() -> bool:
    """Whether networks can be trained here: PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def has_pretrained() -> bool:
    """Whether the networks of the box are installed."""
    return all(NAMED[name].path is not None for name in _FEATURES)


def levels_for(
    images: int | None, jobs: Sequence[Job], *, known: int = 0,
    torch: Callable[[], bool] = can_train_networks,
    pretrained: Callable[[], bool] = has_pretrained,
) -> list[Level]:  # fmt: skip
    """The three levels for a number of images, of which ``known`` were trained on before."""
    here, trains, factor = pretrained(), torch(), factor_of(jobs)
    minutes = next((m for most, m in _MINUTES if (images or 0) <= most), _LONGEST)
    quick = _head("efficientnet-lite0", images, known) if here else {}
    good = quick
    if images and images * _FEATURES["efficientnet-lite2"] <= _MOST["efficientnet-lite2"]:
        good = _head("efficientnet-lite2", images, known) if here else {}
    elif images and images * _FEATURES["efficientnet-lite0"] > _MOST["efficientnet-lite0"]:
        good = {}  # a network is trained from scratch
    best = _in_time(good, seconds_of(f"{minutes}m")) if trains else {}
    missing = "It needs a network that knows photographs, and none is installed here."
    no_torch = "It needs PyTorch, which is not installed here."
    seen = "network that has seen a million photographs"
    small = {"model": "backbone", "backbone": "efficientnet-lite0"}
    chosen = f"with a {seen}" if good else "with a network that Opsin chooses for your photographs"
    if not here:
        chosen = "from nothing, since no network that knows photographs is installed here"
    learns = "while the network itself learns from your photographs, too"
    return [
        Level("quick", "Quick", f"with a smaller {seen}", small, quick, _sum(quick, factor),
              "" if here else missing),
        Level("good", "Good", chosen, {}, good, _sum(good, factor),
              "" if here or trains else no_torch),
        Level("best", "As good as it gets", learns, {"budget": f"{minutes}m"}, best,
              minutes * 60.0, "" if trains else no_torch),
    ]  # fmt: skip


def words_of(level: Level) -> str:
    """A level's time, and what it does."""
    return f"{time_in_words(level.seconds)}, {level.text}" if level.seconds else level.text


def time_in_words(seconds: float) -> str:
    """A time that is estimated, with as many digits as that deserves."""
    if seconds < 100:
        step = 5 if seconds < 60 else 10
        return f"about {step * max(1, round(seconds / step))} seconds"
    if seconds < 5400:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {seconds / 3600:.1f} hours"


def _head(network: str, images: int | None, known: int) -> dict[str, float]:
    """Seconds of each phase of a head on a network's features."""
    if not images:
        return {}
    folds = 1 if images > _JUDGED else 11 if images <= _TEN_FOLDS else 6
    return {
        "start": _START + 0.005 * images,
        "features": 0.5 + _FEATURES[network] * max(0, images - known),
        "heads": folds * (_HEAD + _HEAD_OF_IMAGE * min(images, 1_500)),
        "finish": _FINISH + 0.005 * min(images, _JUDGED),
    }


def _in_time(head: dict[str, float], seconds: float) -> dict[str, float]:
    """Seconds of each phase of a fine-tuning with a limit."""
    before = sum(head.values())
    return {**head, "epochs": max(1.0, seconds - before)} if head else {}


def _sum(expected: dict[str, float], factor: float) -> float | None:
    return factor * sum(expected.values()) if expected else None
