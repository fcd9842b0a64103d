"""`--model auto`: a network and a recipe that suit the images and the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
    shape: Sequence[int],
    counts: Sequence[int],
    mirrored: bool = True,
    device: str = "cpu",
    quick: bool = False,
    requested: Mapping[str, object] | None = None,
) -> Choice:
    """A network, its size and how it is trained, by the images and the machine."""
    settled = {key: value for key, value in (requested or {}).items() if value is not None}
    height, width, channels = shape
    images, classes = sum(counts), len(counts)
    data = DataRecipe.of("images", size=(height, width))
    amount = next(amount for amount in _AMOUNTS if images <= amount.images)
    model = "resnet" if min(height, width) >= MODELS["resnet"].min_side else "mlp"
    asked = resolve(data, model=model, mirrored=mirrored, **settled)
    usual = resolve(data, model=model, optimizer=settled.get("optimizer")).training
    epochs, batch = amount.epochs, amount.batch
    if device != "cpu":
        epochs = round(_GPU_EPOCHS * epochs)
        while batch < _GPU_BATCHES * amount.batch and images >= 2 * batch * _GPU_STEPS:
            batch *= 2
    batch = asked.training.batch_size if "batch_size" in settled else batch
    # Adam's steps may grow with the root of the batch (Malladi et al., arXiv:2205.10287).
    rate = usual.learning_rate * min(2.0, math.sqrt(batch / usual.batch_size))
    wanted = asked.training.epochs if "epochs" in settled else epochs
    speed = _RATES["cpu with bfloat16" if device == "cpu" and quick else device]
    speed *= cores() if device == "cpu" else 1
    stems = _STEMS["quick" if quick or device != "cpu" else "slow"]
    for size in _sizes(asked.model, min(height, width), classes, stems, settled):
        hidden = resolve(data, model=model, mirrored=True, **size).model.hidden
        work = _PASSES * images * MODELS[model].cost(hidden, (height, width, channels), classes)
        an_epoch = work / speed + _STEP * math.ceil(images / batch)
        fitting = 60 * amount.minutes / an_epoch
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
    recipe = resolve(data, model=model, mirrored=mirrored, **options)
    where = counted(cores(), "core") if device == "cpu" else "a usual GPU"
    few = ", few and so varied more" if recipe.training.rotate and images <= _FEW else ""
    reason = (
        f"{recipe.model.name} {','.join(map(str, recipe.model.hidden))}, "
        f"{recipe.training.epochs} epochs: {images:,} images of {height}×{width} for "
        f"{classes} classes{few}, on {where}"
    )
    return Choice(model, options, reason)


def _sizes(
    asked: ModelRecipe,
    side: int,
    classes: int,
    stems: Sequence[int],
    settled: Mapping[str, object],
) -> Iterator[Mapping[str, object]]:
    """Options for the size of the network, the best first."""
    if not MODELS[asked.name].convolutional or "hidden" in settled:
        yield {name: settled[name] for name in ("hidden", "depth") if name in settled}
        return
    stages = min(3, (side - 1).bit_length() - 1)
    while (side - 1) >> stages > _LAST_SIDE:
        stages += 1
    stages = asked.depth if "depth" in settled else stages
    for stem in stems:
        filters = [min(stem << stage, _WIDEST * stem) for stage in range(stages)]
        # What tells many classes apart must have room in the last stage.
        filters[-1:] = [max(last, min(2 * last, classes // 2)) for last in filters[-1:]]
        yield {"hidden": tuple(filters)}
