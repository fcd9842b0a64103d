"""Export for others: a zip with clients, or a folder for the Hugging Face hub."""

from __future__ import annotations

import hashlib
import io
import os
import re
import string
import zipfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, Field, computed_field

from opsin.commands.evaluate import answers
from opsin.commands.export.smaller import SHIPPED_WORDS, Shipped, ShippedPart
from opsin.commands.known_images import known_images
from opsin.commands.runs import Run
from opsin.core.arrays import Ints, Pixels
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.errors import ParityError, RecipeError, RunError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import file_size
from opsin.core.metadata import Metadata
from opsin.core.recipe import DataRecipe
from opsin.core.storage import storage_errors, write_bytes
from opsin.core.stored_json import json_text
from opsin.data.lazy_images import ReferenceSet
from opsin.data.pixel_values import encode_png
from opsin.hub.hub_name import CLASSIFIER, PREFIX, HubName
from opsin.report.card import UNSTATED, Publication, model_card
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import cpu_session

_SUMS: Final = "SHA256SUMS"
_CARD: Final = "README.md"
# Largest difference of probabilities explained by rounding.
_TOLERANCE: Final = 1e-4
# Real and synthetic images to compare plain ONNX Runtime with Opsin.
_COMPARED: Final = 512
_NOISE: Final = 8
# Quantile of confidence among a class's correct images: confident, but not extreme.
_PLACE: Final = 0.75


def _for_others(classifier: Classifier) -> bytes:
    """Return the file without local paths and notes; its answers stay the same."""
    from opsin.onnx_files.postprocessing import finished, without_notes  # noqa: PLC0415  onnx

    metadata = classifier.metadata
    if (directory := _run_of(classifier)) is not None:
        source = Run(directory.path).recipe.data.source_names
    else:
        sources, _, test = metadata.source.partition(" · test: ")
        source = DataRecipe.of(*sources.split(" + "), test=test or None).source_names
    named = metadata.model_copy(update={"source": source})
    return without_notes(finished(classifier.content, named))


def _run_of(classifier: Classifier) -> RunDirectory | None:
    directory = RunDirectory(classifier.path.parent)
    is_classifier = directory.classifier == classifier.path and directory.recipe.is_file()
    return directory if is_classifier else None


def _client(name: str) -> bytes:
    return (resources.files("opsin.commands.export") / "clients" / name).read_bytes()


def _classes_json(metadata: Metadata) -> bytes:
    preparation = metadata.preparation
    prepared = preparation.model_dump(exclude={"background"}, exclude_none=True)
    reject = None if metadata.reject is None else metadata.reject.max_ood_score
    return _json({"classes": list(metadata.classes), **prepared, "reject": reject})


def _json(content: Any) -> bytes:
    return (json_text(content, indent=1) + "\n").encode("utf-8", "backslashreplace")


def _checksums(files: Mapping[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()


def write_bundle(
    classifier: Classifier,
    target: Path,
    *,
    data: Sequence[str | os.PathLike[str]],
    watcher: Watcher,
) -> Shipped:
    """Write a bundle, after comparing plain ONNX Runtime with Opsin on real images."""
    known = known_images(classifier, data, watcher=watcher)
    # Training images for a cross-validated run, which trained on all.
    parts: dict[ShippedPart, Ints] = {"val": known.val, "test": known.test}
    if known.own:
        parts["train"] = known.train
    part, rows = next((item for item in parts.items() if len(item[1])), ("val", known.val))
    if not len(rows):
        raise SourceError(f"{known.source} has no images left for samples", "Name others: --data.")
    content, metadata = _for_others(classifier), classifier.metadata
    predicted = answers(classifier, known.images, rows, "Samples", watcher)
    compared = rows[np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(np.int64)]
    difference = _compare(classifier, content, np.ascontiguousarray(known.images[compared]))
    expected, pictures = _samples(classifier, known, rows, predicted)
    files = {
        "classifier.onnx": content,
        "classes.json": _classes_json(metadata),
        "expected.json": _json(expected),
        "README.md": _readme(
            metadata, {str(answer["class"]) for answer in expected.values()}, part
        ),
        **{name: _client(name) for name in ("predict.py", "predict.mjs", "package.json")},
        **{f"samples/{file}": picture for file, picture in pictures.items()},
    }
    zipped = _zip(files | {_SUMS: _checksums(files)})
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
    classifier: Classifier, known: ReferenceSet, rows: Ints, predicted: Answers
) -> tuple[dict[str, dict[str, object]], dict[str, bytes]]:
    """Return Opsin's answers to one image of each class, correct if possible, and PNG files."""
    labels, answered = known.labels[rows], predicted.probabilities.argmax(axis=1)
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
            "image": str(known.names[row]),
            "class": classifier.classes[label],
            "label": classifier.classes[int(probabilities.argmax())],
            "probabilities": probabilities.tolist(),
        }
        pictures[file] = encode_png(pixels[0])
    return expected, pictures


