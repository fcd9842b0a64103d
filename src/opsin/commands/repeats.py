"""One training several times: over seeds, or over the folds of a cross-validation."""

from __future__ import annotations

import html
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.commands.load_dataset import load_for
from opsin.commands.runs import Run
from opsin.commands.train import train
from opsin.core.arguments import checked
from opsin.core.artifacts.artifact import Stored
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import LabelEvidence, PartFigures, Report
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import plus_minus
from opsin.core.storage import write_json
from opsin.data.applied_corrections import Correction
from opsin.data.corrections import read_corrections, with_earlier, write_corrections
from opsin.data.dataset import Dataset
from opsin.data.folds import cut_into_folds
from opsin.data.run_images import read_images
from opsin.models.resolve import resolve
from opsin.report.terminal import for_people
from opsin.trackers import chosen_trackers
from opsin.training.process_group import refuse_several

if TYPE_CHECKING:
    from opsin.evaluation.evidence import Doubts

Kind = Literal["repeats", "folds"]

#: More runs than this tell nothing that these do not.
_MOST: Final = 100
#: Letters of a run's name that leave room for its seed or fold in the directory's name.
_LONGEST: Final = 60


class RepeatedRun(Stored):
    """A run of the series; its figures are of the part that it was judged by."""

    run: str
    seed: int
    fold: str | None
    stopped: bool
    diverged: str | None
    images: int
    accuracy: float
    low: float
    high: float
    log_loss: float | None
    epochs: int
    seconds: float


class Averages(Stored):
    """Means or standard deviations (n - 1) over the runs that Ctrl-C did not end early."""

    accuracy: float
    log_loss: float
    seconds: float


class FoldDoubts(Stored):
    """The labels of all images that the answers of the folds contradict."""

    suspected: int
    labels: LabelEvidence


class RepeatsSummary(Stored):
    """What several runs of one recipe say together.

    ``split`` names the part that the figures are of. ``mean`` is ``None`` without a whole run,
    ``deviation`` without two. ``pooled``: of folds, the figures of all answers together.
    """

    kind: Kind
    asked: int
    source: str
    model: str
    split: str
    runs: list[RepeatedRun]
    mean: Averages | None
    deviation: Averages | None
    pooled: PartFigures | None
    doubts: FoldDoubts | None = None


