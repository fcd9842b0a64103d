"""Images a second: what this machine trains on and answers for, and several files side by side."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnxruntime
import psutil
from pydantic import BaseModel

from opsin._version import __version__
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import cores, processor_name
from opsin.core.recipe import DataRecipe
from opsin.data.dataset import Dataset, from_arrays
from opsin.models.registry import MODELS
from opsin.models.resolve import resolve
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU, choose, installed

#: Timed rounds of each measurement.
ROUNDS: Final = 5
_IMAGES: Final = 1024
# Seconds that a round takes, and a turn of the slowest of several files.
_ROUND, _TURN = 0.3, 0.2


class Machine(BaseModel):
    """What figures of speed depend on; ``gpu`` is known only where PyTorch was asked."""

    cpu: str
    threads: int
    memory: int
    load: float | None
    gpu: str | None
    versions: dict[str, str]

    @classmethod
    def here(cls, *, gpu: str | None = None) -> Machine:
        """Describe the machine at hand; the name of PyTorch's GPU is given."""
        versions = {
            "opsin": __version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        }
        if torch := sys.modules.get("torch"):
            versions["torch"] = str(torch.__version__)
        return cls(
            cpu=processor_name(),
            threads=cores(),
            memory=psutil.virtual_memory().total,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            gpu=gpu,
            versions=versions,
        )

    def line(self) -> str:
        """The machine in one line, without its load."""
        parts = [self.cpu, f"{self.threads} threads", f"{self.memory / 1e9:.0f} GB of memory"]
        if "torch" in self.versions:
            parts += [self.gpu or "no GPU", f"PyTorch {self.versions['torch']}"]
        return " · ".join([*parts, f"ONNX Runtime {self.versions['onnxruntime']}"])

    @property
    def busy(self) -> str:
        """A warning where other programs use more than half of the threads, otherwise empty."""
        if self.load is None or self.load <= self.threads / 2:
            return ""
        return (
            f"other programs keep this machine busy (load {self.load:.1f} on {self.threads} "
            "threads): it is faster than these figures"
        )


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
    from opsin.commands.report import without_page  # noqa: PLC0415  loads matplotlib
    from opsin.commands.train.train import train  # noqa: PLC0415  loads what training needs

    gpu = choose_device("auto")
    machine = _machine(watcher, None if gpu.type == "cpu" else describe_device(gpu))
    rates: list[ImageRate] = []
    for name in models or MODELS:
        data = _noise(name)
        with tempfile.TemporaryDirectory(prefix="opsin-bench-") as folder, without_page():
            for device in dict.fromkeys([gpu.type, "cpu"]):
                watcher.note(f"training {name} on {device}")
                run = train(
                    data, model=name, device=device, runs=folder, quiet=True,
                    epochs=ROUNDS + 1, patience=ROUNDS + 1,
                )  # fmt: skip
                epochs = [epoch.images_per_second for epoch in run.history[1:]]
                how = f"batch of {resolve(DataRecipe.of(name), model=name).training.batch_size}"
                about = {"work": "training", "name": name, "how": how, "device": device}
                rates.append(_rate(epochs, data.images.shape[1:], **about))
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


def _asking(classifier: Classifier, images: int) -> Callable[[], float]:
    """Return what asks about noise and returns the seconds; asked once without being counted."""
    like = classifier.metadata.preparation
    shape = (images, like.height, like.width, like.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def ask() -> float:
        began = time.perf_counter()
        classifier.probabilities(pixels)
        return max(time.perf_counter() - began, 1e-9)

    ask()  # it finds its memory and wakes the threads
    return ask


def _answering(classifier: Classifier) -> Iterator[ImageRate]:
    """Measure a classifier one image at a time, then in batches on each device."""
    like = classifier.metadata.preparation
    side = (like.height, like.width)
    about = {"work": "prediction", "name": classifier.metadata.model}
    rates = _repeated(_asking(classifier, 1), 1)
    yield _rate(rates, side, how="one at a time", device=CPU, **about)
    images = max(8, min(256, 1_000_000 // (like.height * like.width)))
    for device in (CPU, *installed()):
        ask = _asking(Classifier(classifier.path, device=device), images)
        if choose(device, needed=False) == device:  # it can be used after all
            yield _rate(
                _repeated(ask, images), side, how=f"batch of {images}", device=device, **about
            )


def _repeated(ask: Callable[[], float], images: int) -> list[float]:
    """Return the images a second of each round."""
    times = max(1, round(_ROUND / ask()))
    return [images * times / sum(ask() for _ in range(times)) for _ in range(ROUNDS)]


def _rate(rates: Sequence[float], side: tuple[int, ...], **about: str) -> ImageRate:
    median, low, high = statistics.median(rates), min(rates), max(rates)
    figures = {"images_per_second": median, "slowest": low, "fastest": high}
    return ImageRate.model_validate({"size": f"{side[0]}×{side[1]}", **about, **figures})


def rates_in_turn(
    files: Sequence[Path | None], watcher: Watcher = SILENT
) -> list[tuple[float, ...] | None]:
    """Measure images a second of several files, in turn, so that all meet the same machine."""
    opened = [None if file is None else Classifier(file, device=CPU) for file in files]
    there = [classifier for classifier in opened if classifier is not None]
    if not there:
        return [None] * len(files)
    slowest = min(8 / _asking(classifier, 8)() for classifier in there)
    count = int(min(256, max(8, slowest * _TURN)))
    asking = [None if classifier is None else _asking(classifier, count) for classifier in opened]
    rates: list[list[float]] = [[] for _ in files]
    watcher.begin("Speed", ROUNDS * len(there) * count, "images")
    done = 0
    try:
        for _ in range(ROUNDS):
            for ask, rates_of_file in zip(asking, rates, strict=True):
                if ask is not None:
                    rates_of_file.append(count / ask())
                    watcher.advance(done := done + count)
    finally:
        watcher.end()
    return [tuple(of_file) or None for of_file in rates]
