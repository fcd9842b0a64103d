"""Export for others: the file without local paths, and a zip with clients."""

from __future__ import annotations

import hashlib
import io
import re
import string
import zipfile
from collections.abc import Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.evaluate import answers
from opsin.commands.export.shipped import SHIPPED_WORDS, Shipped, ShippedPart
from opsin.commands.known_images import known_images
from opsin.commands.runs import Run
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.errors import ParityError, SourceError
from opsin.core.events import Watcher
from opsin.core.metadata import Metadata
from opsin.core.recipe import DataRecipe
from opsin.core.storage import write_bytes
from opsin.core.stored_json import json_text
from opsin.data.lazy_images import ReferenceSet
from opsin.data.pixel_values import encode_png
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import cpu_session

#: File of checksums.
SUMS: Final = "SHA256SUMS"
#: Largest difference of probabilities explained by rounding.
TOLERANCE: Final = 1e-4
# Real and synthetic images to compare plain ONNX Runtime with Opsin.
_COMPARED: Final = 512
_NOISE: Final = 8
# The earliest year of zip; a fixed time makes bundles reproducible.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_CLIENTS: Final = ("predict.py", "predict.mjs", "package.json")
# Quantile of confidence among a class's correct images: confident, but not extreme.
_PLACE: Final = 0.75