@dataclass(frozen=True, repr=False)
class Repeats:
    """Several runs of one recipe, and what they say together.

    Args:
        runs: The runs, in order; Ctrl-C may have ended the last one early.
        summary: What `summarise` says of them.
        file: Where the summary is kept, beside the runs.
        labels: Of folds, the suspected label errors of all images, a file to be corrected by
            hand and given to a later training as ``labels``; ``None`` where there are none, or the
            classifiers are too weak to tell (``doubts`` of the summary says why).
    """

    runs: tuple[Run, ...]
    summary: RepeatsSummary
    file: Path
    labels: Path | None = None

    @property
    def accuracy(self) -> float | None:
        """Mean of the whole runs' accuracies; ``None`` where Ctrl-C left no whole one."""
        return None if self.summary.mean is None else self.summary.mean.accuracy

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1) of the whole runs' accuracies, of two or more."""
        deviation = self.summary.deviation
        return None if deviation is None else deviation.accuracy

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C ended the series before its end."""
        cut_short = any(row.stopped for row in self.summary.runs)
        return cut_short or len(self.runs) < self.summary.asked

    @property
    def diverged(self) -> bool:
        """Whether the loss of any run ran away; its figures are those of its best epoch before."""
        return any(row.diverged for row in self.summary.runs)

    def __repr__(self) -> str:
        mean = "no mean" if self.accuracy is None else f"mean accuracy {self.accuracy:.4f}"
        return f"<Repeats {self.file}: {len(self.runs)} {self.summary.kind}, {mean}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(Path(row.run).name)}</td><td>{plus_minus(row)}</td></tr>"
            for row in self.summary.runs
        )
        mean = "" if self.accuracy is None else f"mean {self.accuracy:.4f}"
        spread = "" if self.deviation is None else f", standard deviation {self.deviation:.4f}"
        head = f"<tr><th>run</th><th>{self.summary.split} accuracy</th></tr>"
        return f"<table>{head}{rows}</table><p>{mean}{spread}</p>"


@checked
def train_repeats(
    data: object,
    *,
    repeats: int = 5,
    model: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Any,
) -> Repeats:
    """Train the same several times with different seeds, to see how much chance there is in it.

    Each repeat is a run of its own, with the seeds ``seed``, ``seed + 1`` …; data and split are
    the same in all. The first Ctrl-C ends the run in hand as `opsin.train` does, and starts no
    further one.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        repeats: How many runs, 1 to 100.
        model: As for `opsin.train`.
        runs: Folder for run directories and for the summary.
        name: What the run directories are called, before ``-seed0``, ``-seed1`` ….
        watcher: Receives the progress of the work.
        observers: As for `opsin.train`.
        track: As for `opsin.train`; each run is one there.
        quiet: Show nothing.
        offline: As for `opsin.train`.
        **options: As for `opsin.train`; ``seed`` is that of the first run.

    Returns:
        The runs, with mean and standard deviation of their figures.

    Raises:
        RecipeError: ``repeats`` or another option has an impossible value.
        OpsinError: As from `opsin.train`; the figures of the runs before are shown and kept.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> found = train_repeats("digits", repeats=2, model="mlp", epochs=1, runs=folder,
        ...                       quiet=True)
        >>> [run.recipe.training.seed for run in found.runs], found.deviation < found.accuracy
        ([0, 1], True)
    """
    refuse_several("repeats")
    _check_count("repeats", repeats, least=1)
    chosen_trackers(track)  # refused now, not when the images are read
    tell = watcher or for_people(quiet=quiet)
    loaded = load_for(data, model, options, offline=offline, watcher=tell)
    model, dataset = loaded.model, loaded.dataset
    first = _seed(dataset, options)
    # Refused now, not after the runs before it.
    resolve(dataset.recipe, seed=first + repeats - 1)
    planned = [
        PlannedRun(dataset, seed, f"seed{seed}", f"{number} of {repeats} · seed {seed}")
        for number, seed in enumerate(range(first, first + repeats), 1)
    ]
    series = _Series("repeats", model, Path(runs), name, watcher, observers, track, quiet, offline)
    return series.train(planned, **options)


@checked
def train_folds(
    data: object,
    *,
    folds: int = 5,
    model: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Any,
) -> Repeats:
    """Cross-validate: each image is tested once, by a network that was not trained on it.

    For small collections, whose test part alone would be too small to judge by. The images are
    cut into folds, groups and near duplicates on one side; run ``i`` has fold ``i`` as its test
    part, and is trained on the others, a share of which is its validation part as ever.

    M. Stone, "Cross-validatory choice and assessment of statistical predictions", JRSS B 1974.

    Args:
        data: A dataset, or what `opsin.load` takes, in a list if several; none may name
            its own test or training part.
        folds: How many folds, 2 to 100.
        model: As for `opsin.train`.
        runs: Folder for run directories and for the summary.
        name: What the run directories are called, before ``-fold1of5``, ``-fold2of5`` ….
        watcher: Receives the progress of the work.
        observers: As for `opsin.train`.
        track: As for `opsin.train`; each run is one there.
        quiet: Show nothing.
        offline: As for `opsin.train`.
        **options: As for `opsin.train`, but for ``fold``.

    Returns:
        The runs, with ``summary.pooled``: the figures of all answers together.

    Raises:
        RecipeError: ``folds`` or another option has an impossible value; the source names its
            parts; there are too few images for this many folds.
        OpsinError: As from `opsin.train`; the figures of the runs before are shown and kept.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> found = train_folds("digits", folds=2, model="mlp", epochs=1, runs=folder, quiet=True)
        >>> found.summary.pooled.images
        1797
    """
    refuse_several("folds")
    _check_count("folds", folds, least=2)
    chosen_trackers(track)  # refused now, not when the images are read
    tell = watcher or for_people(quiet=quiet)
    loaded = load_for(data, model, options, offline=offline, watcher=tell, by_all=False)
    model, dataset = loaded.model, loaded.dataset
    parts = cut_into_folds(dataset, folds)
    _tell_untested(dataset, parts, tell)
    seed = _seed(dataset, options)
    planned = [
        PlannedRun(part, seed, f"fold{number}of{folds}", f"{number} of {folds} · seed {seed}")
        for number, part in enumerate(parts, 1)
    ]
    series = _Series("folds", model, Path(runs), name, watcher, observers, track, quiet, offline)
    return series.train(planned, **options)


def _tell_untested(dataset: Dataset, parts: Sequence[Dataset], tell: Watcher) -> None:
    """Say how many images are in no fold's test part, if there are any."""
    untested = len(dataset) - sum(len(part.split.test) for part in parts)
    if untested:
        tell.note(
            f"{untested:,} of {len(dataset):,} images are tested in no fold: their classes have "
            "too few others to learn from (add images of these classes)"
        )


