"""The whole training, from fresh weights to the best epoch's."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from torch import Tensor, nn

from opsin.core.artifacts.records import Epoch
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Pace, Watcher
from opsin.core.recipe import TrainingRecipe
from opsin.training.batches import TrainingBatches, spans_of
from opsin.training.checkpoint import Checkpoints, Tensors, TrainingState
from opsin.training.memory import validation_batch
from opsin.training.optimizers import rate_at
from opsin.training.sampling import class_weights, epoch_order, mirrored_in, read_at_once
from opsin.training.step import TrainStep

# Steps between two looks at the loss, which on a GPU would hold up the work each time.
_LOOK = 8
# A loss this many times that of guessing has left the range from which training comes back.
_EXPLODED = 10.0
# What the learning rate is multiplied by after a step back.
_SLOWER = 0.1
# Classes up to which each epoch's confusion matrix is kept: more could not be read, and would fill
# the disk.
_KEPT_CLASSES = 50


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Args:
        best: The epoch that validated best, whose weights the network now holds.
        last: The last epoch.
        stopped: Whether it was stopped before its end, as Ctrl-C does.
        diverged: What went wrong with the loss for good, if anything did.
        stepped_back: Whether it went back to a checkpoint once, to go on with a lower rate.
        seconds: Time spent training, before a resume included.
    """

    best: Epoch
    last: Epoch
    stopped: bool
    diverged: str | None
    stepped_back: bool
    seconds: float


class _DivergedError(Exception):
    """The loss is no number any more, or far beyond that of guessing."""


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
            "images to train on and others to validate on",
            f"got {len(train)} and {len(val)}",
            "Give more images, or another --val-fraction.",
        )
    least = max(2, train.group.world)
    if train.group.world > 1 and min(len(train), recipe.batch_size) < least:
        raise RecipeError(
            f"batches of {least} images or more for {train.group.world} processes",
            f"got {recipe.batch_size} of {len(train)}",
            "Give a larger batch size, or start fewer processes.",
        )
    training = _Training(
        network, train, val, recipe,
        classes=classes, checkpoints=checkpoints, watcher=watcher, stop=stop, deadline=deadline,
    )  # fmt: skip
    return training.run(start)