def _compare(classifier: Classifier, content: bytes, images: Pixels) -> float:
    """Return the largest difference between plain ONNX Runtime and Opsin."""
    session = cpu_session(content)
    expected = classifier.probabilities(images)
    plain = np.concatenate(
        [
            session.run(["probabilities"], {"images": images[start : start + 64]})[0]
            for start in range(0, len(images), 64)
        ]
    )
    difference = float(np.abs(expected - plain).max())
    changed = int((expected.argmax(axis=1) != plain.argmax(axis=1)).sum())
    if changed or not difference <= _TOLERANCE:
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
        "score": "accuracy not known"
        if score is None
        else f"accuracy {score.accuracy:.4f} on {score.images:,} {PART_WORDS[score.split]} images",
        "samples": f"{len(shown)} prepared images, one of each class"
        + (f" but {', '.join(without[:20])}" if without else ""),
        "part": SHIPPED_WORDS[part],
        "background": "The clients leave the background as it is."
        if preparation.background is None
        else "Opsin turns a background dark or light where the training images' was; the clients "
        "leave it as it is, as `opsin predict --as-is` does.",
        "reject": "the file has no threshold, so it cannot tell whether an image is similar to "
        "the training images."
        if metadata.reject is None
        else f"an image whose output `ood_score` is above {metadata.reject.max_ood_score:.6g} "
        "(`reject` in `classes.json`) is like none of the training images.",
        "precision": f"The network is kept in {metadata.precision}."
        + (
            " Integers are rounded otherwise by processors without VNNI or its like, so that a few "
            "labels may differ there."
            if metadata.precision == "int8"
            else ""
        ),
    }
    text = _client("README.md").decode("utf-8")
    return string.Template(text).substitute(words).encode("utf-8", "backslashreplace")


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)  # without a time, so that bundles are reproducible
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on any system
            entry.external_attr = 0o100644 << 16
            bundle.writestr(entry, files[name], compresslevel=6)
    return stream.getvalue()


class HubExport(BaseModel, frozen=True):
    """A folder for the hub; ``files`` has the bytes of each file by its name."""

    path: Path
    repository: str = Field(exclude=True)
    files: dict[str, int]
    licence: str

    @computed_field
    @property
    def to(self) -> str:
        """Its address on the hub."""
        return f"{PREFIX}{self.repository}"

    @computed_field
    @property
    def verdict(self) -> str:
        """The result in a few sentences."""
        return (
            f"{len(self.files)} files, {file_size(sum(self.files.values()))}; nothing was sent. "
            f"Read {_CARD}, which you may change; then: hf upload {self.repository} {self.path}"
        )


def export_to_hub(
    classifier: Classifier,
    name: HubName,
    out: str | os.PathLike[str] | None,
    *,
    licence: str | None,
) -> HubExport:
    """Write the folder for the hub."""
    if name.revision != "main":
        raise RecipeError(f"A revision, {name.revision}, cannot be written to", "Leave it out.")
    folder = classifier.path.with_name(f"hub-{name.repository.replace('/', '-')}")
    folder = folder if out is None else Path(out)
    stated = UNSTATED if licence is None else licence
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,49}", licence):
        raise RecipeError(f"{licence!r} is no licence of the hub (apache-2.0, mit, cc-by-4.0)")
    _check_earlier(folder)
    files = _files(classifier, name, stated)
    files[_SUMS] = _checksums(files)
    for file, value in files.items():
        write_bytes(folder / file, value)
    return HubExport(
        path=folder,
        repository=name.repository,
        files={file: len(value) for file, value in files.items()},
        licence=stated,
    )


def _files(classifier: Classifier, name: HubName, licence: str) -> dict[str, bytes]:
    directory = _run_of(classifier)
    if classifier.published is not None or directory is None or not directory.report.is_file():
        raise RunError(f"{classifier.title} is no finished run", "Give the run directory.")
    content, preparation = _for_others(classifier), classifier.metadata.preparation
    shape = (_NOISE, *preparation.shape)
    _compare(classifier, content, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    run = Run(directory.path)
    card = model_card(
        run.report,
        run.recipe.training.seed,
        name=name.repository,
        source=run.recipe.data.source_names,
        publication=Publication(name.repository, licence, classifier.metadata.backbone),
    )
    return {
        CLASSIFIER: content,
        _CARD: card.encode("utf-8", "backslashreplace"),
        "classes.json": _classes_json(classifier.metadata),
        "predict.py": _client("predict.py"),
    }


def _check_earlier(folder: Path) -> None:
    """Refuse a folder that is no earlier export, or whose card was changed by hand."""
    if not os.path.lexists(folder):
        return
    refused = RecipeError(f"{folder} is no earlier export to the hub", "Name another: --out NEW.")
    with storage_errors(folder):
        if folder.is_symlink() or not folder.is_dir():
            raise refused
        if not any(folder.iterdir()):
            return
    try:
        lines = (folder / _SUMS).read_text("utf-8").splitlines()
        card = (folder / _CARD).read_bytes() if (folder / _CARD).exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise refused from error
    sums = {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
    if not {CLASSIFIER, "classes.json", "predict.py"} <= set(sums):
        raise refused
    if card is not None and hashlib.sha256(card).hexdigest() != sums.get(_CARD):
        changed = f"{folder / _CARD} was changed by hand, and would be overwritten"
        raise RecipeError(changed, "Remove it for a new card, or name another folder: --out NEW.")
