"""A pretrained network's own weights are trained, and kept where that is better."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.commands.calibrate import Draft
from opsin.commands.classical_job import ClassicalJob
from opsin.commands.conclude import metadata_of
from opsin.commands.recorder import Recorder
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import MissingExtraError, ModelFileError
from opsin.core.events import Watcher
from opsin.core.format import clock, counted
from opsin.core.metadata import Layer
from opsin.core.operating_system import keep_freed_memory
from opsin.core.recipe import TrainingRecipe
from opsin.core.storage import write_json

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.classical.backbone_features import BackboneFeatures
    from opsin.classical.backbone_head import HeadChoice
    from opsin.commands.training_job import Start
    from opsin.models.onnx_network import TorchNetwork
    from opsin.training.batches import TrainingBatches
    from opsin.training.trainer import Outcome

# Share of what is left of a budget that epochs are planned with; the evaluation needs the rest.
_PLANNED: Final = 0.85
# Seconds that steps are measured for in a plan, once the first ones are over.
_MEASURED: Final = 0.5
# The most of the frozen features' log loss that a network worth keeping has.
_LOWER: Final = 0.99
# Weights of the head, by their names in the file.
_OF_HEAD: Final = frozenset({"head.weight", "head.bias"})
_FROZEN: Final = "Leave --fine-tune out: frozen features still work, and need no PyTorch."


@dataclass(frozen=True)
class Beginning:
    """When and from what a run begins.

    Args:
        began: When the run began, or went on (`time.perf_counter`); its budget counts from then.
        start: The state to go on from; ``None`` for the network as it came.
    """

    began: float
    start: Start | None = None


@dataclass(frozen=True)
class FineTuned:
    """What came of it.

    Args:
        job: With its recipe decided.
        backbone: The network with its new weights; ``None`` where there was no time for any epoch.
        outcome: How the training went, if it did.
    """

    job: ClassicalJob
    backbone: Backbone | None
    outcome: Outcome | None

    def facts(self, *, interrupted: bool) -> TrainingFacts:
        """Return what the report says of the training."""
        outcome, recipe = cast("Outcome", self.outcome), _training(self.job)
        return TrainingFacts(
            best_epoch=outcome.best.epoch,
            epochs=outcome.last.epoch,
            asked=recipe.epochs,
            stopped=outcome.stopped,
            interrupted=interrupted,
            diverged=outcome.diverged,
            stepped_back=outcome.stepped_back,
            balance=recipe.balance,
            precision=recipe.precision,
        )


@dataclass(frozen=True)
class _Learning:
    """A network, what it learns from, and what it is validated on."""

    network: TorchNetwork
    train: TrainingBatches
    val: TrainingBatches


def check_fine_tuning(backbone: Backbone) -> None:
    """See that a network can be fine-tuned, before anything is computed.

    Raises:
        MissingExtraError: PyTorch is not installed.
        ModelFileError: One of its operators has no gradient.
    """
    try:
        from opsin.models.onnx_network import check_gradients  # noqa: PLC0415  needs PyTorch
    except MissingExtraError as error:
        missing = MissingExtraError("fine-tuning", "train")
        missing.advice = f"{error.advice} {_FROZEN}"
        raise missing from error
    from opsin.backbones.trainable import trainable  # noqa: PLC0415

    nodes = trainable(backbone).graph.leading_to(backbone.at[:1])
    try:
        check_gradients(nodes)
    except ModelFileError as error:
        raise ModelFileError(
            "a network whose operators have gradients",
            f"{backbone.name}: {error.received}",
            _FROZEN,
        ) from error


def fine_tune(
    directory: RunDirectory,
    job: ClassicalJob,
    features: NDArray[np.float32],
    choice: HeadChoice,
    recorder: Recorder,
    *,
    stop: threading.Event,
    beginning: Beginning,
) -> FineTuned:
    """Train a network's weights, beginning with a head that fits its frozen features.

    Args:
        directory: The run, whose recipe is written with what is decided here.
        job: What is trained on what.
        features: Of all images, ``float32[N, V, D]``.
        choice: The head that was chosen for them, which says at which depths they are taken.
        recorder: Keeps its history.
        stop: Ends the training early.
        beginning: When the run began, and what fine-tuning goes on from.
    """
    from opsin.backbones.trainable import trainable  # noqa: PLC0415
    from opsin.onnx_files.onnx_graph import OnnxGraph  # noqa: PLC0415
    from opsin.training.device import choose_device, own_randomness, threads_for  # noqa: PLC0415
    from opsin.training.fine_tuning import averaged, learning, with_crops  # noqa: PLC0415

    backbone = cast("Backbone", job.backbone)
    content, layers, names = _begun(job, features[:, :1], choice)
    network = learning(content, names)
    given = _training(job)
    device, fresh = choose_device(given.device), beginning.start is None
    keep_freed_memory()
    with own_randomness(device, given.seed):
        given = with_crops(given, network, job.dataset.images.shape[3])
        job, work = _decided(job, layers, given, fresh=fresh)
        with threads_for(work):
            parts = _Learning(network, *_batches(job, device))
            if job.recipe.budget is not None and fresh:
                left = job.recipe.budget - (time.perf_counter() - beginning.began)
                job, fits = _budgeted(job, parts, left, recorder)
                if not fits:
                    return FineTuned(job, None, None)
            if fresh:
                write_json(directory.recipe, job.recipe.model_dump(mode="json"))
            first = network.weights()
            outcome = _fitted(directory, job, parts, recorder, stop=stop, start=beginning.start)
            share = averaged(network, first, parts.val, _training(job))
            recorder.fact("Weights", f"{share:.0%} of the way from those that it began with")
    recorder.stopped, recorder.cause = outcome.stopped, outcome.diverged
    before = trainable(backbone)
    learnt = {name: value for name, value in network.weights().items() if name not in _OF_HEAD}
    tuned = replace(before, content=OnnxGraph(before.content, layers=()).with_weights(learnt))
    return FineTuned(job, tuned, outcome)


def _training(job: ClassicalJob) -> TrainingRecipe:
    return cast("TrainingRecipe", job.recipe.training)


def _begun(
    job: ClassicalJob, features: NDArray[np.float32], choice: HeadChoice
) -> tuple[bytes, list[Layer], set[str]]:
    """Return a file with the network as it was and logistic regression on its features.

    A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022: a head that fits already leaves the features as they are.

    Returns:
        The file, its layers, and the names of the weights that are to learn.
    """
    from opsin.backbones.trainable import trainable  # noqa: PLC0415
    from opsin.classical.backbone_head import START, fit_as  # noqa: PLC0415
    from opsin.classical.fitted_file import Written  # noqa: PLC0415

    dataset, backbone = job.dataset, trainable(cast("Backbone", job.backbone))
    height, width, channels = dataset.images.shape[1:]
    fitted = fit_as(
        replace(choice, head=START, views=("whole",)),
        backbone,
        (height, width, channels),
        features,
        dataset.labels,
        train=job.rows,
        val=job.rows[:0],
        classes=len(dataset.classes),
    ).final
    written = Written(fitted)
    layers = [layer.model_copy(update={"trainable": layer.parameters}) for layer in written.layers]
    metadata = metadata_of(replace(job, layers=layers), fitted.labels, balanced=False)
    numbers = cast("BackboneFeatures", fitted.numbers)
    content = written.content(metadata.model_copy(update={"backbone": numbers.facts}))
    names = {weight.name for weight in backbone.graph.model.graph.initializer}
    return content, layers, names | _OF_HEAD


def _decided(
    job: ClassicalJob, layers: list[Layer], recipe: TrainingRecipe, *, fresh: bool
) -> tuple[ClassicalJob, int]:
    """Decide balance, batch size and arithmetic; return the work of a step as well."""
    from opsin.training.device import choose_device, choose_precision  # noqa: PLC0415
    from opsin.training.fine_tuning import fitting_batch  # noqa: PLC0415
    from opsin.training.sampling import choose_balance  # noqa: PLC0415

    reasons: dict[str, str] = {}
    if recipe.balance == "auto":
        labels = job.dataset.labels[job.rows]
        counts = np.bincount(labels, minlength=len(job.dataset.classes))
        in_shards = recipe.shuffle_buffer is not None
        balance, reason = choose_balance(counts, in_shards=in_shards)
        recipe = recipe.model_copy(update={"balance": balance})
        if balance != "none":
            reasons["Balance"] = reason
    if fresh:
        size = fitting_batch(recipe, [layer.shape for layer in layers])
        if size < (recipe.micro_batch or recipe.batch_size):
            recipe = recipe.model_copy(update={"micro_batch": size})
            reasons["Memory"] = f"{size} images are computed at a time, for which there is room"
    work = recipe.batch_size * sum(layer.multiply_adds for layer in layers)
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.precision, work, device)
    return _changed(job, recipe.model_copy(update={"precision": precision}), reasons), work


def _changed(
    job: ClassicalJob, training: TrainingRecipe, reasons: Mapping[str, str]
) -> ClassicalJob:
    recipe = job.recipe.model_copy(
        update={"training": training, "reasons": job.recipe.reasons | dict(reasons)}
    )
    return replace(job, recipe=recipe)


def _batches(job: ClassicalJob, device: Any) -> tuple[TrainingBatches, TrainingBatches]:
    from opsin.training.batches import TrainingBatches  # noqa: PLC0415

    data = job.dataset
    return (
        TrainingBatches(data.images, data.labels, job.rows, device),
        TrainingBatches(data.images, data.labels, data.split.val, device),
    )


def _budgeted(
    job: ClassicalJob, parts: _Learning, left: float, watcher: Watcher
) -> tuple[ClassicalJob, bool]:
    """Train as many epochs as fit into the time that is left, the recipe's own at most.

    Returns:
        The job with its epochs, and whether one fits at all.
    """
    from opsin.training.fine_tuning import fitting_epochs  # noqa: PLC0415

    recipe, seconds = _training(job), max(1.0, _PLANNED * left)
    epochs, each = fitting_epochs(
        parts.network, recipe, parts.train, parts.val, seconds=seconds, watcher=watcher
    )
    fits = each <= seconds
    reason = f"{counted(epochs, 'epoch')} of about {clock(each)} fit into what is left of it"
    if not fits:
        reason = f"an epoch of fine-tuning takes about {clock(each)}, and {clock(left)} is left"
        watcher.note(f"{reason}: the head on frozen features is delivered")
    else:
        watcher.fact("Budget", reason)
    return _changed(job, recipe.model_copy(update={"epochs": epochs}), {"Budget": reason}), fits


def _fitted(
    directory: RunDirectory,
    job: ClassicalJob,
    parts: _Learning,
    recorder: Recorder,
    *,
    stop: threading.Event,
    start: Start | None,
) -> Outcome:
    from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415
    from opsin.training.trainer import fit  # noqa: PLC0415

    return fit(
        parts.network,
        parts.train,
        parts.val,
        _training(job),
        classes=len(job.dataset.classes),
        checkpoints=Checkpoints(directory.checkpoints, recorder.note),
        watcher=recorder,
        stop=stop,
        start=start,
    )


def planned(job: ClassicalJob) -> tuple[ClassicalJob, float]:
    """Decide what is left open; return about how long the epochs take, from a few real steps."""
    from opsin.classical.backbone_head import START, HeadChoice  # noqa: PLC0415
    from opsin.training.budget import time_epoch  # noqa: PLC0415
    from opsin.training.device import choose_device, own_randomness, threads_for  # noqa: PLC0415
    from opsin.training.fine_tuning import learning, with_crops  # noqa: PLC0415

    keep_freed_memory()
    # The time does not depend on what the head has learnt.
    backbone = cast("Backbone", job.backbone)
    choice = HeadChoice(START, backbone.at, ("whole",), None, 0, 0, 1.0)
    size = (len(job.dataset.labels), 1, sum(backbone.units))
    drawn = np.random.default_rng(0).random(size, np.float32)
    content, layers, names = _begun(job, drawn, choice)
    given = _training(job)
    device = choose_device(given.device)
    network = learning(content, names)
    given = with_crops(given, network, job.dataset.images.shape[3])
    job, work = _decided(job, layers, given, fresh=True)
    recipe = _training(job)
    with own_randomness(device), threads_for(work):
        train, val = _batches(job, device)
        return job, recipe.epochs * time_epoch(network, recipe, train, val, seconds=_MEASURED)


def is_better(frozen: Draft, tuned: Draft) -> tuple[bool, str]:
    """Tell whether validation says that fine-tuning was better than the frozen features.

    A few hundred images rarely settle by right and wrong alone what two percent more right are
    worth: log loss, each at its own best temperature, weighs how clear every answer is. The
    smallest difference of all would be noise, so it has to be lower by a hundredth.

    Returns:
        Whether its log loss is that much lower with no fewer right, and a sentence about it.
    """
    from opsin.evaluation.calibration import fit_temperature, log_loss_of  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import LOGITS  # noqa: PLC0415  needs onnx

    labels = tuned.dataset.labels[tuned.dataset.split.val]
    right, losses = [], []
    for draft in (frozen, tuned):
        logits, shift = draft.validation[LOGITS], draft.validation_shift
        temperature = fit_temperature(logits, labels, shift)
        right.append((logits / temperature + shift).argmax(axis=1) == labels)
        losses.append(log_loss_of(logits, labels, temperature, shift))
    before, after = right
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    better = gained >= lost and losses[1] < _LOWER * losses[0]
    words = (
        f"{'kept' if better else 'not kept'}: of {len(labels):,} validation images, "
        f"{after.mean():.1%} right in place of {before.mean():.1%} with frozen features "
        f"({gained} gained, {lost} lost), log loss {losses[1]:.3f} in place of {losses[0]:.3f}"
    )
    if not better:
        words += "; the head on frozen features is delivered"
    return better, words
