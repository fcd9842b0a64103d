"""The whole training, from fresh weights to the best epoch's."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import InitVar, dataclass, field
from threading import Event

import numpy as np
import torch
from torch import Tensor, nn

from opsin.core.artifacts.records import Epoch
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Pace, Watcher
from opsin.core.recipe import TrainingRecipe
from opsin.training.batches import (
    TrainingBatches,
    class_weights,
    epoch_order,
    mirrored_in,
    spans_of,
)
from opsin.training.checkpoint import Checkpoints, Tensors, TrainingState
from opsin.training.device import validation_batch
from opsin.training.optimizers import rate_at
from opsin.training.step import TrainStep

# Steps between two reads of the loss, which would stall a GPU each time.
_LOOK = 8
# A loss this many times that of guessing counts as diverged.
_EXPLODED = 10.0
# Factor of the learning rate after a step back.
_SLOWER = 0.1


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    best: Epoch  # the epoch that validated best, whose weights the network now holds
    last: Epoch  # the last epoch
    stopped: bool  # whether it was stopped before its end, as Ctrl-C does
    diverged: str | None  # what went wrong with the loss for good, if anything did
    stepped_back: bool  # whether it went back to a checkpoint once, to go on with a lower rate
    seconds: float  # time spent training, before a resume included


class _DivergedError(Exception):
    """The loss is not finite, or far beyond that of guessing."""


def fit(
    network: nn.Module,
    train: TrainingBatches,
    val: TrainingBatches,
    recipe: TrainingRecipe,
    *,
    classes: int,
    checkpoints: Checkpoints,
    watcher: Watcher,
    stop: Event,
    deadline: float = math.inf,
    start: tuple[Tensors, TrainingState] | None = None,
) -> Outcome:
    """Train a network; afterwards it holds the weights of the epoch that validated best."""
    if not len(train) or not len(val):
        raise RecipeError(
            f"There are {len(train)} images to train on and {len(val)} to validate on",
            "Give more images, or another --val-fraction.",
        )
    if train.group.world > min(len(train), recipe.batch_size):
        raise RecipeError(
            f"{train.group.world} processes cannot share a batch of {recipe.batch_size}, or "
            f"{len(train)} images",
            "Give a larger --batch-size, or start fewer processes.",
        )
    training = _Training(network, train, val, recipe, classes, checkpoints, watcher, stop, deadline)
    return training.run(start)


@dataclass(eq=False)
class _Training:
    """One training in progress."""

    network: InitVar[nn.Module]
    train: TrainingBatches
    val: TrainingBatches
    recipe: TrainingRecipe
    classes: int
    checkpoints: Checkpoints
    watcher: Watcher
    stop: Event
    deadline: float
    state: TrainingState = field(default_factory=TrainingState)
    # Loss, right answers and size of each batch since the last look.
    pending: list[tuple[Tensor, Tensor, int]] = field(default_factory=list)
    late: bool = False
    stopped: bool = False
    diverged: str | None = None

    def __post_init__(self, network: nn.Module) -> None:
        recipe, weights, self.shift = self.recipe, None, None
        of_classes = class_weights(self.train.labels, self.classes)
        if recipe.balance == "weights":
            weights = of_classes
        if recipe.balance in ("weights", "sampling"):
            # Validated as if classes were as common as among the training images, which they are.
            self.shift = -torch.from_numpy(of_classes).log()
        self.group = self.train.group
        self.stepper = TrainStep(
            network, recipe, device=self.train.device, weights=weights, group=self.group
        )
        self.resumed_at = self.saved_at = time.perf_counter()
        self.pace = Pace(1.0)

    def run(self, start: tuple[Tensors, TrainingState] | None) -> Outcome:
        """Train to the end."""
        if start is None:
            self.watcher.rewind(0)
        else:
            self.restore(*start)
        self.pace = Pace(1.0, self.progress(self.state.epoch, self.state.seen))
        (fresh,) = self.group.any(self.state.step not in self.checkpoints.steps())
        if fresh:
            # Its first checkpoint, or a copy of its parent's.
            self.state.start = self.state.step
            self.save()
        while not self.over():
            try:
                self.train_epoch()
            except _DivergedError as trouble:
                self.watcher.end()
                if not self.step_back(str(trouble)):
                    break
        return self.finish()

    def over(self) -> bool:
        """Whether no epoch is left to train."""
        recipe, state = self.recipe, self.state
        patient = recipe.patience is None or state.epochs_since_best < recipe.patience
        return self.stopped or self.late or state.epoch > recipe.epochs or not patient

    def train_epoch(self) -> None:
        """Train one epoch, or the rest of it, then validate."""
        recipe, watcher, state = self.recipe, self.watcher, self.state
        number, first, count, rate = state.epoch, state.seen, len(self.train), 0.0
        began = time.perf_counter()
        order = epoch_order(self.train.labels, recipe, number, self.classes)
        mirrored = torch.from_numpy(mirrored_in(number, recipe, count)[order])
        watcher.begin(f"{number}/{recipe.epochs}", count, "images")
        watcher.doing("the first images of an epoch")
        self.stepper.network.train()
        spans = spans_of(count, recipe.batch_size, first, self.group.world)
        batches = self.train.batches(order, recipe.batch_size, first)
        stopping = False
        for (begin, end), (images, labels) in zip(spans, batches, strict=True):
            watcher.doing("a training step")
            rate = state.rate_factor * rate_at(recipe, self.progress(number, begin))
            flips = mirrored[begin:end][self.group.share]
            whole = torch.from_numpy(self.train.labels[order[begin:end]])
            done = self.stepper.step(images, labels, rate, flips, whole=whole)
            self.pending.append((*done, end - begin))
            state.step, state.seen = state.step + 1, end
            watcher.doing("the next images")
            if state.step % _LOOK == 0:
                self.look()
            late = time.perf_counter() > self.deadline
            stopping, self.late, due = self.group.any(
                self.stop.is_set(), late, self.checkpoint_due()
            )
            if stopping or self.late:
                break
            if due and end < count:
                self.save(began)
        self.flush()
        self.stopped = stopping and (state.seen < count or number < recipe.epochs)
        if state.seen < count:
            why = "stopping here" if stopping else "the time is up"
            watcher.note(f"{why}: the best epoch so far is evaluated next")
            self.save(began)
        speed = (state.seen - first) / (time.perf_counter() - began)
        self.validate_epoch(began, rate, speed)

    def validate_epoch(self, began: float, rate: float, speed: float) -> None:
        """Validate, report the epoch, and move on to the next."""
        state, watcher = self.state, self.watcher
        watcher.doing("validation")
        val_loss, val_accuracy = validate(self.stepper, self.val, self.shift)
        watcher.end()
        mean = state.loss_sum / state.seen
        if not (math.isfinite(mean) and math.isfinite(val_loss)):
            which, loss = ("", mean) if not math.isfinite(mean) else ("validation ", val_loss)
            raise _DivergedError(f"the {which}loss became {loss} in epoch {state.epoch}")
        best = state.best
        better = best is None or (val_accuracy, -val_loss) > (best.val_accuracy, -best.val_loss)
        # An average over many steps is better the longer it went: nothing is chosen among epochs.
        better = better or self.recipe.ema > 0
        complete = state.seen == len(self.train)
        spent = time.perf_counter() - began
        epoch = Epoch(
            epoch=state.epoch,
            epochs=self.recipe.epochs,
            step=state.step,
            train_loss=mean,
            train_accuracy=state.right_sum / state.seen,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=rate,
            seconds=state.epoch_seconds + spent,
            images_per_second=speed,
            best=better,
            complete=complete,
        )
        watcher.epoch(epoch)
        self.state = TrainingState(
            step=state.step,
            epoch=state.epoch + 1,
            rate_factor=state.rate_factor,
            epochs_since_best=0 if better else state.epochs_since_best + 1,
            epochs_logged=state.epochs_logged + 1,
            best=epoch if better else best,
            last=epoch,
            seconds=state.seconds,
        )
        # A part of an epoch has its checkpoint already, from which it goes on as if whole.
        (due,) = self.group.any(self.checkpoint_due())
        if complete and (better or due or self.over()):
            self.save()

    def look(self) -> None:
        """Report progress, and check the loss for divergence."""
        self.flush()
        state = self.state
        recent = state.recent_sum / state.recent if state.recent else 0.0
        if not recent < _EXPLODED * max(1.0, math.log(self.classes)):
            raise _DivergedError(f"the loss became {recent:.3g} in epoch {state.epoch}")
        state.recent_sum, state.recent = 0.0, 0
        shown = {"loss": state.loss_sum / state.seen, "acc": state.right_sum / state.seen}
        shown["share"] = self.progress(state.epoch, state.seen)
        self.pace.saw(shown["share"])
        if self.pace.speed is not None and self.pace.left is not None:
            images = len(self.train) * self.recipe.epochs
            shown |= {"left": self.pace.left, "speed": self.pace.speed * images}
        self.watcher.advance(state.seen, **shown)

    def flush(self) -> None:
        """Add up the results of pending steps, in order."""
        for mean, correct, size in self.pending:
            self.state.loss_sum += float(mean) * size
            self.state.right_sum += int(correct)
            self.state.recent_sum += float(mean) * size
            self.state.recent += size
        self.pending.clear()

    def progress(self, number: int, seen: int) -> float:
        """The share of all epochs' images trained on so far."""
        return ((number - 1) * len(self.train) + seen) / (len(self.train) * self.recipe.epochs)

    def seconds(self) -> float:
        """The time spent training, before a resume included."""
        return self.state.seconds + time.perf_counter() - self.resumed_at

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint is due by the recipe's interval."""
        return time.perf_counter() - self.saved_at > self.recipe.checkpoint_every

    def save(self, began: float | None = None) -> None:
        """Write a checkpoint; weights must be finite."""
        self.flush()
        if not self.stepper.finite():
            raise _DivergedError("a weight became infinite or undefined")
        self.watcher.doing(f"the checkpoint of step {self.state.step}")
        times = {"seconds": self.seconds()}
        if began is not None:
            times["epoch_seconds"] = self.state.epoch_seconds + time.perf_counter() - began
        if self.group.writes:
            self.checkpoints.save(self.stepper.tensors(), self.state.model_copy(update=times))
        self.saved_at = time.perf_counter()

    def restore(self, tensors: Tensors, state: TrainingState) -> None:
        """Go back to a checkpoint."""
        self.stepper.restore(tensors)
        self.pending.clear()
        self.state = state.model_copy()
        if self.group.writes:
            self.checkpoints.forget_after(state.step)
        self.watcher.rewind(state.epochs_logged)
        self.resumed_at = self.saved_at = time.perf_counter()

    def step_back(self, trouble: str) -> bool:
        """Go on from the best epoch, or the start, with a lower rate; the second time, give up."""
        # Not from the newest checkpoint, which may be half way to the explosion.
        if self.state.rate_factor < 1:
            self.diverged = trouble
            self.watcher.note(f"{trouble} again: stopping; the best weights so far are kept")
            return False
        try:
            tensors, state = self.checkpoints.load(self.state.anchor)
        except RunError as error:
            self.diverged = trouble
            self.watcher.note(f"{trouble}, and {error.message}: stopping")
            return False
        self.watcher.note(
            f"{trouble}: going back to step {state.step:,}, to go on with a tenth of the rate "
            "(a smaller --learning-rate would have avoided this)"
        )
        state.rate_factor, state.seconds = _SLOWER, self.seconds()
        self.restore(tensors, state)
        return True

    def finish(self) -> Outcome:
        """Restore the best weights, and return the outcome."""
        seconds, state = self.seconds(), self.state
        best = state.best
        self.group.wait()  # until the last checkpoint is written
        try:
            if best is None:
                raise RunError("No epoch was validated", "Train again.")
            self.stepper.restore(self.checkpoints.load(best.step)[0])
        except RunError as error:
            best = self.fall_back(error, best)
        self.stepper.deliver()
        return Outcome(
            best=best,
            last=state.last or best,
            stopped=self.stopped,
            diverged=self.diverged,
            stepped_back=state.rate_factor < 1,
            seconds=seconds,
        )

    def fall_back(self, error: RunError, best: Epoch | None) -> Epoch:
        """Take another whole checkpoint in place of the best, and validate it anew."""
        checkpoint = None
        if best is None:
            with contextlib.suppress(RunError):
                checkpoint = self.checkpoints.load(self.state.start)
        checkpoint = checkpoint or self.checkpoints.newest()
        if checkpoint is None:
            raise error
        tensors, state = checkpoint
        if best is not None:
            self.watcher.note(f"{error.message}: the weights of step {state.step:,} are used")
        self.stepper.restore(tensors)
        val_loss, val_accuracy = validate(self.stepper, self.val, self.shift)
        epoch = Epoch(
            epoch=state.last.epoch if state.last else 0,
            epochs=self.recipe.epochs,
            step=state.step,
            train_loss=math.nan,
            train_accuracy=math.nan,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=0.0,
            seconds=0.0,
            images_per_second=0.0,
            best=True,
            complete=False,
        )
        if not state.epochs_logged:
            self.watcher.epoch(epoch)
        return epoch


def validate(stepper: TrainStep, val: TrainingBatches, shift: Tensor | None) -> tuple[float, float]:
    """Mean cross entropy in nats and accuracy, without dropout or augmentation."""
    stepper.network.eval()
    loss, right = 0.0, 0
    size = validation_batch(*val.images.shape[1:3])
    with torch.inference_mode():
        for images, labels in val.batches(np.arange(len(val)), size):
            logits = stepper.logits(images)
            if shift is not None:
                logits = logits + shift.to(logits.device)
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(dim=1) == labels).sum())
    sums = torch.tensor([loss, right], dtype=torch.float64)
    val.group.add([sums])
    loss, right = sums.tolist()
    return loss / len(val), right / len(val)
