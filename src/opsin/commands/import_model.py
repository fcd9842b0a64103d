"""Import of classifiers saved by other programs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsin._version import __version__
from opsin.backbones.backbone import licence_in
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.commands.runs import ImportedModel, ImportRecipe, Run
from opsin.commands.train.calibrate import ExportedFile
from opsin.commands.train.learner import Learner, versions
from opsin.commands.train.recorder import recorded, watcher_of_run
from opsin.commands.train.train import run_training
from opsin.core.arguments import checked
from opsin.core.arrays import Ints
from opsin.core.artifacts.records import IMPORTED, ImportRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import file_size
from opsin.core.metadata import Layer, Metadata, Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import check_writable, write_json
from opsin.data.dataset import Dataset, load
from opsin.importing.class_names import names_beside, names_from
from opsin.importing.foreign_network import Architecture, ForeignNetwork, read_foreign
from opsin.importing.imported_file import imported_file
from opsin.runtime.classifier import Classifier
from opsin.runtime.model_check import write_classifier


@dataclass(eq=False)
class ImportedLearner(Learner):
    """An imported classifier, measured as if trained on the images."""

    calibrates = False
    dataset: Dataset
    recipe: ImportRecipe
    layers: list[Layer]
    content: bytes
    record: ImportRecord

    def fit(self) -> None:
        """Write the import's record; nothing is trained."""
        self.record.write(self.directory.path)

    def export(self) -> ExportedFile:
        """Return the file as it is."""
        path = self.directory.classifier
        return ExportedFile(path, self.dataset, self.content, self.watcher)

    def difference(self, file: Classifier, rows: Ints) -> None:
        """Return ``None``: there is no other implementation to compare with."""

    def facts(self) -> TrainingFacts:
        """Return facts that say only that it was trained elsewhere."""
        return TrainingFacts(elsewhere=True)

    @property
    def device_name(self) -> str:
        """Where it was trained."""
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
    architecture: Architecture | None = None,
    graph: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Import a classifier saved by another program.

    The file is read in a sandbox, and no code in it is run. Its answers stay the same: nothing is
    calibrated, and no answer is refused. With labelled images it is measured like a run trained on
    them, on the same test images.

    Args:
        file: A file of Keras (``.keras``, ``.h5``), an ONNX file of any maker, an estimator of
            scikit-learn that skops saved (``.skops``), or weights alone (``.safetensors``, a
            checkpoint of PyTorch).
        data: Images with labels to measure it on.
        classes: Class names in the order of its outputs (default: from the file, one beside it, or
            ``data``).
        classes_from: A folder whose sub-folders, or a file whose lines, name the classes.
        prepare: The pixel values it was trained on, if neither the file nor one beside it states
            them: ``imagenet``, ``-1..1``, ``0..1``, ``0..255``, each also with ``,bgr``, or a JSON
            file.
        size: Height and width of its images, if the file leaves them open.
        output: Which of several outputs to use.
        architecture: The architecture of bare weights: ``mlp``, dense layers with ReLU between.
        graph: An ONNX file that takes bare weights, by name.
        licence: Under which it is published (default: from a file beside it, or unknown).
        runs: Folder for run directories.
        name: Name of the run directory (default: the file's).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Receive the same events.
        quiet: Show nothing.
        **options: Fields of `DataRecipe` for reading ``data``.

    Returns:
        The run, with a report if ``data`` is given.

    Raises:
        ModelFileError: It is not an image classifier, or holds unsupported operators.
        RecipeError: Its classes or pixel values are unknown.
        SourceError: ``data`` cannot be read, or has other classes.
        StorageError: ``runs`` cannot be written.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> folder = tempfile.mkdtemp()
        >>> own = train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
        >>> import onnx
        >>> model = onnx.load(own.path / "classifier.onnx")
        >>> del model.graph.output[1:], model.metadata_props[:]  # another program's
        >>> onnx.save(model, f"{folder}/digits.onnx")
        >>> run = import_model(f"{folder}/digits.onnx", data="digits", runs=folder, quiet=True)
        >>> run.accuracy == own.accuracy
        True
    """
    check_writable(Path(runs) / "run")  # before the work
    began = time.perf_counter()
    watcher = watcher_of_run(watcher, observers, quiet=quiet)
    path = Path(file)
    skeleton = None if graph is None else Path(graph)
    network = read_foreign(
        path, side=size, output=output, architecture=architecture, graph=skeleton
    )
    pixels = _pixels(network, prepare)
    names, stated = _classes(network, classes, classes_from)
    places = [data] if isinstance(data, str | os.PathLike) else list(data)
    resize = str(options.pop("resize", None) or "squash")
    dataset = None
    if places:  # prepared as the network takes them
        probed = network.probed
        asked: dict[str, Any] = {"size": probed.side, "channels": probed.channels, "resize": resize}
        dataset = load(*places, classes=names, watcher=watcher, **asked, **options)
        if names is None:
            names, stated = dataset.classes, f"in the order of {dataset.recipe.source_names}"
    names = _checked_names(network, names, stated)
    content, metadata, record = _make_file(
        network,
        pixels,
        names,
        stated,
        licence=licence or licence_in(path.parent),
        dataset=dataset,
        resize=resize,
    )
    graph = None if graph is None else os.fspath(graph)
    model = ImportedModel(
        file=str(path), prepare=prepare, output=output, architecture=architecture, graph=graph
    )
    recipe = ImportRecipe(
        data=DataRecipe.of(str(path)) if dataset is None else dataset.recipe,
        model=model,
        reasons=_reasons(record, len(names), measured=dataset is not None),
        versions=versions("onnx", "numpy", "pillow"),
    )

    title = name or f"{path.stem}-{IMPORTED}"
    if dataset is not None:
        learner = ImportedLearner(dataset, recipe, list(metadata.layers), content, record)
        return run_training(learner, (Path(runs), title), watcher=watcher, began=began)
    directory = RunDirectory.create(Path(runs), title)
    with recorded(directory, watcher) as recorder:
        recorder.run_started(directory.path)
        for heading, words in recipe.reasons.items():
            recorder.fact(heading, words)
        record.write(directory.path)
        write_json(directory.recipe, recipe.model_dump(mode="json"))
        recorder.layers(metadata.layers)
        write_classifier(directory.classifier, content)
        recorder.fact("File", f"classifier.onnx · {file_size(len(content))}")
        recorder.fact("Run", str(directory.path))
    return Run(directory.path)


def _make_file(
    network: ForeignNetwork,
    pixels: PixelValues,
    classes: tuple[str, ...],
    stated: str,
    *,
    licence: str,
    dataset: Dataset | None,
    resize: str,
) -> tuple[bytes, Metadata, ImportRecord]:
    layers, write = imported_file(network, pixels, licence)
    (height, width), channels = network.probed.side, network.probed.channels
    prepared = {"height": height, "width": width, "channels": channels, "resize": resize}
    metadata = Metadata(
        opsin=__version__,
        model=IMPORTED,
        classes=classes,
        preparation=Preparation.model_validate(prepared)
        if dataset is None
        else dataset.preparation,
        layers=tuple(layers),
        source=network.path.name if dataset is None else dataset.recipe.source_names,
        fingerprint="" if dataset is None else dataset.fingerprint,
    )
    record = ImportRecord(
        file=network.path.name,
        sha256=network.digest,
        maker=network.maker,
        network=network.network,
        pixels=pixels.words.replace("RGB", "grey", 1) if channels == 1 else pixels.words,
        answers=network.answers.words,
        classes_from=stated,
        licence=licence,
    )
    return write(metadata), metadata, record


def _reasons(record: ImportRecord, classes: int, *, measured: bool) -> dict[str, str]:
    reasons = {
        "Imported": " · ".join(filter(None, (record.file, record.maker, record.network))),
        "Pixels": record.pixels,
        "Answers": record.answers,
        "Classes": f"{classes} {record.classes_from}",
        "Licence": record.licence,
    }
    if measured:
        reasons["Trained"] = "elsewhere: figures are too good if it learnt from any of these images"
    return reasons


def _pixels(network: ForeignNetwork, prepare: str | None) -> PixelValues:
    if prepare is not None:
        return PixelValues.named(prepare)
    if network.probed.dtype == "uint8":
        return PixelValues(scale=1.0, stated="its input is bytes")
    if network.scales is not None:
        return PixelValues(scale=1.0, stated=f"its layer {network.scales} scales them")
    beside = PixelValues.beside(network.path)
    if beside is not None:
        return beside
    raise RecipeError(
        f"Nothing says the pixels that {network.path.name} was trained on",
        f"Say it: --prepare with one of {', '.join(CHOICES)} (each also with ,bgr), or a "
        "JSON file; images / 255 in the training program is 0..1.",
    )


def _classes(
    network: ForeignNetwork,
    classes: Sequence[str] | None,
    classes_from: str | os.PathLike[str] | None,
) -> tuple[tuple[str, ...] | None, str]:
    names, stated = None, ""
    if classes is not None:
        names, stated = tuple(classes), "as given"
    elif classes_from is not None:
        names, stated = names_from(Path(classes_from)), f"of {Path(classes_from).name}"
    elif network.classes is not None:
        names, stated = network.classes, "as in the file"
    elif (beside := names_beside(network.path)) and len(beside[0]) == network.answers.classes:
        names, stated = beside[0], f"of {beside[1]} beside it"
    for name, number in Counter(names or ()).items():
        if number > 1:
            raise RecipeError(
                f"{number} classes of {network.path.name} have one name: {name}",
                "Give each its own, in the order of the answers: --classes a,b,c, or "
                "--classes-from FOLDER or FILE.",
            )
    return names, stated


def _checked_names(
    network: ForeignNetwork, names: tuple[str, ...] | None, stated: str
) -> tuple[str, ...]:
    count, file = network.answers.classes, network.path.name
    if names is not None and len(names) == count:
        return names
    message = f"Nothing names the {count} classes of {file}, and no labels.txt lies beside it"
    if names is not None:
        shown = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        message = f"{file} has {count} classes, not {len(names)} {stated} ({shown})"
    raise RecipeError(
        message,
        "Say them in the order of its answers: --classes a,b,c, or --classes-from FOLDER or FILE.",
    )
