"""Pieces of real work on made-up images, to be timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin._version import __version__
from opsin.core.metadata import Metadata, Preparation
from opsin.core.recipe import DataRecipe, Recipe
from opsin.data.lazy_images import THREADS, LazyImages
from opsin.models.registry import MODELS
from opsin.models.resolve import resolve
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier
from opsin.runtime.providers import CPU, choose

if TYPE_CHECKING:
    from torch import Tensor

#: Does some images, waits until they are done, and says how many they were.
Unit = Callable[[], int]
Shape = tuple[int, int, int]

#: Height and width of the files that are read.
FILE: Final = (400, 500)
#: Files that are written; they are read again and again, as all of them stay in memory.
_FILES: Final = 32
# Dense layers get the images of the tutorials' 784-128-10 network, others those of CIFAR-10.
_GREY: Final[Shape] = (28, 28, 1)
_COLOUR: Final[Shape] = (32, 32, 3)
_CLASSES: Final = 10
_IMAGES: Final = 2048
#: Steps that a GPU is given before it is waited for, as a training does.
_STEPS_AHEAD: Final = 8


def shape_for(model: str) -> Shape:
    """Return height, width and channels of the images that a network is given."""
    return _COLOUR if MODELS[model].convolutional else _GREY


def recipe_for(model: str) -> Recipe:
    """Return what a user gets who names the network and nothing else."""
    return resolve(DataRecipe.of("noise", size=shape_for(model)[:2]), model=model)


def noise(count: int, shape: Shape) -> NDArray[np.uint8]:
    """Return images that show nothing, ``uint8[N, H, W, C]``."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def reader(folder: Path, side: int) -> Unit:
    """Read JPEG files to squares, in the threads and by the function of every other reading.

    Args:
        folder: Where the files are, or are to be written.
        side: Of the squares, in pixels.
    """
    files = sorted(folder.glob("*.jpg")) or _write_photos(folder)
    # Enough for each thread to have several at a time.
    cycle = [files[place % len(files)] for place in range(max(2 * _FILES, 16 * THREADS))]
    like = Preparation(height=side, width=side, channels=3, resize="fit")
    images = LazyImages(cycle, [file.name for file in cycle], like)
    return lambda: len(images[:])


def _write_photos(folder: Path) -> list[Path]:
    """Write JPEG files with a photograph's share of fine and coarse detail."""
    random = np.random.default_rng(0)
    side = 1024
    frequency = np.hypot(np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None])
    spectrum = np.fft.rfft2(random.normal(size=(3, side, side))) / np.maximum(frequency, 1 / side)
    texture = np.fft.irfft2(spectrum, s=(side, side)).transpose(1, 2, 0)
    pixels = np.clip(110 + 35 * texture / texture.std(), 0, 255).astype(np.uint8)
    files = [folder / f"{number:02}.jpg" for number in range(_FILES)]
    for file in files:
        top, left = (int(random.integers(side - extent)) for extent in FILE)
        part = pixels[top : top + FILE[0], left : left + FILE[1]]
        Image.fromarray(np.ascontiguousarray(part)).save(file, quality=85)
    return files


def trainer(model: str, device_name: str) -> Unit:
    """Take training steps: a fresh network, its default recipe, images and labels of noise.

    Args:
        model: Which network.
        device_name: ``cpu``, ``cuda`` or ``mps``.
    """
    import torch  # noqa: PLC0415  it may not be installed

    from opsin.models import build_network  # noqa: PLC0415
    from opsin.models.statistics import statistics_of  # noqa: PLC0415
    from opsin.training.batches import TrainingBatches  # noqa: PLC0415
    from opsin.training.device import settle_precision, threads_for  # noqa: PLC0415
    from opsin.training.step import TrainStep  # noqa: PLC0415

    recipe, shape, device = recipe_for(model), shape_for(model), torch.device(device_name)
    random, rows = np.random.default_rng(0), np.arange(_IMAGES)
    images, labels = noise(_IMAGES, shape), random.integers(0, _CLASSES, _IMAGES)
    statistics = statistics_of(images, rows)
    network = build_network.build(recipe.model, shape, _CLASSES, statistics=statistics).train()
    layers = build_network.summarise(network, shape)
    recipe, work = settle_precision(recipe, layers, device)
    stepper = TrainStep(network, recipe.training, device=device)
    examples = TrainingBatches(images, labels, rows, device)

    def epochs() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from examples.batches(random.permutation(_IMAGES), recipe.training.batch_size)

    batches = epochs()

    def unit() -> int:
        done = 0
        for _ in range(1 if device.type == "cpu" else _STEPS_AHEAD):
            batch, wanted = next(batches)
            with threads_for(work):
                loss, _right = stepper.step(batch, wanted, recipe.training.rate)
            done += len(wanted)
        float(loss)  # waits for the device
        return done

    return unit


def export_fresh(model: str, folder: Path) -> Path:
    """Write the classifier.onnx of a fresh network: as quick as that of a trained one."""
    from opsin.models import build_network  # noqa: PLC0415
    from opsin.models.statistics import Statistics  # noqa: PLC0415
    from opsin.training.torch_to_onnx import to_onnx  # noqa: PLC0415  it needs PyTorch

    height, width, channels = shape = shape_for(model)
    flat = Statistics([128.0] * channels, [64.0] * channels)
    network = build_network.build(recipe_for(model).model, shape, _CLASSES, statistics=flat)
    metadata = Metadata(
        opsin=__version__,
        model=model,
        classes=tuple(map(str, range(_CLASSES))),
        preparation=Preparation(
            height=height, width=width, channels=1 if channels == 1 else 3, resize="fit"
        ),
        layers=tuple(build_network.summarise(network, shape)),
        source="noise",
        fingerprint="",
    )
    path = folder / f"{model}.onnx"
    write_classifier(path, to_onnx(network.eval(), metadata))
    return path


def one_by_one(file: Path) -> Unit:
    """Ask a classifier for one prepared image, as a program does that has just one."""
    classifier = Classifier(file, device=CPU)
    (image,) = noise(1, _shape_of(classifier))

    def unit() -> int:
        classifier.predict(image)
        return 1

    return unit


def in_batches(file: Path, count: int, device: str = CPU) -> Unit:
    """Ask a classifier for many prepared images at once."""
    classifier = Classifier(file, device=device)
    images = noise(count, _shape_of(classifier))
    return lambda: len(classifier.probabilities(images))


def in_batches_on(file: Path, count: int, device: str) -> Unit | None:
    """Ask it on another device; ``None`` where that fails."""
    unit = in_batches(file, count, device)
    unit()
    return unit if choose(device, needed=False) == device else None


def _shape_of(classifier: Classifier) -> Shape:
    like = classifier.metadata.preparation
    return like.height, like.width, like.channels