class _Training:
    """The state of one training that is no tensor, and what moves it on."""

    def __init__(
        self,
        network: nn.Module,
        train: TrainingBatches,
        val: TrainingBatches,
        recipe: TrainingRecipe,
        *,
        classes: int,
        checkpoints: Checkpoints,
        watcher: Watcher,
        stop: Event,
        deadline: float,
    ) -> None:
        self.train, self.val, self.recipe, self.classes = train, val, recipe, classes
        self.checkpoints, self.watcher, self.stop = checkpoints, watcher, stop
        self.deadline, self.late = deadline, False
        weights, self.shift = None, None
        if recipe.balance == "weights":
            weights = class_weights(train.labels, classes)
        if recipe.balance in ("weights", "sampling"):
            # Validated as if classes were as common as among the training images, which they are.
            self.shift = -torch.from_numpy(class_weights(train.labels, classes)).log()
        self.group = train.group
        self.stepper = TrainStep(
            network, recipe, device=train.device, weights=weights, group=train.group
        )
        self.place = TrainingState()
        self.pending: list[tuple[Tensor, Tensor, int]] = []
        self.resumed_at, self.saved_at = 0.0, 0.0
        self.pace = Pace(1.0)
        self.diverged: str | None = None
        self.stopped = False

    def run(self, start: tuple[Tensors, TrainingState] | None) -> Outcome:
        """Train to the end, however it comes."""
        self.resumed_at = self.saved_at = time.perf_counter()
        if start is None:
            self.watcher.rewind(0)
        else:
            self.restore(*start)
        self.pace = Pace(1.0, self.progress(self.place.epoch, self.place.seen))
        (fresh,) = self.group.any(self.place.step not in self.checkpoints.steps())
        if fresh:
            # Its first one, or what a run takes over from its parent, to whom it owes nothing more.
            self.place = self.place.model_copy(update={"start": self.place.step})
            self.save()
        while not self.over():
            try:
                self.epoch()
            except _DivergedError as trouble:
                self.watcher.end()
                if not self.step_back(str(trouble)):
                    break
        return self.finish()

    def over(self) -> bool:
        """Tell whether there is no epoch left to train."""
        patient = self.recipe.patience is None or self.place.waited < self.recipe.patience
        over = self.stopped or self.late
        return over or self.place.epoch > self.recipe.epochs or not patient

    def epoch(self) -> None:
        """Train one epoch, or the rest of it, then validate."""
        recipe, watcher, place = self.recipe, self.watcher, self.place
        number, count, rate = place.epoch, len(self.train), 0.0
        began = time.perf_counter()
        order = epoch_order(self.train.labels, recipe, number, self.classes)
        mirrored = torch.from_numpy(mirrored_in(number, recipe, count)[order])
        watcher.begin(f"{number}/{recipe.epochs}", count, "images")
        watcher.doing("the first images of an epoch")
        self.stepper.network.train()
        step, seen = place.step, place.seen
        spans = spans_of(count, recipe.batch_size, seen, group=self.group)
        batches = self.train.batches(order, recipe.batch_size, seen, at_once=read_at_once(recipe))
        stopping = False
        for (begin, end), (images, labels) in zip(spans, batches, strict=True):
            watcher.doing("a training step")
            rate = place.rate_factor * rate_at(recipe, self.progress(number, begin))
            own = mirrored[begin:end][self.group.share]
            whole = torch.from_numpy(self.train.labels[order[begin:end]])
            loss, right = self.stepper.step(images, labels, rate, own, whole=whole)
            self.pending.append((loss, right, end - begin))
            step, seen = step + 1, end
            watcher.doing("the next images")
            if step % _LOOK == 0:
                self.place = self.place.model_copy(update={"step": step, "seen": seen})
                self.look()
            late = time.perf_counter() > self.deadline
            stopping, self.late, due = self.group.any(
                self.stop.is_set(), late, self.checkpoint_due()
            )
            if stopping or self.late or due:
                self.place = self.place.model_copy(update={"step": step, "seen": seen})
                if stopping or self.late:
                    break
                if seen < count:
                    self.save(began)
        self.place = self.place.model_copy(update={"step": step, "seen": seen})
        self.flush()
        self.stopped = stopping and (seen < count or number < recipe.epochs)
        if seen < count:
            why = "stopping here" if stopping else "the time is up"
            watcher.note(f"{why}: the best epoch so far is evaluated next")
            self.save(began)
        speed = (seen - place.seen) / (time.perf_counter() - began)
        self.compare()
        self.judge(began, rate, speed)

    def compare(self) -> None:
        """See that all processes have learnt the same, to the bit."""
        if self.group.world == 1:
            return
        others = self.group.differing(self.stepper.digest())
        if others:
            raise RunError(
                f"the same weights in all {self.group.world} processes",
                f"those of process {others[0]} differ after epoch {self.place.epoch}",
                "Start them with the same versions on machines of one kind.",
            )

    def judge(self, began: float, rate: float, speed: float) -> None:
        """Validate, report the epoch, and move on to the next."""
        place, watcher = self.place, self.watcher
        watcher.doing("validation")
        counts = None
        if self.classes <= _KEPT_CLASSES:
            counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        val_loss, val_accuracy = validate(self.stepper, self.val, counts, self.shift)
        watcher.end()
        if not (math.isfinite(place.loss_sum) and math.isfinite(val_loss)):
            mean = place.loss_sum / place.seen
            which, loss = ("", mean) if not math.isfinite(mean) else ("validation ", val_loss)
            raise _DivergedError(f"the {which}loss became {loss} in epoch {place.epoch}")
        best = place.best
        better = best is None or (val_accuracy, -val_loss) > (best.val_accuracy, -best.val_loss)
        # An average over many steps is better the longer it went: nothing is chosen among epochs.
        better = better or self.recipe.ema > 0
        complete = place.seen == len(self.train)
        spent = time.perf_counter() - began
        epoch = Epoch(
            epoch=place.epoch, epochs=self.recipe.epochs, step=place.step,
            train_loss=place.loss_sum / place.seen, train_accuracy=place.right_sum / place.seen,
            val_loss=val_loss, val_accuracy=val_accuracy, learning_rate=rate,
            seconds=place.epoch_seconds + spent, images_per_second=speed,
            best=better, complete=complete, norms=self.stepper.norms(),
        )  # fmt: skip
        if counts is not None:
            watcher.confusion(place.epoch, counts.tolist())
        watcher.epoch(epoch)
        self.place = TrainingState(
            step=place.step, epoch=place.epoch + 1, rate_factor=place.rate_factor,
            waited=0 if better else place.waited + 1, told=place.told + 1,
            best=epoch if better else best, last=epoch, seconds=place.seconds,
        )  # fmt: skip
        # A part of an epoch has its checkpoint already, from which it goes on as if whole.
        (due,) = self.group.any(self.checkpoint_due())
        if complete and (better or due or self.over()):
            self.save()

    def look(self) -> None:
        """Tell how far it is, and see whether the loss has run away."""
        self.flush()
        place = self.place
        recent = place.recent_sum / place.recent if place.recent else 0.0
        limit = _EXPLODED * max(1.0, math.log(self.classes))
        if not recent < limit:
            raise _DivergedError(f"the loss became {recent:.3g} in epoch {place.epoch}")
        self.place = place.model_copy(update={"recent_sum": 0.0, "recent": 0})
        shown = {"loss": place.loss_sum / place.seen, "acc": place.right_sum / place.seen}
        shown["share"] = self.progress(place.epoch, place.seen)
        self.pace.saw(shown["share"])
        if self.pace.speed is not None and self.pace.left is not None:
            images = len(self.train) * self.recipe.epochs
            shown |= {"left": self.pace.left, "speed": self.pace.speed * images}
        self.watcher.advance(place.seen, **shown)

    def flush(self) -> None:
        """Add up what the steps since the last time gave, in the order in which they gave it."""
        place = self.place
        loss, right, recent, count = (
            place.loss_sum, place.right_sum, place.recent_sum, place.recent,
        )  # fmt: skip
        for mean, correct, size in self.pending:
            loss += float(mean) * size
            right += int(correct)
            recent += float(mean) * size
            count += size
        self.pending.clear()
        sums = {"loss_sum": loss, "right_sum": right, "recent_sum": recent, "recent": count}
        self.place = place.model_copy(update=sums)

    def progress(self, number: int, seen: int) -> float:
        """Return the share of all images of all epochs that were shown."""
        return ((number - 1) * len(self.train) + seen) / (len(self.train) * self.recipe.epochs)

    def seconds(self) -> float:
        """Return the time spent training, before a resume included."""
        return self.place.seconds + time.perf_counter() - self.resumed_at

    def checkpoint_due(self) -> bool:
        """Tell whether the last checkpoint is as old as the recipe lets it be."""
        return time.perf_counter() - self.saved_at > self.recipe.checkpoint_every

    def save(self, began: float | None = None) -> None:
        """Write a checkpoint, unless the weights are no numbers."""
        self.flush()
        if not self.stepper.finite():
            raise _DivergedError("a weight became infinite or undefined")
        self.watcher.doing(f"the checkpoint of step {self.place.step}")
        now = time.perf_counter()
        times = {"seconds": self.seconds()}
        if began is not None:
            times["epoch_seconds"] = self.place.epoch_seconds + now - began
        if self.group.writes:
            self.checkpoints.save(self.stepper.tensors(), self.place.model_copy(update=times))
        self.saved_at = time.perf_counter()

    def restore(self, tensors: Tensors, place: TrainingState) -> None:
        """Go back to a checkpoint."""
        self.stepper.restore(tensors)
        self.pending.clear()
        self.place = place
        if self.group.writes:
            self.checkpoints.forget_after(place.step)
        self.watcher.rewind(place.told)
        self.resumed_at = self.saved_at = time.perf_counter()

    def step_back(self, trouble: str) -> bool:
        """Go on from the best epoch, or the start, with a lower rate; the second time, give up."""
        # Not from the newest checkpoint, which may be half way to the explosion.
        if self.place.rate_factor < 1:
            self.diverged = trouble
            self.watcher.note(f"{trouble} again: stopping; the best weights so far are kept")
            return False
        try:
            tensors, place = self.checkpoints.load(self.place.anchor)
        except RunError as error:
            self.diverged = trouble
            self.watcher.note(f"{trouble}, and {error.received}: stopping")
            return False
        self.watcher.note(
            f"{trouble}: going back to step {place.step:,}, to go on with a tenth of the rate "
            "(a smaller --learning-rate would have avoided this)"
        )
        spent = self.seconds()
        self.restore(tensors, place.model_copy(update={"rate_factor": _SLOWER, "seconds": spent}))
        return True

    def finish(self) -> Outcome:
        """Put the best weights into the network, and say how it went."""
        seconds, place = self.seconds(), self.place
        best = place.best
        self.group.wait()  # until the last checkpoint is written
        try:
            if best is None:
                raise RunError("an epoch that was validated", "there is none", "Train again.")
            self.stepper.restore(self.checkpoints.load(best.step)[0])
        except RunError as error:
            best = self.fall_back(error, best)
        self.stepper.deliver()
        return Outcome(
            best=best,
            last=place.last or best,
            stopped=self.stopped,
            diverged=self.diverged,
            stepped_back=place.rate_factor < 1,
            seconds=seconds,
        )

    def fall_back(self, error: RunError, best: Epoch | None) -> Epoch:
        """Take another whole checkpoint in place of the best, and validate it anew."""
        try:
            found = self.checkpoints.load(self.place.start) if best is None else None
        except RunError:
            found = None
        found = found or self.checkpoints.newest()
        if found is None:
            raise error
        tensors, place = found
        if best is not None:
            self.watcher.note(f"{error.received}: the weights of step {place.step:,} are used")
        self.stepper.restore(tensors)
        val_loss, val_accuracy = validate(self.stepper, self.val, shift=self.shift)
        epoch = Epoch(
            epoch=place.last.epoch if place.last else 0, epochs=self.recipe.epochs,
            step=place.step, train_loss=math.nan, train_accuracy=math.nan, val_loss=val_loss,
            val_accuracy=val_accuracy, learning_rate=0.0, seconds=0.0, images_per_second=0.0,
            best=True, complete=False,
        )  # fmt: skip
        if not place.told:
            self.watcher.epoch(epoch)
        return epoch


def validate(
    stepper: TrainStep,
    val: TrainingBatches,
    counts: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[float, float]:
    """Return mean cross entropy in nats and accuracy, without dropout or augmentation."""
    stepper.network.eval()
    loss, right = 0.0, 0
    size = validation_batch(*val.images.shape[1:3])
    with torch.inference_mode():
        for images, labels in val.batches(np.arange(len(val)), size):
            logits = stepper.logits(images)
            if shift is not None:
                logits = logits + shift.to(logits.device)
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            answers = logits.argmax(dim=1)
            right += int((answers == labels).sum())
            if counts is not None:
                cells = len(counts) * labels + answers
                found = torch.bincount(cells.cpu(), minlength=counts.numel())
                counts += found.view_as(counts)
    sums = torch.tensor([loss, right], dtype=torch.float64)
    val.group.add([sums] if counts is None else [sums, counts])
    loss, right = sums.tolist()
    return loss / len(val), right / len(val)
