"""A classifier that another program saved becomes a run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.backbones.backbone import UNKNOWN, licence_beside
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.commands.finish import Draft
from opsin.commands.import_recipe import IMPORTED, ImportedModel, ImportRecipe
from opsin.commands.recorder import Recorder, recorded
from opsin.commands.runs import Run
from opsin.commands.train import watcher_of_run
from opsin.commands.training_job import conclude, versions, write_request
from opsin.commands.training_summary import tell_images, tell_measured, tell_model
from opsin.core.arguments import checked
from opsin.core.artifacts.import_record import ImportParity, ImportRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import ParityError, RecipeError
from opsin.core.events import Watcher
from opsin.core.format import clock, file_size
from opsin.core.metadata import Layer, Metadata, Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import check_writable, write_json
from opsin.core.stored_arrays import StoredArrays
from opsin.data.audit import Audit, audit
from opsin.data.dataset import Dataset, load
from opsin.importing.class_names import names_beside, names_from
from opsin.importing.foreign_network import ForeignNetwork, read_foreign
from opsin.importing.imported_file import ImportedFile
from opsin.importing.plausibility import doubt_about_order, doubt_about_pixels
from opsin.onnx_files.parity import TOLERANCE
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier

# Images that order of classes and preparation are doubted by.
_TRIED: Final = 500
_LEARNT_FROM: Final = "not known: where test images were among it, their figures are too good"
# What the arrays of maker's answers may be called.
_ANSWERS: Final = ("probabilities", "answers", "y", "logits")
_IMAGES: Final = ("images", "x")
# How pixels of networks that Keras itself publishes were scaled, by how their names begin.
_KNOWN_NAMES: Final = {
    "mobilenet": "-1..1", "xception": "-1..1", "inception": "-1..1", "nasnet": "-1..1",
    "densenet": "imagenet", "resnet50v2": "-1..1", "resnet101v2": "-1..1", "resnet152v2": "-1..1",
}  # fmt: skip


@dataclass(frozen=True)
class _ImportJob:
    """An import with images to measure it on."""

    dataset: Dataset
    audit: Audit
    recipe: ImportRecipe
    layers: list[Layer]

    @property
    def device_name(self) -> str:
        """Where it learnt, as a person would say it."""
        return "elsewhere"


@checked
def import_model(
    file: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    classes: Sequence[str] | None = None,
    classes_from: str | os.PathLike[str] | None = None,
    prepare: str | None = None,
    size: int | None = None,
    output: str | None = None,
    check: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Bring in a classifier that another program saved.

    The file is read in a process of its own, and nothing in it is run or looked up. Its answers
    stay what they were: nothing is calibrated, and no answer is refused. With labelled images it is
    measured like a run that was trained on them, on the same test images.

    Args:
        file: A file of Keras (``.keras``, ``.h5``) or an ONNX file of any maker.
        data: Images with labels to measure it on.
        classes: Names of the classes in the order of its answers (default: as the file says, or one
            beside it, or ``data``).
        classes_from: A folder whose sub-folders, or a file whose lines, name the classes.
        prepare: The pixels that it was trained on, where neither the file nor one beside it says
            them: ``imagenet``, ``-1..1``, ``0..1``, ``0..255``, each also with ``,bgr``, or a JSON
            file.
        size: Height and width of its images, where the file leaves them open.
        output: Which of its outputs answers, where there are several.
        check: Arrays with ``images`` (``uint8[N, H, W, C]``) and the ``probabilities`` that its
            maker's program gives them; other answers than these are an error.
        licence: Under which it is published (default: as beside it, or unknown).
        runs: Folder for run directories.
        name: What the run directory is called (default: as the file).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Get the same events beside the display.
        quiet: Show nothing.
        **options: Fields of `DataRecipe` that say how ``data`` is read.

    Returns:
        The run. It has a report where there is ``data``.

    Raises:
        ModelFileError: It is no classifier of images, or holds what is not known here.
        RecipeError: Nothing says its classes or its pixels.
        ParityError: Its answers are not those in ``check``.
        SourceError: ``data`` cannot be read, or has other classes.
        StorageError: ``runs`` cannot be written.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> folder = tempfile.mkdtemp()
        >>> own = train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
        >>> import onnx
        >>> model = onnx.load(own.path / "classifier.onnx")
        >>> del model.graph.output[1:], model.metadata_props[:]  # as if it were somebody else's
        >>> onnx.save(model, f"{folder}/digits.onnx")
        >>> run = import_model(f"{folder}/digits.onnx", data="digits", runs=folder, quiet=True)
        >>> run.accuracy == own.accuracy
        True
    """
    check_writable(Path(runs) / "run")  # at once, not when all is read
    began = time.perf_counter()
    watcher = watcher_of_run(watcher, observers, quiet=quiet)
    path = Path(file)
    network = read_foreign(path, side=size, output=output)
    pixels = _pixels(network, prepare)
    given, stated = _classes(network, classes, classes_from)
    places = [data] if isinstance(data, str | os.PathLike) else list(data)
    dataset = _loaded(network, places, given, options, watcher) if places else None
    if given is None and dataset is not None:
        given, stated = dataset.classes, f"in the order of {dataset.recipe.source}"
    names = _checked_names(network, given, stated)
    pixel_words = pixels.words
    if network.probed.channels == 1:
        pixel_words = pixel_words.replace("RGB", "grey", 1)
    found_licence = licence or licence_beside(path)
    imported = ImportedFile(network, pixels, found_licence)
    reasons = {
        "Imported": f"{path.name} · {network.maker}"
        + (f" · {network.network}" if network.network else ""),
        "Pixels": pixel_words,
        "Answers": network.answers.words,
        "Classes": f"{len(names)} {stated}",
        "Licence": found_licence,
    }
    if dataset is not None:
        reasons["Learnt from"] = _LEARNT_FROM
    metadata = _metadata(network, imported, names, dataset, str(options.get("resize") or "squash"))
    content = imported.content(metadata)
    parity = None if check is None else _parity(content, Path(check))
    if parity is not None:
        reasons["Parity"] = parity_in_words(parity)
    recipe = ImportRecipe(
        data=DataRecipe.of(str(path)) if dataset is None else dataset.recipe,
        model=ImportedModel(file=str(path), prepare=prepare, output=output),
        reasons=reasons,
        versions=versions("onnx", "onnxruntime", "numpy", "pillow"),
    )
    record = ImportRecord(
        file=path.name, sha256=network.digest, maker=network.maker, network=network.network,
        pixels=pixel_words, answers=network.answers.words, classes_from=stated,
        licence=found_licence, parity=parity,
    )  # fmt: skip
    directory = RunDirectory.create(Path(runs), name or f"{path.stem}-{IMPORTED}")
    with recorded(directory, watcher) as recorder:
        recorder.run_started(directory.path)
        for heading, words in reasons.items():
            recorder.fact(heading, words)
        record.write(directory.path)
        if dataset is None:
            write_json(directory.recipe, recipe.model_dump(mode="json"))
            recorder.layers(imported.layers)
            write_classifier(directory.classifier, content)
            recorder.fact("File", f"classifier.onnx · {file_size(len(content))}")
        else:
            job = _ImportJob(dataset, audit(dataset, watcher=watcher), recipe, list(imported.layers))
            seconds = {"load": time.perf_counter() - began}
            _measure(directory, job, content, (network, pixels), recorder, seconds)
        recorder.fact("Run", f"{directory.path} · {clock(time.perf_counter() - began)}")
    return Run(directory.path)


