"""From a source to a run: load, train, export, evaluate, report."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opsin._version import __version__
from opsin.data.audit import Audit, audit
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset, load
from opsin.errors import MissingExtraError, RecipeError
from opsin.events import Watcher
from opsin.metadata import Layer, Metadata
from opsin.recipe import DATA_OPTIONS, Recipe, resolve
from opsin.report.terminal import (
    clock,
    confusions,
    for_people,
    leaks_in_words,
    megabytes,
    plus_minus,
)
from opsin.run import RunDirectory
from opsin.storage import write_bytes, write_json
from opsin.workflow.changes import write_pictures
from opsin.workflow.evaluate import evaluate_run
from opsin.workflow.recorder import Recorder, recorded
from opsin.workflow.runs import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

    from opsin.training.loop import Outcome

#: Pictures that the file and the network are compared on.
_PARITY_IMAGES: Final = 512
#: Looked for before anything is done, not missed at the end of an hour's training.
_NEEDED: Final = ("torch", "onnx", "safetensors", "sklearn", "scipy", "matplotlib", "jinja2")


def train(
    data: Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    model: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a classifier and evaluate the file that comes out.

    The first Ctrl-C ends the epoch where it is; the run is then finished with what there is.

    Args:
        data: A dataset, or a source to load one from, or several to be joined.
        model: ``mlp``, ``cnn`` or ``resnet`` (default).
        runs: Folder for run directories.
        name: What the run directory is called (default: source and model).
        watcher: Is told how far the work is (default: a progress display on standard error).
        quiet: Show nothing.
        **options: Fields of the recipe: ``epochs``, ``rate``, ``seed`` …; with a source also those
            of its data part: ``classes``, ``size`` …

    Returns:
        The finished run.

    Raises:
        MissingExtraError: PyTorch is not installed.
        SourceError: The source is missing, damaged, or no classifier can be made from it.
        RecipeError: An option has an impossible value, or the loss became infinite.
        ParityError: The exported file answers otherwise than the network.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=folder, quiet=True)
        >>> run.accuracy > 0.5
        True
    """
    if not all(map(_is_installed, _NEEDED)):
        raise MissingExtraError("training", "train")
    import torch  # noqa: PLC0415  the training half is loaded by the verb that trains

    from opsin.training.interrupt import ctrl_c_stops  # noqa: PLC0415

    began = time.perf_counter()
    watcher = watcher or for_people(quiet=quiet)
    data_options = {key: options.pop(key) for key in DATA_OPTIONS if key in options}
    if isinstance(data, Dataset):
        if data_options:
            raise RecipeError(
                "options of the model and the training beside a loaded dataset",
                f"got {', '.join(data_options)}",
                "Give these to opsin.load.",
            )
        dataset = data
    else:
        given = [data] if isinstance(data, str | os.PathLike) else data
        dataset = load(*given, watcher=watcher, **data_options)
    audited = audit(dataset, watcher=watcher)
    recipe = resolve(dataset.recipe, model=model, mirrored=dataset.mirrored, **options)
    recipe = recipe.model_copy(update={"versions": _versions()})
    # Forked, so that the caller's own random numbers go on as if nothing had happened.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        job = _Job.prepare(dataset, audited, recipe)
        title = name or f"{Path(recipe.data.sources[0]).stem}-{recipe.model.name}"
        directory = RunDirectory.create(Path(runs), title)
        with recorded(directory, watcher) as recorder:
            _write_request(directory, job)
            _tell_start(recorder, directory, job)
            seconds = {"load": time.perf_counter() - began}
            # Held to the end: once trained, a Ctrl-C would only lose what is nearly done.
            with ctrl_c_stops() as stop:
                _make(directory, job, recorder, seconds, stop)
    return Run(directory.path)


