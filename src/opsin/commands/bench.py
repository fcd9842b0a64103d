"""How many images a second this machine reads, trains on and classifies."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from opsin.commands.machine import this_machine
from opsin.commands.rates import Benchmark
from opsin.commands.workload import (
    FILE,
    Shape,
    Unit,
    export_fresh,
    in_batches,
    in_batches_on,
    one_by_one,
    reader,
    recipe_for,
    shape_for,
    trainer,
)
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import check_writable, write_json
from opsin.data.lazy_images import THREADS
from opsin.models.registry import MODELS
from opsin.report.image_rate import ONE, ImageRate, Work
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU, installed

#: Timed parts of a measurement, and as many as must be where one takes long.
_REPEATS: Final = 5
_LEAST: Final = 3
#: Sides that the files are brought to.
_SIDES: Final = (64, 128)


@dataclass(frozen=True)
class _Job:
    """A measurement that is to be made.

    Args:
        rate: What it will be, still without figures.
        make: Builds what is needed and returns the work; ``None`` where the device refuses.
    """

    rate: ImageRate
    make: Callable[[], Unit | None]


@checked
def bench(
    *,
    only: Sequence[str] = (),
    models: Sequence[str] = (),
    classifier: str | os.PathLike[str] | None = None,
    seconds: float = 1.5,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Benchmark:
    """Measure how many images a second this machine reads, trains on and classifies.

    Reading decodes JPEG files of 500×400 in as many threads as a training does; training does the
    steps of the networks' default recipes, on images of noise; prediction asks the exported
    file. Nothing is fetched, and nothing is kept but what ``out`` asks for.

    Args:
        only: Some of ``reading``, ``training`` and ``prediction`` (default: all of them).
        models: Networks to train and to ask (default: all of them).
        classifier: A run directory or ``classifier.onnx`` to ask instead of fresh networks.
        seconds: About how long each measurement takes.
        out: Folder for ``bench.json`` and the chart, ``bench.png`` and ``bench.svg``.
        watcher: Receives the progress of the work.

    Raises:
        MissingExtraError: PyTorch or matplotlib is not installed, and what was asked for needs it.
        RecipeError: An unknown kind of work or network, or an impossible time.
        ModelFileError: ``classifier`` is no classifier.
        StorageError: The disk refuses a write.

    Example:
        >>> measured = bench(only=["reading"], seconds=0.05)
        >>> [(rate.work, rate.size, rate.median > 0) for rate in measured.rates]
        [('reading', '64×64', True), ('reading', '128×128', True)]
    """
    works = _works(only, models, classifier, seconds)
    if out is not None:  # at once, not when all is measured
        importlib.import_module("opsin.report.figures")
        check_writable(Path(out) / "bench.json")
    given = None if classifier is None else Classifier(classifier, device=CPU, watcher=watcher)
    works = _possible(works, given, watcher, chosen=bool(only))
    names = tuple(models) or tuple(MODELS)
    trains = "training" in works or ("prediction" in works and given is None)
    gpu, torch_version = _torch() if trains else (None, None)
    machine = this_machine(gpu=gpu, torch=torch_version)
    watcher.fact("Machine", machine.line())
    if machine.busy():
        watcher.note(
            f"other programs keep this machine at work (load {machine.load:.1f} on "
            f"{machine.threads} threads), so it can do more than this will show: run it again "
            "when they are done"
        )
    with tempfile.TemporaryDirectory(prefix="opsin-bench-") as name:
        jobs = _jobs(works, names, given, Path(name))
        with _own_randomness() if trains else contextlib.nullcontext():
            rates = _measure_all(jobs, seconds, watcher)
    done = Benchmark(machine, rates)
    return done if out is None else _written(done, Path(out))


def _works(
    only: Sequence[str],
    models: Sequence[str],
    classifier: str | os.PathLike[str] | None,
    seconds: float,
) -> tuple[Work, ...]:
    """Return what is to be measured, once it is known that the options fit together."""
    known: tuple[Work, ...] = get_args(Work)
    for given, names, what in ((only, known, "work"), (models, tuple(MODELS), "models")):
        if not set(given) <= set(names):
            raise RecipeError(
                f"{what} among {', '.join(names)}", f"got {', '.join(given)}", "Choose there."
            )
    if not 0.01 <= seconds <= 3600:
        raise RecipeError(
            "0.01 to 3600 seconds a measurement", f"got {seconds:g}", "Give another --seconds."
        )
    works = tuple(work for work in known if not only or work in only)
    fresh = "training" in works or ("prediction" in works and classifier is None)
    unused = "model" if models and not fresh else ""
    if classifier is not None and "prediction" not in works:
        unused = "classifier"
    if unused:
        raise RecipeError(
            "options for what is measured",
            f"{' and '.join(works)} has no use for a {unused}",
            "Leave it out, or measure more.",
        )
    return works


def _possible(
    works: tuple[Work, ...], given: Classifier | None, watcher: Watcher, *, chosen: bool
) -> tuple[Work, ...]:
    """Return the works that need nothing which is not installed.

    Raises:
        MissingExtraError: One of them was asked for by name.
    """
    needing = [w for w in works if w == "training" or (w == "prediction" and given is None)]
    if not needing or _has_torch():
        return works
    if chosen:
        but = " without --classifier" if needing == ["prediction"] else ""
        raise MissingExtraError(f"measuring {' and '.join(needing)}{but}", "train")
    other = "; --classifier FILE measures prediction without it" if given is None else ""
    watcher.note(
        f"{' and '.join(needing)} left out, since PyTorch is not installed: it comes with "
        f"pip install 'opsin[train]'{other}"
    )
    return tuple(work for work in works if work not in needing)


def _has_torch() -> bool:
    try:
        importlib.import_module("torch")
        importlib.import_module("onnx")
    except ImportError:
        return False
    return True


def _torch() -> tuple[str | None, str]:
    """Return the name of the GPU that PyTorch sees, if any, and PyTorch's version."""
    import torch  # noqa: PLC0415  only where it is needed: it may not be installed

    from opsin.training.device import choose_device, describe_device  # noqa: PLC0415

    device = choose_device("auto")
    gpu = None if device.type == "cpu" else describe_device(device)
    return gpu, str(torch.__version__)


