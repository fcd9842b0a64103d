"""What a training says before it begins and when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import numpy as np

from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE, resolve_classical
from opsin.commands.backbones import milliseconds_of
from opsin.commands.conclude import AnyJob
from opsin.commands.test_set_usage import leaks_of, looks_in_words
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Refused, Report, TrainingFacts
from opsin.core.events import Watcher
from opsin.core.format import about, clock, file_size, millions, plus_minus, repeats
from opsin.data.dataset import Dataset
from opsin.data.left_out import left_out_in_words
from opsin.data.thin_parts import thin_parts
from opsin.evaluation.metric_table import summary_of
from opsin.report.terminal import (
    confusions,
    corrected_in_words,
    images_in_words,
    leaks_in_words,
    ood_in_words,
)

if TYPE_CHECKING:
    from opsin.commands.classical_job import ClassicalJob
    from opsin.core.recipe import TrainingRecipe

# Times as long as a network's features of an image that a step of fine-tuning takes for it, and
# the least shorter side of a photograph.
_STEP, _PHOTOGRAPH = 4.5, 64
# One split of TrashNet with --budget 15m: 93.0 and 93.5% of 511 others right.
_BROUGHT: Final = "; with 2,016 photographs of waste it brought half a point"


def tell_start(watcher: Watcher, directory: RunDirectory, job: AnyJob) -> None:
    """Say what is trained on what, and what is wrong with the images."""
    tell_images(watcher, directory, job)
    tell_model(watcher, job)
    tell_place(watcher, directory, job)


def tell_images(watcher: Watcher, directory: RunDirectory, job: AnyJob) -> None:
    """Say what is learnt from, and what is wrong with it."""
    dataset, audit = job.dataset, job.audit
    watcher.fact("Data", f"{dataset.recipe.source} · {dataset.summary()}")
    if dataset.unreadable:
        name, reason = dataset.unreadable[0]
        watcher.note(
            f"{len(dataset.unreadable):,} unreadable files left out, such as {name}: {reason} "
            f"(all of them: {directory.dataset})"
        )
    if dataset.left_out:
        watcher.note(f"Left out: {left_out_in_words(dataset.left_out)}")
    if dataset.repeated:
        watcher.note(repeats(dataset.repeated))
    if audit.findings:
        found = [f"{count:,} {kind.replace('-', ' ')}" for kind, count in audit.counts().items()]
        watcher.fact("Audit", f"{' · '.join(found)} · to see them: opsin data SOURCE --audit")
    tell_limits(watcher, dataset)


def tell_limits(watcher: Watcher, dataset: Dataset) -> None:
    """Say what will limit the figures: test images that are trained on, thin parts."""
    thin = thin_parts(dataset)
    if thin:
        watcher.note(thin)
    if any(dataset.leaks):
        watcher.note(leaks_in_words(leaks_of(dataset)))


def tell_model(watcher: Watcher, job: AnyJob) -> None:
    """Say what the model is made of, and what it costs."""
    watcher.layers(job.layers)
    parameters = sum(layer.parameters for layer in job.layers)
    work = sum(layer.multiply_adds for layer in job.layers)
    watcher.fact(
        "Model",
        f"{job.recipe.model.name} · {parameters:,} parameters · {millions(work)} multiply-adds an "
        "image",
    )


def tell_place(watcher: Watcher, directory: RunDirectory, job: AnyJob) -> None:
    """Say what was decided, and where the work is done and kept."""
    for name, reason in job.recipe.reasons.items():
        watcher.fact(name, reason)
    watcher.fact("Device", job.device_name)
    watcher.fact("Run", str(directory.path))


def tell_end(watcher: Watcher, report: Report) -> None:
    """Say how the training went, how good the file is, and what it confuses."""
    training = report.training
    classical = training.fitted_to is not None
    how = f"{training.fitted_to:,} images" if classical else _how(training)
    best = "" if classical else f" · best by validation: epoch {training.best_epoch}"
    seconds = report.seconds
    watcher.fact(
        "Trained",
        f"{how} in {clock(seconds['train'])}{best} · {clock(sum(seconds.values()))} in all",
    )
    chosen = "temperature" if classical else "best epoch"
    tell_measured(watcher, report, f"optimistic: the {chosen} was chosen on them")
    file, original = report.file, "scikit-learn" if classical else "the network"
    watcher.fact(
        "File",
        f"classifier.onnx · {file_size(file.bytes or 0)} · same answers as {original} on "
        f"{file.parity_images} images (largest difference {file.difference:.0e})",
    )


def tell_fine_tuning(watcher: Watcher, job: ClassicalJob) -> None:
    """Say how long fine-tuning would take, where photographs got a named network, frozen."""
    dataset, backbone = job.dataset, job.backbone
    if job.recipe.fine_tunes or backbone is None or backbone.name not in NAMED:
        return
    if dataset.images.shape[3] == 1 or np.median(dataset.sizes.min(axis=1)) < _PHOTOGRAPH:
        return
    tuned = resolve_classical(
        dataset.recipe, model=BACKBONE, backbone=backbone.name, fine_tune=True
    ).training
    steps = cast("TrainingRecipe", tuned).epochs * len(job.rows)
    seconds = steps * _STEP * milliseconds_of(backbone) / 1000
    watcher.fact(
        "Further",
        f"fine-tuning would take about {about(seconds)} here "
        f"(--from {backbone.name} --fine-tune){_BROUGHT}",
    )


def tell_measured(watcher: Watcher, report: Report, of_validation: str = "") -> None:
    """Say how good the file is, and what it confuses.

    Args:
        watcher: Is told.
        report: The figures.
        of_validation: What is said beside figures of validation images.
    """
    figures = report.judged
    what, how = ("Test", looks_in_words(report.looks))
    if report.split == "val":
        what, how = ("Valid.", of_validation)
    elif report.split == "out_of_fold":
        what, how = ("Judged", "each by a head that had not seen it")
    corrected = (
        f"{corrected_in_words(figures.corrected, report.split)} · " if figures.corrected else ""
    )
    watcher.fact(
        what,
        f"accuracy {plus_minus(figures)} ({images_in_words(figures)}"
        f"{f', {how}' if how else ''}) · "
        f"{corrected}"
        f"{summary_of(figures)}",
    )
    if report.rests_on:
        watcher.fact("Rests on", report.rests_on)
    if figures.refused and report.reject:
        watcher.fact("Refuses", refused_in_words(figures.refused, report.reject.rate))
    if report.ood:
        watcher.fact("Unknown", ood_in_words(report.ood))
    watcher.fact("Confuses", confusions(figures))


def refused_in_words(refused: Refused, rate: float) -> str:
    """Say how many images of the known classes get no answer.

    Example:
        >>> refused = Refused(count=4, images=200, share=0.02, low=0.01, high=0.05)
        >>> refused_in_words(refused, 0.02)
        '4 of 200 as "none of these" (2.0%, planned 2.0%), since they look unlike the training'
    """
    return (
        f'{refused.count:,} of {refused.images:,} as "none of these" '
        f"({refused.share:.1%}, planned {rate:.1%}), since they look unlike the training"
    )


def _how(training: TrainingFacts) -> str:
    epochs, asked = training.epochs, training.asked
    if training.diverged:
        return f"stopped in epoch {epochs + 1} of {asked}, since {training.diverged},"
    if training.stopped:
        return f"stopped in epoch {epochs} of {asked}"
    if epochs < asked:
        return f"{epochs} of {asked} epochs, then no more patience,"
    return f"{epochs} epochs"
