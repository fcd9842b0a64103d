"""Images a second that this machine trains on and answers for, on images of noise."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel

from opsin.commands.machine import Machine
from opsin.commands.report import without_page
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset, from_arrays
from opsin.models.registry import MODELS
from opsin.models.resolve import resolve
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU, choose, installed

#: Computes some images, waits until they are done, and returns how many they were.
Unit = Callable[[], int]

_IMAGES: Final = 1024
_REPEATS: Final = 5


class ImageRate(BaseModel):
    """Images a second of one measurement: median, slowest and fastest of its repeats."""

    work: Literal["training", "prediction"]
    name: str
    how: str
    size: str
    device: str
    images_per_second: float
    slowest: float
    fastest: float


class Benchmark(BaseModel):
    """All that was measured on a machine."""

    machine: Machine
    rates: list[ImageRate]


@checked
def bench(
    *,
    models: Sequence[str] = (),
    classifier: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Benchmark:
    """Measure how many images a second this machine trains on and answers for.

    Networks are trained with their default recipes, for some epochs on the CPU and on PyTorch's
    GPU. The file that comes out is asked on the CPU and on each device of ONNX Runtime.

    Args:
        models: Networks to train and to ask (default: all of them).
        classifier: A run directory or ``classifier.onnx`` to ask instead; needs no PyTorch.
        watcher: Receives the progress of the work.

    Raises:
        MissingExtraError: PyTorch is not installed, and no ``classifier`` is given.
        RecipeError: There is no such network.
        ModelFileError: ``classifier`` is no classifier.

    Example:
        >>> measured = bench(models=["mlp"])
        >>> (measured.rates[0].work, measured.rates[0].how, measured.rates[0].size)
        ('training', 'batch of 128', '28×28')
    """
    unknown = sorted(set(models) - set(MODELS))
    if unknown:
        raise RecipeError(
            f"models among {', '.join(MODELS)}", f"got {', '.join(unknown)}", "Choose there."
        )
    if classifier is not None:
        asked = Classifier(classifier, device=CPU, watcher=watcher)
        return Benchmark(machine=_machine(watcher), rates=list(_answering(asked)))
    try:
        from opsin.training.device import choose_device, describe_device  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("measuring a training", "train") from error

    gpu = choose_device("auto")
    machine = _machine(watcher, None if gpu.type == "cpu" else describe_device(gpu))
    rates: list[ImageRate] = []
    for name in models or MODELS:
        data = _noise(name)
        with tempfile.TemporaryDirectory(prefix="opsin-bench-") as folder, without_page():
            for device in dict.fromkeys([gpu.type, "cpu"]):
                watcher.note(f"training {name} on {device}")
                run = _train(data, name, device, folder)
                epochs = [epoch.images_per_second for epoch in run.history[1:]]
                how = f"batch of {resolve(DataRecipe.of(name), model=name).training.batch_size}"
                about = {"work": "training", "name": name, "how": how, "device": device}
                rates.append(_rate(epochs, data.images.shape, **about))
            rates += _answering(run.classifier())
    return Benchmark(machine=machine, rates=rates)


def _machine(watcher: Watcher, gpu: str | None = None) -> Machine:
    machine = Machine.here(gpu=gpu)
    watcher.fact("Machine", machine.line())
    if machine.busy:
        watcher.note(machine.busy)
    return machine


def _noise(model: str) -> Dataset:
    """Images like CIFAR-10's for convolutional networks, like Fashion-MNIST's for dense ones."""
    shape = (32, 32, 3) if MODELS[model].convolutional else (28, 28, 1)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (_IMAGES, *shape), np.uint8)
    return from_arrays(pixels, random.integers(0, 10, _IMAGES), test_fraction=0.0)


def _train(data: Dataset, model: str, device: str, folder: str) -> Run:
    from opsin.commands.train.train import train  # noqa: PLC0415  PyTorch

    return train(
        data, model=model, device=device, runs=folder, quiet=True,
        epochs=_REPEATS + 1, patience=_REPEATS + 1,
    )  # fmt: skip


def in_batches(classifier: Classifier, images: int) -> Unit:
    """Ask a classifier for many prepared images at once."""
    like = classifier.metadata.preparation
    shape = (images, like.height, like.width, like.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return lambda: len(classifier.probabilities(pixels))


def _answering(classifier: Classifier) -> Iterator[ImageRate]:
    """Measure a classifier one image at a time, then in batches on each device."""
    like = classifier.metadata.preparation
    about = {"work": "prediction", "name": classifier.metadata.model}
    shape = (1, like.height, like.width, like.channels)
    one = _repeated(in_batches(classifier, 1))
    yield _rate(one, shape, how="one at a time", device=CPU, **about)
    images = max(8, min(256, 1_000_000 // (like.height * like.width)))
    for device in (CPU, *installed()):
        unit = in_batches(Classifier(classifier.path, device=device), images)
        unit()
        if choose(device, needed=False) == device:  # it can be used after all
            yield _rate(_repeated(unit), shape, how=f"batch of {images}", device=device, **about)


def _repeated(unit: Unit) -> list[float]:
    """Time five repeats of about 0.3 seconds, after one that is not counted."""
    units, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.3:
        unit()
        units += 1
    rates = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        done = sum(unit() for _ in range(units))
        rates.append(done / (time.perf_counter() - began))
    return rates


def _rate(rates: Sequence[float], shape: tuple[int, ...], **about: str) -> ImageRate:
    median, low, high = statistics.median(rates), min(rates), max(rates)
    figures = {"images_per_second": median, "slowest": low, "fastest": high}
    return ImageRate.model_validate({"size": f"{shape[1]}×{shape[2]}", **about, **figures})