def summarise(runs: Sequence[Run], *, kind: Kind, asked: int) -> RepeatsSummary:
    """Say what several finished runs of one recipe say together.

    Args:
        runs: The runs, at least one.
        kind: Whether they differ in their seeds or in their folds.
        asked: How many there were to be.
    """
    report = runs[0].directory.read(Report)
    rows = [_row(run) for run in runs]
    # A mean without those whose loss ran away would be too good; those that Ctrl-C ended early
    # would make it worse.
    whole = [row for row in rows if not row.stopped]
    columns = {name: [getattr(row, name) for row in whole] for name in Averages.model_fields}
    pooled = [run for run, row in zip(runs, rows, strict=True) if not row.stopped]
    return RepeatsSummary(
        kind=kind,
        asked=asked,
        source=report.source,
        model=report.model,
        split=report.split,
        runs=rows,
        mean=Averages(**{name: statistics.fmean(of) for name, of in columns.items()})
        if whole
        else None,
        deviation=Averages(**{name: statistics.stdev(of) for name, of in columns.items()})
        if len(whole) > 1
        else None,
        pooled=_pooled(pooled) if kind == "folds" and whole else None,
    )


def _row(run: Run) -> RepeatedRun:
    recipe, report = run.recipe, run.directory.read(Report)
    figures = report.judged
    return RepeatedRun(
        run=str(run.path),
        seed=recipe.training.seed,
        fold=recipe.data.fold,
        stopped=report.training.stopped,
        diverged=report.training.diverged,
        images=figures.images,
        accuracy=figures.accuracy,
        low=figures.low,
        high=figures.high,
        log_loss=figures.log_loss,
        epochs=report.training.epochs,
        seconds=report.seconds["train"],
    )


def _pooled(runs: Sequence[Run]) -> PartFigures:
    """Measure the answers of several runs to their own test parts as if they were one's."""
    from opsin.evaluation.metrics import measure  # noqa: PLC0415  scipy takes a second to load

    probabilities, labels, groups = _out_of_fold(runs)
    return measure(probabilities, labels, _classes(runs), groups)


def _classes(runs: Sequence[Run]) -> list[str]:
    return [entry.name for entry in runs[0].directory.read(Report).judged.classes]


def _out_of_fold(
    runs: Sequence[Run],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64] | None]:
    """Return probabilities, labels and groups; numbers of groups are the same in all folds."""
    answers = [RunPredictions.read(run.directory).of("test") for run in runs]
    groups = [kept.groups for kept in answers if kept.groups is not None]
    return (
        np.concatenate([kept.probabilities for kept in answers]),
        np.concatenate([kept.labels for kept in answers]),
        np.concatenate(groups) if len(groups) == len(answers) else None,
    )


