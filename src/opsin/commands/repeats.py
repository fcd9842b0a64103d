"""One training several times: over seeds, or over the folds of a cross-validation."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from opsin.commands.runs import Run
from opsin.commands.train.load import load_for
from opsin.commands.train.train import train
from opsin.core.arguments import checked
from opsin.core.arrays import Floats, Ints
from opsin.core.artifacts.records import Stored
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import Accuracy, LabelEvidence, PartFigures
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import plus_minus
from opsin.core.storage import write_json
from opsin.data.corrections import Correction, read_corrections, with_earlier, write_corrections
from opsin.data.dataset import Dataset, cut_into_folds
from opsin.data.run_images import read_images
from opsin.models.resolve import resolve
from opsin.report.terminal import for_people
from opsin.trackers import chosen_trackers
from opsin.training.process_group import refuse_several

Kind = Literal["repeats", "folds"]

_LEAST: Final[dict[Kind, int]] = {"repeats": 1, "folds": 2}
_MOST: Final = 100
# Letters of a run's name that leave room for its seed or fold in the directory's name.
_LONGEST: Final = 60
# Options of `opsin.train` that are no fields of the recipe.
_OF_RUNS: Final = ("runs", "name", "watcher", "observers", "track", "quiet", "offline")


class RepeatedRun(Accuracy):
    """A run of the series; its figures are of the part that it was judged by."""

    run: str
    seed: int
    fold: str | None
    stopped: bool
    diverged: str | None
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
    """The figures of several runs of one recipe."""

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
    """Several runs of one recipe and their figures together."""

    runs: tuple[Run, ...]  #: The runs, in order; Ctrl-C may have ended the last one early
    summary: RepeatsSummary  #: Their figures
    file: Path  #: The file of the summary, beside the runs
    #: The suspected label errors of all folds: a table to be corrected by hand, and given to a
    #: later training as ``labels``. ``None`` where there are none, or the classifiers are too weak
    #: to tell (``summary.doubts`` says why)
    labels: Path | None = None

    @property
    def accuracy(self) -> float | None:
        """Mean of the whole runs' accuracies; ``None`` without a whole run."""
        return None if self.summary.mean is None else self.summary.mean.accuracy

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1) of the whole runs' accuracies, of two or more."""
        return None if self.summary.deviation is None else self.summary.deviation.accuracy

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C ended the series before its end."""
        cut_short = any(row.stopped for row in self.summary.runs)
        return cut_short or len(self.runs) < self.summary.asked

    @property
    def diverged(self) -> bool:
        """Whether the loss of any run diverged; its figures are those of its best epoch before."""
        return any(row.diverged for row in self.summary.runs)

    def __repr__(self) -> str:
        mean = "no mean" if self.accuracy is None else f"mean accuracy {self.accuracy:.4f}"
        return f"<Repeats {self.file}: {len(self.runs)} {self.summary.kind}, {mean}>"


@checked
def train_repeats(data: object, *, repeats: int = 5, **options: Any) -> Repeats:
    """Train with several seeds, to see how much chance there is in it.

    Each repeat is a run with one of the seeds ``seed``, ``seed + 1`` …; data and split are the
    same. The first Ctrl-C ends the series with the run in hand.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        repeats: How many runs, 1 to 100.
        **options: As for `opsin.train`; ``seed`` is that of the first run, and ``name`` is followed
            by ``-seed0``, ``-seed1`` … in the names of the run directories.

    Returns:
        The runs, with mean and standard deviation of their figures.

    Raises:
        RecipeError: ``repeats`` or another option has an impossible value.
        OpsinError: As from `opsin.train`; the figures of the runs before are shown and kept.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> series = train_repeats("digits", repeats=2, model="mlp", epochs=1, runs=folder,
        ...                        quiet=True)
        >>> [run.recipe.training.seed for run in series.runs], series.deviation < series.accuracy
        ([0, 1], True)
    """
    return _train_series("repeats", repeats, data, options)


@checked
def train_folds(data: object, *, folds: int = 5, **options: Any) -> Repeats:
    """Cross-validate: each image is tested once, by a network that was not trained on it.

    The images are cut into folds, groups and near duplicates on one side; run ``i`` has fold ``i``
    as its test part, and is trained on the others, a share of which is its validation part.

    M. Stone, "Cross-validatory choice and assessment of statistical predictions", JRSS B 1974.

    Args:
        data: A dataset, or what `opsin.load` takes, in a list if several; none may name
            its own test or training part.
        folds: How many folds, 2 to 100.
        **options: As for `opsin.train`, but for ``fold``; ``name`` is followed by ``-fold1of5``,
            ``-fold2of5`` … in the names of the run directories.

    Returns:
        The runs, with ``summary.pooled``: the figures of all answers together.

    Raises:
        RecipeError: ``folds`` or another option has an impossible value; the source names its
            parts; there are too few images for this many folds.
        OpsinError: As from `opsin.train`; the figures of the runs before are shown and kept.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> series = train_folds("digits", folds=2, model="mlp", epochs=1, runs=folder, quiet=True)
        >>> series.summary.pooled.images
        1797
    """
    return _train_series("folds", folds, data, options)


def _train_series(kind: Kind, count: int, data: object, options: dict[str, Any]) -> Repeats:
    refuse_several(kind)
    if not _LEAST[kind] <= count <= _MOST:
        raise RecipeError(f"{kind} must be from {_LEAST[kind]} to {_MOST}, not {count}")
    of_runs = {name: options.pop(name) for name in _OF_RUNS if name in options}
    name = of_runs.pop("name", None)
    if not isinstance(name, str | None):
        raise RecipeError(f"name must be text, not {name!r}")
    chosen_trackers(of_runs.get("track"))
    watcher = of_runs.get("watcher") or for_people(quiet=of_runs.get("quiet", False))
    loaded = load_for(
        data,
        options.pop("model", None),
        options,
        offline=of_runs.get("offline", False),
        watcher=watcher,
        by_all=kind == "repeats",
    )
    seed = resolve(loaded.dataset.recipe, seed=options.pop("seed", None)).training.seed
    series = _series(kind, count, loaded.dataset, seed, watcher)
    recipe = series[0][2].recipe
    title = (name or f"{recipe.title}-{loaded.model or resolve(recipe).model.name}")[:_LONGEST]
    options["model"] = loaded.model
    made: list[Run] = []
    try:
        for number, (ending, run_seed, part) in enumerate(series, start=1):
            heading = "Repeat" if kind == "repeats" else "Fold"
            watcher.fact(heading, f"{number} of {count} · seed {run_seed}")
            made.append(train(part, name=f"{title}-{ending}", seed=run_seed, **of_runs, **options))
            kept = _keep(kind, made, count, series[0][0])
            if made[-1].report.training.interrupted:  # the run itself may have been whole
                break
            # The first may have measured: one recipe for all.
            measured = made[0].recipe
            options = {
                "model": measured.model.name,
                **measured.model.model_dump(exclude={"name"}),
                **measured.training.model_dump(exclude={"seed"}),
            }
    except KeyboardInterrupt:
        if not made:
            raise
    except Exception:
        for run in made:
            watcher.fact("Done", f"{run.path} · accuracy {plus_minus(run.figures)}")
        raise
    return kept


def _series(
    kind: Kind, count: int, dataset: Dataset, seed: int, watcher: Watcher
) -> list[tuple[str, int, Dataset]]:
    if kind == "repeats":
        resolve(dataset.recipe, seed=seed + count - 1)  # refused now, not after some runs
        return [(f"seed{number}", number, dataset) for number in range(seed, seed + count)]
    folds = cut_into_folds(dataset, count)
    if untested := len(dataset) - sum(len(fold.split.test) for fold in folds):
        watcher.note(
            f"{untested:,} of {len(dataset):,} images are tested in no fold: their classes "
            "have too few others to learn from (add images of these classes)"
        )
    return [(f"fold{n}of{count}", seed, fold) for n, fold in enumerate(folds, start=1)]


def _keep(kind: Kind, made: Sequence[Run], count: int, ending: str) -> Repeats:
    """Write the summary beside the runs, under the first one's name, which is unique."""
    first = made[0].path
    name = re.sub(rf"-{ending}(-\d+)?$", rf"-{kind}\1", first.name)
    file, labels = first.with_name(f"{name}.json"), None
    summary = summarise(made, kind=kind, asked=count)
    if kind == "folds" and len(made) == count and not any(row.stopped for row in summary.runs):
        doubts, doubted = _doubted_labels(made)  # every image was tested
        summary = summary.model_copy(update={"doubts": doubts})
        if doubted:
            labels = write_corrections(file.with_suffix(".labels.csv"), doubted)
    write_json(file, summary.model_dump(mode="json", exclude_unset=True))
    return Repeats(tuple(made), summary, file, labels)


