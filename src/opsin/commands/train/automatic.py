"""`--model auto` and `--budget`: a recipe that suits the images, the machine and the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from opsin.core.format import counted
from opsin.core.platform import cores
from opsin.core.recipe import DataRecipe, ModelRecipe
from opsin.models.registry import MODELS
from opsin.models.resolve import resolve


class _Amount(NamedTuple):
    """Defaults for up to a number of training images."""

    images: float
    epochs: int
    batch: int
    #: How long the training may take; else the network or the epochs become fewer.
    minutes: float
    #: Few images are varied more than their kind asks for.
    options: Mapping[str, float]


_FEW: Final = 500
_STRONG: Final = {"zoom": 0.15, "rotate": 10.0, "brightness": 0.2}
_MILD: Final = {"zoom": 0.1, "brightness": 0.1}
# Few images are seen often, in small batches, so that there are some hundred steps at all, and
# never twice alike. Of very many, a few passes show as much.
_AMOUNTS: Final = (
    _Amount(100, 100, 16, 3, _STRONG),
    _Amount(_FEW, 80, 32, 5, _STRONG),
    _Amount(5_000, 40, 64, 4.5, _MILD),
    _Amount(20_000, 24, 256, 15, {}),
    _Amount(200_000, 20, 512, 20, {}),
    _Amount(math.inf, 8, 512, 60, {}),
)
# Filters of the first stage, the best first: taken is the first that leaves time for half of the
# epochs.
_STEMS: Final = {"slow": (48, 32, 24, 16, 8), "quick": (64, 48, 32, 16, 8)}
# Each stage doubles the filters, up to this many times the first's.
_WIDEST: Final = 8
# A further stage halves the image once more, until its smaller side is at most this long.
_LAST_SIDE: Final = 4
# On a GPU epochs are cheap, and large batches are, while there are so many of them in an epoch.
_GPU_EPOCHS, _GPU_BATCHES, _GPU_STEPS = 1.5, 4, 40
# Multiply-adds a second while training: of one core, of a usual GPU.
_RATES: Final = {"cpu": 50e9, "cpu with bfloat16": 120e9, "cuda": 15e12, "mps": 1.5e12}
# Seconds that a step takes, however little there is to do.
_STEP: Final = 0.006
# Forward once and backward twice.
_PASSES: Final = 3


class Choice(NamedTuple):
    """A network's name, options for `opsin.models.resolve.resolve`, and why, in one line."""

    model: str
    options: dict[str, object]
    reason: str


def choose(
    *,
    shape: tuple[int, int, int],
    counts: Sequence[int],
    mirrored: bool = True,
    device: str = "cpu",
    quick: bool = False,
    given: Mapping[str, object] | None = None,
) -> Choice:
    """Pick a network, its size and how it is trained, by the images and the machine."""
    settled = {key: value for key, value in (given or {}).items() if value is not None}
    task = _Task(shape, len(counts), sum(counts), device, quick or device != "cpu")
    amount = next(amount for amount in _AMOUNTS if task.images <= amount.images)
    model = "resnet" if min(shape[:2]) >= MODELS["resnet"].min_side else "mlp"
    asked = resolve(task.data, model=model, mirrored=mirrored, **settled)
    usual = resolve(task.data, model=model, optimizer=settled.get("optimizer")).training
    epochs, batch = amount.epochs, amount.batch
    if device != "cpu":
        epochs = round(_GPU_EPOCHS * epochs)
        while batch < _GPU_BATCHES * amount.batch and task.images >= 2 * batch * _GPU_STEPS:
            batch *= 2
    batch = asked.training.batch_size if "batch_size" in settled else batch
    # Adam's steps may grow with the root of the batch (Malladi et al., arXiv:2205.10287).
    rate = usual.learning_rate * min(2.0, math.sqrt(batch / usual.batch_size))
    wanted = asked.training.epochs if "epochs" in settled else epochs
    for size in _sizes(asked.model, task, settled):
        fitting = 60 * amount.minutes / task.seconds(model, size, batch)
        if fitting >= wanted / 2:
            break
    options: dict[str, object] = {
        "epochs": max(1, min(epochs, int(fitting))),
        "batch_size": batch,
        "learning_rate": float(f"{rate:.2g}"),
        **(amount.options if model == "resnet" and "augment" not in settled else {}),
        **size,
        **settled,
    }
    recipe = resolve(task.data, model=model, mirrored=mirrored, **options)
    where = counted(cores(), "core") if device == "cpu" else "a usual GPU"
    few = ", few and so varied more" if recipe.training.rotate and task.images <= _FEW else ""
    reason = (
        f"{recipe.model.name} {','.join(map(str, recipe.model.hidden))}, "
        f"{recipe.training.epochs} epochs: {task.images:,} images of {shape[0]}×{shape[1]} for "
        f"{task.classes} classes{few}, on {where}"
    )
    return Choice(model, options, reason)


@dataclass(frozen=True)
class _Task:
    """What is to be learnt, and where."""

    shape: tuple[int, int, int]
    classes: int
    images: int
    device: str
    quick: bool

    @property
    def data(self) -> DataRecipe:
        return DataRecipe.of("images", size=self.shape[:2])

    def seconds(self, model: str, size: Mapping[str, object], batch: int) -> float:
        """Return about how long an epoch takes."""
        hidden = resolve(self.data, model=model, mirrored=True, **size).model.hidden
        work = _PASSES * self.images * MODELS[model].cost(hidden, self.shape, self.classes)
        kind = "cpu with bfloat16" if self.device == "cpu" and self.quick else self.device
        rate = _RATES[kind] * (cores() if self.device == "cpu" else 1)
        return work / rate + _STEP * math.ceil(self.images / batch)


def _sizes(
    asked: ModelRecipe, task: _Task, settled: Mapping[str, object]
) -> Iterator[Mapping[str, object]]:
    """Yield options for the size of the network, the best first."""
    if not MODELS[asked.name].convolutional or "hidden" in settled:
        yield {name: settled[name] for name in ("hidden", "depth") if name in settled}
        return
    side = min(task.shape[:2])
    stages = min(3, (side - 1).bit_length() - 1)
    while (side - 1) >> stages > _LAST_SIDE:
        stages += 1
    stages = asked.depth if "depth" in settled else stages
    for stem in _STEMS["quick" if task.quick else "slow"]:
        filters = [min(stem << stage, _WIDEST * stem) for stage in range(stages)]
        # What tells many classes apart must have room in the last stage.
        filters[-1:] = [max(last, min(2 * last, task.classes // 2)) for last in filters[-1:]]
        yield {"hidden": tuple(filters)}
