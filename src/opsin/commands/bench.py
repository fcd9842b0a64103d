"""Images a second of this machine, in training and prediction."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
import onnxruntime
from pydantic import BaseModel

from opsin._version import __version__
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import cores, processor_name
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset, from_arrays
from opsin.models.architectures import MODELS
from opsin.models.resolve import resolve
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU, choose, installed

#: Timed rounds of each measurement.
ROUNDS: Final = 5
_IMAGES: Final = 1024
# Seconds that a round takes.
_ROUND: Final = 0.3


class Machine(BaseModel):
    """The machine that speeds were measured on; ``gpu`` is known only if PyTorch was loaded."""

    cpu: str
    threads: int
    gpu: str | None
    versions: dict[str, str]


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
    """All measurements of a machine."""

    machine: Machine
    rates: list[ImageRate]


@checked
def bench(
    *,
    models: Sequence[str] = (),
    classifier: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Benchmark:
    """Measure images a second of this machine, in training and prediction.

    Networks are trained with their default recipes, for some epochs on the CPU and on PyTorch's
    GPU. The exported file predicts on the CPU and on each device of ONNX Runtime.

    Args:
        models: Networks to train and time (default: all of them).
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
        raise RecipeError(f"--model takes {', '.join(MODELS)}, not {', '.join(unknown)}")
    if classifier is not None:
        opened = Classifier(classifier, device=CPU, watcher=watcher)
        return Benchmark(machine=_machine(watcher), rates=list(_answering(opened)))
    try:
        from opsin.training.device import choose_device, describe_device  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("measuring a training", "train") from error
    from opsin.commands.report import without_page  # noqa: PLC0415  loads matplotlib
    from opsin.commands.train.train import train  # noqa: PLC0415  loads what training needs

    gpu = choose_device("auto")
    machine = _machine(watcher, gpu=None if gpu.type == "cpu" else describe_device(gpu))
    rates: list[ImageRate] = []
    for name in models or MODELS:
        data = _noise(name)
        with tempfile.TemporaryDirectory(prefix="opsin-bench-") as folder, without_page():
            for device in dict.fromkeys([gpu.type, "cpu"]):
                watcher.note(f"training {name} on {device}")
                run = train(
                    data,
                    model=name,
                    device=device,
                    runs=folder,
                    quiet=True,
                    epochs=ROUNDS + 1,
                    patience=ROUNDS + 1,
                )
                epochs = [epoch.images_per_second for epoch in run.history[1:]]
                how = f"batch of {resolve(DataRecipe.of(name), model=name).training.batch_size}"
                about = {"work": "training", "name": name, "how": how, "device": device}
                rates.append(_rate(epochs, data.images.shape[1:], **about))
            rates += _answering(run.classifier())
    return Benchmark(machine=machine, rates=rates)


def _machine(watcher: Watcher, *, gpu: str | None = None) -> Machine:
    versions = {
        "opsin": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }
    if torch := sys.modules.get("torch"):
        versions["torch"] = str(torch.__version__)
    machine = Machine(cpu=processor_name(), threads=cores(), gpu=gpu, versions=versions)
    gpu_words = [gpu or "no GPU"] if torch else []
    words = [machine.cpu, f"{machine.threads} threads", *gpu_words]
    words += [f"{name} {version}" for name, version in versions.items() if name != "opsin"]
    watcher.fact("Machine", " · ".join(words))
    return machine


def _noise(model: str) -> Dataset:
    """Noise of CIFAR-10's shape for convolutional networks, Fashion-MNIST's for dense ones."""
    shape = (32, 32, 3) if MODELS[model].convolutional else (28, 28, 1)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (_IMAGES, *shape), np.uint8)
    return from_arrays(pixels, random.integers(0, 10, _IMAGES), test_fraction=0.0)


def _answering(classifier: Classifier) -> Iterator[ImageRate]:
    preparation = classifier.metadata.preparation
    side = (preparation.height, preparation.width)
    about = {"work": "prediction", "name": classifier.metadata.model}
    rates = _answer_rates(classifier, 1)
    yield _rate(rates, side, how="one at a time", device=CPU, **about)
    images = max(8, min(256, 1_000_000 // (preparation.height * preparation.width)))
    for device in (CPU, *installed()):
        rates = _answer_rates(Classifier(classifier.path, device=device), images)
        if choose(device, needed=False) == device:  # it works
            yield _rate(rates, side, how=f"batch of {images}", device=device, **about)


def _answer_rates(classifier: Classifier, images: int) -> list[float]:
    preparation = classifier.metadata.preparation
    shape = (images, *preparation.shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def seconds() -> float:
        began = time.perf_counter()
        classifier.probabilities(pixels)
        return max(time.perf_counter() - began, 1e-9)

    seconds()  # warm-up
    times = max(1, round(_ROUND / seconds()))
    return [images * times / sum(seconds() for _ in range(times)) for _ in range(ROUNDS)]


def _rate(rates: Sequence[float], side: tuple[int, ...], **about: str) -> ImageRate:
    median, low, high = statistics.median(rates), min(rates), max(rates)
    figures = {"images_per_second": median, "slowest": low, "fastest": high}
    return ImageRate.model_validate({"size": f"{side[0]}×{side[1]}", **about, **figures})