def _own_randomness() -> contextlib.AbstractContextManager[None]:
    from opsin.training.device import choose_device, own_randomness  # noqa: PLC0415

    return own_randomness(choose_device("auto"), seed=0)


def _jobs(
    works: tuple[Work, ...], names: Sequence[str], given: Classifier | None, folder: Path
) -> list[_Job]:
    """List the measurements, each kind of work with the small networks first."""
    jobs: list[_Job] = []
    if "reading" in works:
        what, how = f"JPEG {FILE[1]}×{FILE[0]}", f"{THREADS} thread{'s' if THREADS > 1 else ''}"
        for side in _SIDES:
            rate = ImageRate("reading", what, how, (side, side, 3), "cpu", ())
            jobs.append(_Job(rate, functools.partial(reader, folder, side)))
    if "training" in works:
        for name in names:
            how = f"batch of {recipe_for(name).training.batch_size}"
            for device in _devices():
                rate = ImageRate("training", name, how, shape_for(name), device, ())
                jobs.append(_Job(rate, functools.partial(trainer, name, device)))
    if "prediction" in works and given is not None:
        like, file = given.metadata.preparation, given.path
        shape = (like.height, like.width, like.channels)
        jobs += _asking(given.metadata.model, shape, lambda: file)
    elif "prediction" in works:
        for name in names:
            export = functools.cache(functools.partial(export_fresh, name, folder))
            jobs += _asking(name, shape_for(name), export)
    return jobs


def _asking(name: str, shape: Shape, file: Callable[[], Path]) -> list[_Job]:
    """List the measurements of one file: image by image, and in batches."""
    # As many as the classifier hands to ONNX Runtime at once.
    count = max(8, min(256, 1_000_000 // (shape[0] * shape[1])))
    one = ImageRate("prediction", name, ONE, shape, "cpu", ())
    many = replace(one, how=f"batch of {count}")
    jobs = [
        _Job(one, lambda: one_by_one(file())),
        _Job(many, lambda: in_batches(file(), count)),
    ]
    for device in installed():
        ask = functools.partial(lambda on: in_batches_on(file(), count, on), device)
        jobs.append(_Job(replace(many, device=device), ask))
    return jobs


def _devices() -> list[str]:
    from opsin.training.device import choose_device  # noqa: PLC0415

    fastest = choose_device("auto").type
    return ["cpu"] if fastest == "cpu" else ["cpu", fastest]


def _measure_all(jobs: Sequence[_Job], seconds: float, watcher: Watcher) -> tuple[ImageRate, ...]:
    """Make the measurements one after another; leave out what a device refuses."""
    rates = []
    for number, job in enumerate(jobs, start=1):
        about = job.rate
        unit = job.make()
        if unit is None:
            watcher.note(
                f"ONNX Runtime knows {about.device} and cannot use it here, so its rate is "
                "missing: see that its driver and libraries are installed"
            )
            continue
        title = f"{number}/{len(jobs)} {about.work}"
        rates.append(replace(about, rates=_measure(unit, seconds, watcher, title)))
    return tuple(rates)


def _measure(unit: Unit, seconds: float, watcher: Watcher, title: str) -> tuple[float, ...]:
    """Return the images a second of several repeats of about the same number of units.

    The first units are not counted: they find their memory and wake the threads, and what is left
    of that time says how many units make a repeat.
    """
    unit()
    began, units = time.perf_counter(), 0
    while units == 0 or time.perf_counter() - began < seconds / _REPEATS:
        images = unit()
        units += 1
    watcher.begin(title, images * units * _REPEATS, "images")
    rates: list[float] = []
    started = time.perf_counter()
    try:
        while len(rates) < _REPEATS:
            began = time.perf_counter()
            done = sum(unit() for _ in range(units))
            rates.append(done / (time.perf_counter() - began))
            watcher.advance(done * len(rates))
            if len(rates) >= _LEAST and time.perf_counter() - started > 2 * seconds:
                break
    finally:
        watcher.end()
    return tuple(rates)


def _written(done: Benchmark, folder: Path) -> Benchmark:
    """Write the chart and all figures, and return them with the files' names."""
    from opsin.report.figures.bench_figure import draw_rates  # noqa: PLC0415  needs matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    files = [folder / f"bench.{kind}" for kind in ("png", "svg", "json")]
    done = replace(done, files=tuple(files))
    with styled():
        figure = draw_rates(done.rates, done.headline(), done.machine.line())
        for file in files[:2]:
            save(figure, file)
    write_json(files[2], done.to_json())
    return done