def summarise(runs: Sequence[Run], *, kind: Kind, asked: int) -> RepeatsSummary:
    """The figures of several finished runs of one recipe, of ``asked``."""
    report = runs[0].report
    rows = [_row(run) for run in runs]
    # A mean without those that diverged would be too good; those that Ctrl-C ended early would
    # make it worse.
    whole = [row for row in rows if not row.stopped]

    def averages(of: Callable[[list[float]], float]) -> Averages:
        fields = Averages.model_fields
        return Averages(**{name: of([getattr(row, name) for row in whole]) for name in fields})

    pooled = None
    if kind == "folds" and whole:
        from opsin.evaluation.metrics import measure  # noqa: PLC0415  scipy takes a second to load

        pooled = measure(*_out_of_fold([run for run in runs if not run.report.training.stopped]))
    return RepeatsSummary(
        kind=kind,
        asked=asked,
        source=report.source,
        model=report.model,
        split=report.split,
        runs=rows,
        mean=averages(statistics.fmean) if whole else None,
        deviation=averages(statistics.stdev) if len(whole) > 1 else None,
        pooled=pooled,
    )


def _row(run: Run) -> RepeatedRun:
    recipe, training, figures = run.recipe, run.report.training, run.report.judged
    return RepeatedRun(
        run=str(run.path),
        seed=recipe.training.seed,
        fold=recipe.data.fold,
        stopped=training.stopped,
        diverged=training.diverged,
        **figures.plain,
        log_loss=figures.log_loss,
        epochs=training.epochs,
        seconds=run.report.seconds["train"],
    )