def _doubted(runs: Sequence[Run]) -> tuple[Doubts, list[Correction]]:
    """Return the labels that the answers of the folds contradict, the most doubtful first."""
    from opsin.evaluation.evidence import doubt_labels  # noqa: PLC0415

    images = []
    for run in runs:
        own = read_images(run.directory)
        images += [own[row] for row in RunPredictions.read(run.directory).of("test").rows]
    classes = _classes(runs)
    probabilities, labels, groups = _out_of_fold(runs)
    doubts = doubt_labels(probabilities, labels, classes, groups)
    found = doubts.suspects
    doubted = (images[row] for row in found.rows)
    said = [
        Correction(each.digest, each.name, each.label, classes[suggested], float(score),
                   present=each.label)
        for each, suggested, score in zip(doubted, found.suggested, found.scores, strict=True)
    ]  # fmt: skip
    before = runs[0].directory.corrections
    earlier = read_corrections(before) if said and before.is_file() else ()
    return doubts, with_earlier(said, earlier)


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a series: its images, its seed, and how it is called in file names and words."""

    data: Dataset
    seed: int
    suffix: str
    words: str


@dataclass(frozen=True)
class _Series:
    """What all runs of a series share; the arguments of `train_repeats`."""

    kind: Kind
    model: str | None
    runs: Path
    name: str | None
    watcher: Watcher | None
    observers: Sequence[Watcher]
    track: str | Sequence[str] | None
    quiet: bool
    offline: bool

    def train(self, planned: Sequence[PlannedRun], **options: Any) -> Repeats:
        """Train one after the other, and keep the summary of those there are after each."""
        # Each run makes a display of its own where none is given, with its own table of epochs.
        tell = self.watcher or for_people(quiet=self.quiet)
        given: Mapping[str, Any] = {"model": self.model, **options}
        made: list[Run] = []
        try:
            for plan in planned:
                tell.fact("Repeat" if self.kind == "repeats" else "Fold", plan.words)
                run = train(
                    plan.data,
                    runs=self.runs,
                    name=f"{self._title(plan.data)}-{plan.suffix}",
                    watcher=self.watcher,
                    observers=self.observers,
                    track=self.track,
                    quiet=self.quiet,
                    offline=self.offline,
                    **{**given, "seed": plan.seed},
                )
                made.append(run)
                self._keep(made, planned)
                # The run itself may have been whole.
                if run.directory.read(Report).training.interrupted:
                    break
                given = _taken_over(made[0])
        except KeyboardInterrupt:
            if not made:
                raise
        except Exception:
            for run in made:
                tell.fact(
                    "Done", f"{run.path} · accuracy {plus_minus(run.directory.read(Report).judged)}"
                )
            raise
        return self._keep(made, planned)

    def _title(self, data: Dataset) -> str:
        model = self.model or resolve(data.recipe).model.name
        return (self.name or f"{data.recipe.title}-{model}")[:_LONGEST]

    def _keep(self, made: Sequence[Run], planned: Sequence[PlannedRun]) -> Repeats:
        """Write the summary beside the runs, under the first one's name, which is unique."""
        file = self._file(made[0], planned)
        summary = summarise(made, kind=self.kind, asked=len(planned))
        labels = None
        whole = len(made) == summary.asked and not any(row.stopped for row in summary.runs)
        if self.kind == "folds" and whole:  # every image was tested
            doubts, doubted = _doubted(made)
            found = FoldDoubts(suspected=len(doubts.suspects), labels=doubts.evidence)
            summary = summary.model_copy(update={"doubts": found})
            if doubted:
                labels = write_corrections(file.with_suffix(".labels.csv"), doubted)
        write_json(file, summary.to_json())
        return Repeats(tuple(made), summary, file, labels)

    def _file(self, first: Run, planned: Sequence[PlannedRun]) -> Path:
        """Return where the summary is kept; on a cluster, any run may be the first one done."""
        suffixes = "|".join(plan.suffix for plan in planned)
        name = re.sub(rf"-(?:{suffixes})(-\d+)?$", rf"-{self.kind}\1", first.path.name)
        return first.path.with_name(f"{name}.json")


def _taken_over(first: Run) -> Mapping[str, Any]:
    """Return what the other runs take over from the first, which measured: one recipe for all."""
    recipe = first.recipe
    return {
        "model": recipe.model.name,
        **recipe.model.model_dump(exclude={"name"}),
        **recipe.training.model_dump(exclude={"seed"}),
    }


def _seed(dataset: Dataset, options: Mapping[str, object]) -> int:
    return resolve(dataset.recipe, seed=options.get("seed")).training.seed


def _check_count(what: Kind, count: int, *, least: int) -> None:
    if not least <= count <= _MOST:
        raise RecipeError(
            f"{least} to {_MOST} {what}", f"got {count}", f"Give another number of {what}."
        )