def parity_in_words(parity: ImportParity) -> str:
    """Say how close the answers are to those of the maker's program."""
    return (
        f"{parity.images:,} answers of the maker's program in {parity.file}: largest difference "
        f"{parity.difference:.0e}, {parity.labels:,} other labels"
    )


def _pixels(network: ForeignNetwork, prepare: str | None) -> PixelValues:
    """Return what the network takes for pixels.

    Raises:
        RecipeError: Nothing says it.
    """
    if prepare is not None:
        return PixelValues.named(prepare)
    if network.probed.dtype == "uint8":
        return PixelValues(scale=1.0, stated="its input is bytes")
    if network.scales is not None:
        return PixelValues(scale=1.0, stated=f"its layer {network.scales} scales them")
    beside = PixelValues.beside(network.path)
    if beside is not None:
        return beside
    known = next((pixels for start, pixels in _KNOWN_NAMES.items()
                  if network.network.lower().replace("_", "").startswith(start)), None)  # fmt: skip
    hint = (
        f"Keras' own {network.network} takes {known}: --prepare={known}. "
        if known
        else ""
    )
    raise RecipeError(
        f"the pixels that {network.path.name} was trained on",
        "neither the file nor one beside it says them",
        f"{hint}Say it: --prepare with one of {', '.join(CHOICES)} (each also with ,bgr), or a JSON "
        "file; images / 255 in the training program is 0..1.",
    )