def _out_of_fold(runs: Sequence[Run]) -> tuple[Floats, Ints, list[str], Ints | None]:
    """Probabilities, labels, classes and groups; numbers of groups are the same in all folds."""
    answers = [RunPredictions.read(run.directory).of("test") for run in runs]
    groups = [part.groups for part in answers if part.groups is not None]
    return (
        np.concatenate([part.probabilities for part in answers]),
        np.concatenate([part.labels for part in answers]),
        [entry.name for entry in runs[0].figures.classes],
        np.concatenate(groups) if len(groups) == len(answers) else None,
    )


def _doubted_labels(runs: Sequence[Run]) -> tuple[FoldDoubts, list[Correction]]:
    """The labels that the answers of the folds contradict, the most doubtful first."""
    from opsin.evaluation.mistakes import doubt_labels  # noqa: PLC0415  as above

    images = []
    for run in runs:
        of_run = read_images(run.directory)
        images += [of_run[row] for row in RunPredictions.read(run.directory).of("test").rows]
    answers = _out_of_fold(runs)
    suspects, evidence = doubt_labels(*answers)
    doubted = [
        Correction(image.digest, image.name, image.label, answers[2][suggested], float(score))
        for image, suggested, score in zip(
            (images[row] for row in suspects.rows), suspects.suggested, suspects.scores, strict=True
        )
    ]
    before = runs[0].directory.corrections
    earlier = read_corrections(before) if doubted and before.is_file() else ()
    return FoldDoubts(suspected=len(suspects), labels=evidence), with_earlier(doubted, earlier)