@dataclass(frozen=True)
class _Job:
    """All that a training needs, checked before anything is written."""

    dataset: Dataset
    audit: Audit
    recipe: Recipe
    network: nn.Sequential
    layers: list[Layer]
    device: torch.device

    @classmethod
    def prepare(cls, dataset: Dataset, audited: Audit, recipe: Recipe) -> _Job:
        """Build the network with fresh weights and choose the device."""
        from opsin.models import zoo  # noqa: PLC0415
        from opsin.training.device import choose_device  # noqa: PLC0415

        device = choose_device(recipe.training.device)
        height, width, channels = dataset.images.shape[1:]
        shape = (height, width, channels)
        statistics = zoo.channel_statistics(dataset.images, dataset.split.train)
        network = zoo.build(recipe.model, shape, len(dataset.classes), statistics=statistics)
        return cls(dataset, audited, recipe, network, zoo.summarise(network, shape), device)

    @property
    def metadata(self) -> Metadata:
        """What travels in the file, before its score is known."""
        return Metadata(
            opsin=__version__,
            model=self.recipe.model.name,
            classes=self.dataset.classes,
            preparation=self.dataset.preparation,
            layers=tuple(self.layers),
            source=self.recipe.data.source,
            fingerprint=self.dataset.fingerprint,
        )


def _write_request(directory: RunDirectory, job: _Job) -> None:
    write_json(directory.recipe, job.recipe.model_dump(mode="json"))
    about = {**job.dataset.describe(), "findings": job.audit.counts()}
    write_json(directory.dataset, about)
    split = {part: job.dataset.split.rows(part) for part in ("train", "val", "test")}
    directory.save_arrays(directory.split, digests=short_digest(job.dataset.digests), **split)
    write_pictures(directory, job.dataset)


def _make(
    directory: RunDirectory,
    job: _Job,
    recorder: Recorder,
    seconds: dict[str, float],
    stop: threading.Event,
) -> None:
    """Train, export, evaluate the file and write the report; note how long each took."""
    from opsin.workflow.report import draw_run  # noqa: PLC0415  needs matplotlib

    at = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal at
        seconds[what] = time.perf_counter() - at
        at = time.perf_counter()

    outcome = _train(directory, job, recorder, stop)
    lap("train")
    parity = _export(directory, job)
    lap("export")
    evaluation = evaluate_run(directory, job.dataset, recorder)
    _stamp(directory, job.metadata.model_copy(update={"score": evaluation.score}))
    lap("evaluate")
    report = {
        "opsin": __version__,
        "source": job.recipe.data.source,
        "model": job.recipe.model.name,
        "dataset": job.dataset.summary(),
        "split": evaluation.split,
        "figures": evaluation.figures,
        "leaks": {"exact": job.dataset.leaks[0], "near": job.dataset.leaks[1]},
        "unreadable": len(job.dataset.unreadable),
        "findings": [
            {"count": finding.count, "title": finding.title, "opsin": finding.opsin}
            for finding in job.audit.findings
        ],
        "training": {
            "best_epoch": outcome.best.epoch,
            "epochs": outcome.last.epoch,
            "asked": job.recipe.training.epochs,
            "stopped": outcome.stopped,
            "device": _device_name(job),
            **{
                what: sum(getattr(layer, what) for layer in job.layers)
                for what in ("parameters", "trainable", "multiply_adds")
            },
        },
        "file": {"bytes": directory.classifier.stat().st_size, **parity},
        "layers": [layer.model_dump(mode="json") for layer in job.layers],
        "seconds": seconds,
    }
    write_json(directory.report, report)
    draw_run(directory, job.dataset, recorder)
    lap("report")
    # Once more, now that the report's own time is known.
    write_json(directory.report, report)
    _tell_end(recorder, report)