def for_others(classifier: Classifier) -> bytes:
    """Return the file without local paths and notes; its answers stay the same."""
    from opsin.onnx_files.postprocessing import finished, without_notes  # noqa: PLC0415  onnx

    metadata, path = classifier.metadata, classifier.path
    if (directory := run_of(classifier)) is not None:
        source = Run(directory.path).recipe.data.source_names
    else:
        sources, _, test = metadata.source.partition(" · test: ")
        source = DataRecipe.of(*sources.split(" + "), test=test or None).source_names
    named = metadata.model_copy(update={"source": source})
    content = without_notes(finished(classifier.content, named))
    written = Classifier.of_content(path, content, most=classifier.most)
    preparation = metadata.preparation
    shape = (_NOISE, preparation.height, preparation.width, preparation.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    apart = np.abs(classifier.probabilities(images) - written.probabilities(images)).max()
    if not apart == 0:
        raise ParityError(
            f"Without its notes the file answers otherwise: probabilities differ by {apart:.2g}",
            "Please report this; nothing was written.",
        )
    return content


def run_of(classifier: Classifier) -> RunDirectory | None:
    """Return the run of a classifier file, or ``None`` if it lies elsewhere."""
    directory = RunDirectory(classifier.path.parent)
    is_classifier = directory.classifier == classifier.path and directory.recipe.is_file()
    return directory if is_classifier else None


def client(name: str) -> bytes:
    """Return a file of the clients."""
    return (resources.files("opsin.commands.export") / "clients" / name).read_bytes()


def classes_json(metadata: Metadata) -> bytes:
    """Return the clients' settings: classes and preparation."""
    preparation = metadata.preparation
    prepared = preparation.model_dump(exclude={"background"}, exclude_none=True)
    reject = None if metadata.reject is None else metadata.reject.max_ood_score
    return _json({"classes": list(metadata.classes), **prepared, "reject": reject})


def _json(content: Any) -> bytes:
    return (json_text(content, indent=1) + "\n").encode("utf-8", "backslashreplace")


def checksums(files: Mapping[str, bytes]) -> bytes:
    """Return the lines for ``sha256sum --check``, sorted by name."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()


def write_bundle(
    classifier: Classifier,
    target: Path,
    *,
    data: Sequence[str | PathLike[str]],
    watcher: Watcher,
) -> Shipped:
    """Write a bundle, after comparing plain ONNX Runtime with Opsin on real images."""
    known = known_images(classifier, data, watcher=watcher)
    # Training images for a cross-validated run, which trained on all.
    parts: dict[ShippedPart, NDArray[np.int64]] = {"val": known.val, "test": known.test}
    if known.own:
        parts["train"] = known.train
    part, rows = next((item for item in parts.items() if len(item[1])), ("val", known.val))
    if not len(rows):
        raise SourceError(
            f"{known.source} has no images left that could be samples",
            "Name others: --data SOURCE.",
        )
    content, metadata = for_others(classifier), classifier.metadata
    predicted = answers(classifier, known.images, rows, "Samples", watcher)
    compared = rows[np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(np.int64)]
    difference = _compare(classifier, content, np.ascontiguousarray(known.images[compared]))
    expected, pictures = _samples(classifier, known, rows, predicted)
    files = {
        "classifier.onnx": content,
        "classes.json": classes_json(metadata),
        "expected.json": _json(expected),
        "README.md": _readme(
            metadata, {str(answer["class"]) for answer in expected.values()}, part
        ),
        **{name: client(name) for name in _CLIENTS},
        **{f"samples/{file}": picture for file, picture in pictures.items()},
    }
    zipped = _zip(files | {SUMS: checksums(files)})
    write_bytes(target, zipped)
    return Shipped(
        path=target,
        to="bundle",
        bytes=len(zipped),
        bytes_before=len(content),
        part=part,
        images=len(compared),
        labels_changed=0,
        largest_difference=difference,
        samples=len(expected),
    )


def _samples(
    classifier: Classifier, known: ReferenceSet, rows: NDArray[np.int64], predicted: Answers
) -> tuple[dict[str, dict[str, object]], dict[str, bytes]]:
    """Return Opsin's answers to one image of each class, correct if possible, and PNG files."""
    labels, answered, names = (
        known.labels[rows],
        predicted.probabilities.argmax(axis=1),
        known.names,
    )
    refused = predicted.rejected(classifier.metadata.reject)
    sure = answered == labels if refused is None else (answered == labels) & ~refused
    expected: dict[str, dict[str, object]] = {}
    pictures = {}
    for label in np.unique(labels):
        right = np.flatnonzero((labels == label) & sure)
        among = right if len(right) else np.flatnonzero(labels == label)
        ranked = among[np.argsort(predicted.probabilities[among, label], kind="stable")]
        row = int(rows[ranked[int(_PLACE * (len(ranked) - 1)) if len(right) else -1]])
        # Computed alone, as clients do.
        pixels = np.ascontiguousarray(known.images[row : row + 1])
        probabilities = classifier.answers(pixels).probabilities[0]
        # A portable name: ``3-ankle-boot.png``.
        tame = re.sub(r"[^a-z0-9]+", "-", classifier.classes[label].lower()).strip("-")[:40]
        width = len(str(len(classifier.classes) - 1))
        file = f"{label:0{width}}-{tame or 'class'}.png"
        expected[file] = {
            "image": str(names[row]),
            "class": classifier.classes[label],
            "label": classifier.classes[int(probabilities.argmax())],
            "probabilities": probabilities.tolist(),
        }
        pictures[file] = encode_png(pixels[0])
    return expected, pictures


def _compare(classifier: Classifier, content: bytes, images: NDArray[np.uint8]) -> float:
    """Return the largest difference between plain ONNX Runtime and Opsin."""
    session = cpu_session(content)
    expected = classifier.probabilities(images)
    plain = np.concatenate(
        [session.run(["probabilities"], {"images": images[start : start + 64]})[0]
         for start in range(0, len(images), 64)]
    )  # fmt: skip
    difference = float(np.abs(expected - plain).max())
    changed = int((expected.argmax(axis=1) != plain.argmax(axis=1)).sum())
    if changed or not difference <= TOLERANCE:
        raise ParityError(
            f"Plain ONNX Runtime answers otherwise: {changed} of {len(images)} labels differ, "
            f"probabilities by up to {difference:.2g}",
            "Please report this; nothing was written.",
        )
    return difference


def _readme(metadata: Metadata, shown: set[str], part: ShippedPart) -> bytes:
    preparation, score = metadata.preparation, metadata.score
    without = [name for name in metadata.classes if name not in shown]
    words = {
        "count": len(metadata.classes),
        "classes": ", ".join(metadata.classes[:50]) + (" …" if len(metadata.classes) > 50 else ""),
        "opsin": metadata.opsin,
        "model": metadata.model,
        "width": preparation.width,
        "height": preparation.height,
        "channels": preparation.channels,
        "score": "accuracy not known" if score is None else
        f"accuracy {score.accuracy:.4f} on {score.images:,} "
        f"{PART_WORDS[score.split]} images",
        "samples": f"{len(shown)} prepared images, one of each class"
        + (f" but {', '.join(without[:20])}" if without else ""),
        "chosen": f"The samples are {SHIPPED_WORDS[part]} images: of those of a class that are "
        "rightly recognised, the one that three quarters of the others are less sure of. Where "
        "none is, it is the one with the highest probability of its class, and `label` says what "
        "the file answers instead.",
        "background": "The clients leave the background as it is."
        if preparation.background is None else
        "Opsin turns a background dark or light where the training images' was; the clients "
        "leave it as it is, as `opsin predict --as-is` does.",
        "reject": "the file has no threshold, so it cannot tell whether an image is similar to "
        "the training images."
        if metadata.reject is None else
        f"an image whose output `ood_score` is above {metadata.reject.max_ood_score:.6g} (`reject` "
        "in `classes.json`) is like none of the training images.",
        "precision": f"The network is kept in {metadata.precision}."
        + (" Integers are rounded otherwise by processors without VNNI or its like, so that a few "
           "labels may differ there." if metadata.precision == "int8" else ""),
    }  # fmt: skip
    text = client("README.md").decode("utf-8")
    return string.Template(text).substitute(words).encode("utf-8", "backslashreplace")


def _zip(files: dict[str, bytes]) -> bytes:
    """Pack files reproducibly."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on any system
            entry.external_attr = 0o100644 << 16
            bundle.writestr(entry, files[name], compresslevel=6)
    return stream.getvalue()
