"""Checks of an imported classifier: parity with its maker's program, and plausibility."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import UNKNOWN
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.commands.train.calibrate import ExportedFile
from opsin.core.artifacts.records import ImportParity
from opsin.core.errors import ModelFileError, ParityError, RecipeError
from opsin.core.stored_arrays import StoredArrays
from opsin.importing.foreign_network import ForeignNetwork
from opsin.importing.imported_file import ImportedFile
from opsin.onnx_files.parity import TOLERANCE
from opsin.runtime.classifier import Classifier

# Images to check class order and preparation on.
_TRIED: Final = 500
# How much better another order or preparation must be to be reported.
_FAR: Final = 0.15
# Accuracy below which a network is too weak to reveal its class order.
_LEAST: Final = 0.5
_SHOWN: Final = 6


def doubts_about(exported: ExportedFile, network: ForeignNetwork, pixels: PixelValues) -> list[str]:
    """Check class order and preparation on labelled images; return the doubts."""
    dataset = exported.dataset
    rows = np.concatenate([dataset.split.val, dataset.split.train])
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_TRIED])
    if not len(rows):
        return []
    labels = dataset.labels[rows]
    predicted = exported.outputs(rows, ["probabilities"])["probabilities"].argmax(axis=1)
    doubts = _doubts_about_order(predicted, labels, dataset.classes)
    if network.scales is None and network.probed.dtype != "uint8":
        now = float((predicted == labels).mean())
        right = {}
        for choice in CHOICES:
            other = PixelValues.named(choice)
            if other.model_copy(update={"stated": pixels.stated, "bgr": pixels.bgr}) == pixels:
                continue
            content = ImportedFile(network, other, UNKNOWN).content(exported.classifier.metadata)
            with contextlib.suppress(ModelFileError):  # such large pixels give NaN
                answers = replace(exported, content=content).outputs(rows, ["probabilities"])
                predicted = answers["probabilities"].argmax(axis=1)
                right[choice] = float((predicted == labels).mean())
        best = max(right, key=lambda name: right[name], default="")
        if best and right[best] >= now + _FAR:
            doubts.append(
                f"the pixels are probably others: {now:.0%} of the images are right, and "
                f"{right[best]:.0%} with --prepare={best}"
            )
    return doubts


def _doubts_about_order(
    answers: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]
) -> list[str]:
    """Return a doubt if another class order fits the answers far better."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  slow to load

    table = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(table, (answers, labels), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    best, now = table[rows, columns].sum() / len(labels), float((answers == labels).mean())
    if best < max(now + _FAR, _LEAST):
        return []
    names = [classes[int(column)] for column in columns]
    shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    doubt = (
        f"the order of the classes is probably another: {now:.0%} of {len(labels):,} images are "
        f"right, and {best:.0%} would be with {shown} (--classes {','.join(names)})"
    )
    return [doubt]


def compare_answers(content: bytes, file: Path) -> ImportParity:
    """Compare the file's answers with those of the maker's program."""
    classifier = Classifier.of_content(file, content, most=None)
    images, wanted = _arrays(file, classifier)
    actual = classifier.layers(images, ["probabilities"])["probabilities"]
    difference = float(np.abs(actual - wanted).max())
    second, first = np.sort(wanted, axis=1)[:, -2:].T
    other = (actual.argmax(axis=1) != wanted.argmax(axis=1)) & (first - second > 2 * TOLERANCE)
    if difference > TOLERANCE or other.any():
        raise ParityError(
            f"The classifier answers otherwise than {file.name} says: probabilities differ by up "
            f"to {difference:.2g}, {int(other.sum())} of {len(images)} labels with them",
            "Check the pixels (--prepare): images in the file must be as before any scaling.",
        )
    return ImportParity(
        file=file.name, images=len(images), difference=difference, labels=int(other.sum())
    )


def _arrays(file: Path, classifier: Classifier) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read images and the maker's answers; a single output is the second class's probability."""
    preparation = classifier.metadata.preparation
    shape = (preparation.height, preparation.width, preparation.channels)
    refused = RecipeError(
        f"{file} holds no images as uint8[N, {', '.join(map(str, shape))}], as they were before "
        f"any scaling, with their probabilities of {len(classifier.classes)} classes",
        "Write it: numpy.savez(FILE, images=images, probabilities=model.predict(scaled)).",
    )
    try:
        with StoredArrays(file) as stored:
            images, answers = stored.read("images"), stored.read("probabilities")
    except (OSError, ValueError, KeyError) as error:
        raise refused from error
    if not images.size or not answers.ndim:
        raise refused
    images = images[..., None] if images.ndim == 3 and preparation.channels == 1 else images
    answers = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if answers.shape[1] == 1:
        answers = np.concatenate([1 - answers, answers], axis=1)
    fits = answers.shape == (len(images), len(classifier.classes))
    if images.dtype != np.uint8 or images.shape[1:] != shape or not fits:
        raise refused
    return images, answers