def _train(
    directory: RunDirectory, job: _Job, recorder: Recorder, stop: threading.Event
) -> Outcome:
    from opsin.training.loop import Examples, fit  # noqa: PLC0415

    data = job.dataset
    outcome = fit(
        job.network,
        Examples(data.images, data.labels, data.split.train),
        Examples(data.images, data.labels, data.split.val),
        job.recipe.training,
        device=job.device,
        classes=len(data.classes),
        checkpoints=directory.checkpoints,
        watcher=recorder,
        stop=stop,
    )
    recorder.stopped = outcome.stopped
    return outcome


def _export(directory: RunDirectory, job: _Job) -> dict[str, Any]:
    """Write the file, once it is known to answer as the network does."""
    from opsin.export import check_parity, to_onnx  # noqa: PLC0415

    split = job.dataset.split
    rows = np.sort(np.concatenate([split.val, split.train])[:_PARITY_IMAGES])
    content = to_onnx(job.network, job.metadata)
    difference = check_parity(content, job.network, job.dataset.images[rows])
    write_bytes(directory.classifier, content)
    return {"parity_images": len(rows), "difference": difference}


def _stamp(directory: RunDirectory, metadata: Metadata) -> None:
    from opsin.export import stamp  # noqa: PLC0415

    stamp(directory.classifier, metadata)


def _device_name(job: _Job) -> str:
    from opsin.training.device import describe_device  # noqa: PLC0415

    return describe_device(job.device)


def _tell_start(watcher: Watcher, directory: RunDirectory, job: _Job) -> None:
    data = job.dataset
    watcher.fact("Data", f"{data.recipe.source} · {data.summary()}")
    if data.unreadable:
        name, reason = data.unreadable[0]
        watcher.note(
            f"{len(data.unreadable):,} unreadable files left out, such as {name}: {reason} "
            f"(all of them: {directory.dataset})"
        )
    if job.audit.findings:
        found = [
            f"{count:,} {kind.replace('-', ' ')}" for kind, count in job.audit.counts().items()
        ]
        watcher.fact("Audit", f"{' · '.join(found)} · to see them: opsin data SOURCE --audit")
    if any(data.leaks):
        watcher.note(leaks_in_words(*data.leaks))
    watcher.layers(job.layers)
    parameters = sum(layer.parameters for layer in job.layers)
    work = sum(layer.multiply_adds for layer in job.layers)
    cost = f"{work / 1e6:.1f} M" if work >= 1_000_000 else f"{work:,}"
    watcher.fact(
        "Model",
        f"{job.recipe.model.name} · {parameters:,} parameters · {cost} multiply-adds a picture",
    )
    watcher.fact("Device", _device_name(job))
    watcher.fact("Run", str(directory.path))


def _tell_end(watcher: Watcher, report: dict[str, Any]) -> None:
    figures = report["figures"][report["split"]]
    training, file, seconds = report["training"], report["file"], report["seconds"]
    text = f"{training['epochs']} epochs"
    if training["stopped"]:
        text = f"stopped by Ctrl-C in epoch {training['epochs']} of {training['asked']}"
    elif training["epochs"] < training["asked"]:
        text = f"{training['epochs']} of {training['asked']} epochs, then no more patience,"
    watcher.fact(
        "Trained",
        f"{text} in {clock(seconds['train'])} · best by validation: epoch "
        f"{training['best_epoch']} · {clock(sum(seconds.values()))} in all",
    )
    what, how = ("Test", "looked at once")
    if report["split"] == "val":
        what, how = ("Valid.", "optimistic: the best epoch was chosen on them")
    watcher.fact(
        what,
        f"accuracy {plus_minus(figures)} ({figures['images']:,} pictures, {how}) · "
        f"log loss {figures['log_loss']:.3f}",
    )
    watcher.fact("Confuses", confusions(figures))
    watcher.fact(
        "File",
        f"classifier.onnx · {megabytes(file['bytes'])} · same answers as the network on "
        f"{file['parity_images']} pictures (largest difference {file['difference']:.0e})",
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was made impossible to import
        return False


def _versions() -> dict[str, str]:
    names = ("torch", "onnx", "onnxruntime", "numpy", "pillow")
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