def _classes(
    network: ForeignNetwork,
    classes: Sequence[str] | None,
    classes_from: str | os.PathLike[str] | None,
) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of the classes, as far as anything but images says them, and what does."""
    if classes is not None:
        return tuple(classes), "as given"
    if classes_from is not None:
        return names_from(Path(classes_from)), f"of {Path(classes_from).name}"
    if network.classes is not None:
        return network.classes, "as in the file"
    beside = names_beside(network.path)
    if beside is not None and len(beside[0]) == network.answers.classes:
        return beside[0], f"of {beside[1]} beside it"
    return None, ""


def _checked_names(
    network: ForeignNetwork, names: tuple[str, ...] | None, stated: str
) -> tuple[str, ...]:
    """Return the names where there is one for each answer.

    Raises:
        RecipeError: There are none, or others.
    """
    count = network.answers.classes
    how = "Say them in the order of its answers: --classes a,b,c, or --classes-from FOLDER or FILE."
    if names is None:
        raise RecipeError(
            f"the names of {network.path.name}'s {count} classes",
            "neither the file nor one beside it (labels.txt, class_names.json) says them",
            how,
        )
    if len(names) != count:
        raise RecipeError(
            f"{count} classes, as {network.path.name} has answers",
            f"got {len(names)} {stated} ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})",
            how,
        )
    return names


def _loaded(
    network: ForeignNetwork,
    places: Sequence[str | os.PathLike[str]],
    names: tuple[str, ...] | None,
    options: dict[str, Any],
    watcher: Watcher,
) -> Dataset:
    """Load the images to measure it on, prepared as the network takes them."""
    probed = network.probed
    given = {"resize": "squash", **options}
    return load(
        *places, classes=names, size=probed.side, channels=probed.channels, watcher=watcher, **given
    )


def _metadata(
    network: ForeignNetwork,
    imported: ImportedFile,
    names: tuple[str, ...],
    dataset: Dataset | None,
    resize: str,
) -> Metadata:
    height, width = network.probed.side
    like = Preparation.model_validate(
        {"height": height, "width": width, "channels": network.probed.channels, "resize": resize}
    )
    return Metadata(
        opsin=__version__,
        model=IMPORTED,
        classes=names,
        preparation=like if dataset is None else dataset.preparation,
        layers=tuple(imported.layers),
        source=network.path.name if dataset is None else dataset.recipe.source,
        fingerprint="" if dataset is None else dataset.fingerprint,
    )


def _measure(
    directory: RunDirectory,
    job: _ImportJob,
    content: bytes,
    read: tuple[ForeignNetwork, PixelValues],
    recorder: Recorder,
    seconds: dict[str, float],
) -> None:
    """Evaluate it on images as if it had been trained on them, and write the report."""
    write_request(directory, job)
    tell_images(recorder, directory, job)
    tell_model(recorder, job)
    draft = Draft(directory, job.dataset, content, recorder)
    for doubt in _doubts(draft, *read):
        recorder.note(doubt)
    report = conclude(
        draft, job, recorder, difference=None, training=TrainingFacts(unit="epochs"),
        seconds=seconds, calibrated=False,
    )  # fmt: skip
    tell_measured(recorder, report)


def _doubts(draft: Draft, network: ForeignNetwork, pixels: PixelValues) -> list[str]:
    """Return what labelled images say against the order of the classes, or the preparation.

    The test images are left out: they are looked at once.
    """
    dataset = draft.dataset
    rows = np.concatenate([dataset.split.val, dataset.split.train])
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_TRIED])
    if not len(rows):
        return []
    labels = dataset.labels[rows]
    found = draft.outputs(rows, ["probabilities"])["probabilities"].argmax(axis=1)
    doubts = [doubt_about_order(found, labels, dataset.classes)]
    if network.scales is None and network.probed.dtype != "uint8":
        right = {pixels.stated: float((found == labels).mean())}
        for choice in CHOICES:
            other = PixelValues.named(choice)
            same = other.model_copy(update={"stated": pixels.stated, "bgr": pixels.bgr}) == pixels
            if not same:
                right[choice] = _right(draft, network, other, rows, labels)
        doubts.append(doubt_about_pixels(pixels.stated, right))
    return [doubt for doubt in doubts if doubt is not None]


def _right(
    draft: Draft,
    network: ForeignNetwork,
    pixels: PixelValues,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> float:
    """Return the share of right answers with another preparation."""
    content = ImportedFile(network, pixels, UNKNOWN).content(draft.classifier.metadata)
    other = replace(draft, content=content)
    answers = other.outputs(rows, ["probabilities"])["probabilities"].argmax(axis=1)
    return float((answers == labels).mean())


def _parity(content: bytes, file: Path) -> ImportParity:
    """Compare the file's answers with those of the maker's program.

    Raises:
        RecipeError: The arrays are not there, or do not suit the network.
        ParityError: They differ.
    """
    classifier = Classifier.of_content(file, content, most=None)
    images, wanted = _arrays(file, classifier)
    found = classifier.layers(images, ["probabilities"])["probabilities"]
    difference = float(np.abs(found - wanted).max())
    second, first = np.sort(wanted, axis=1)[:, -2:].T
    other = (found.argmax(axis=1) != wanted.argmax(axis=1)) & (first - second > 2 * TOLERANCE)
    if difference > TOLERANCE or other.any():
        raise ParityError(
            f"the answers in {file.name} within {TOLERANCE:g}",
            f"they differ by up to {difference:.2g}, and {int(other.sum())} of {len(images)} "
            "labels with them",
            "Check the pixels (--prepare): images in the file must be as they were before any "
            "scaling, 0 to 255.",
        )
    return ImportParity(
        file=file.name, images=len(images), difference=difference, labels=int(other.sum())
    )


def _arrays(
    file: Path, classifier: Classifier
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read images and the maker's answers; logits become probabilities."""
    from scipy.special import softmax  # noqa: PLC0415  takes a second to load

    like = classifier.metadata.preparation
    shape = (like.height, like.width, like.channels)
    try:
        with StoredArrays(file) as stored:
            names = [next((each for each in among if each in stored.names), "")
                     for among in (_IMAGES, _ANSWERS)]  # fmt: skip
            images, answers = (stored.read(name) for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(
            "an .npz with images and probabilities",
            f"{file} cannot be read as one",
            "Write it: numpy.savez(FILE, images=images, probabilities=model.predict(scaled)).",
        ) from error
    images = images[..., None] if images.ndim == 3 and like.channels == 1 else images
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise RecipeError(
            f"images as uint8[N, {', '.join(map(str, shape))}]",
            f"{file.name} has {images.dtype}{list(images.shape)}",
            "Write them as they were before any scaling.",
        )
    answers = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if answers.shape[1] == 1:
        answers = np.concatenate([1 - answers, answers], axis=1)
    if answers.shape != (len(images), len(classifier.classes)):
        raise RecipeError(
            f"{len(images):,} answers of {len(classifier.classes)} classes",
            f"{file.name} has {' × '.join(map(str, answers.shape))}",
            "Write one row for each image.",
        )
    sums = answers.sum(axis=1)
    if (answers < 0).any() or np.abs(sums - 1).max() > 1e-3:
        answers = softmax(answers, axis=1)
    return images, answers
