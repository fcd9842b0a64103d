"""A model that scikit-learn fits, to pixels or to a pretrained network's features."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import ClassicalRecipe, FromBackbone, PixelModel
from opsin.commands.calibrate import Draft
from opsin.commands.choose_backbone import views_of
from opsin.commands.class_mix import assumed_mix
from opsin.commands.classical_job import ClassicalJob, resolve_fitting
from opsin.commands.conclude import conclude, metadata_of, write_request
from opsin.commands.fine_tune import Beginning, FineTuned, fine_tune, is_better
from opsin.commands.recorder import Recorder, recorded
from opsin.commands.runs import Run
from opsin.commands.training_summary import (
    tell_end,
    tell_fine_tuning,
    tell_images,
    tell_model,
    tell_place,
)
from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report, TrainingFacts
from opsin.core.errors import ModelFileError
from opsin.core.events import Watcher
from opsin.core.metadata import Layer, Metadata
from opsin.core.storage import write_json
from opsin.data.audit import audit
from opsin.data.cache import digest_rows
from opsin.data.dataset import Dataset

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.classical.backbone_features import BackboneFeatures
    from opsin.classical.backbone_head import ChosenHead, HeadChoice
    from opsin.classical.fit import Fitted
    from opsin.classical.interruptible import FitProgress
    from opsin.commands.training_job import Start
    from opsin.core.metadata import Calibration, ClassMix
    from opsin.evaluation.out_of_fold import OutOfFold
    from opsin.runtime.classifier import Answers

# Training images that figures are computed on, where a model has no steps of its own.
_SAMPLE: Final = 2_000
# Images of each strange kind: of 20 in all, the features take less than a second.
_STRANGE: Final = 5


def train_classical(
    directory_of: Callable[[], RunDirectory],
    dataset: Dataset,
    *,
    model: str,
    budget: str | float | None,
    options: Mapping[str, Any],
    watcher: Watcher,
    began: float,
    backbone: Backbone | None = None,
    reasons: Mapping[str, str] | None = None,
    launch: str | None = None,
) -> Run:
    """Fit a model without layers, or a head on a pretrained network, in a run directory.

    Args:
        directory_of: Makes the directory, once everything else is known to be usable.
        dataset: What it learns from.
        model: A name among `opsin.classical.classical_recipe.PIXEL_MODELS`.
        budget: Time that the whole run may take, where it is fine-tuned.
        options: The model's own, and ``seed``; for fine-tuning those of a training.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).
        backbone: The pretrained network that it is built on.
        reasons: What was decided before, and why.
        launch: As for `opsin.commands.recorder.recorded`.

    Raises:
        RecipeError: An option that the model does not have, or an impossible value.
        ParityError: The file answers otherwise than scikit-learn.
        KeyboardInterrupt: Ctrl-C, while it was fitted; the run's state is then ``stopped``.
    """
    recipe = resolve_fitting(dataset, model=model, budget=budget, options=options, reasons=reasons)
    return carry_out_fitting(
        directory_of,
        dataset,
        recipe,
        watcher=watcher,
        began=began,
        backbone=backbone,
        launch=launch,
    )


def carry_out_fitting(
    directory_of: Callable[[], RunDirectory],
    dataset: Dataset,
    recipe: ClassicalRecipe,
    *,
    watcher: Watcher,
    began: float,
    backbone: Backbone | None,
    start: Start | None = None,
    launch: str | None = None,
) -> Run:
    """Fit in a run directory, and fine-tune where the recipe says so.

    Args:
        directory_of: Finds or makes the directory, once everything else is known to be usable.
        dataset: What it learns from.
        recipe: How.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).
        backbone: The pretrained network that it is built on.
        start: The state that fine-tuning goes on from; ``None`` for the network as it came.
        launch: As for `opsin.commands.recorder.recorded`.
    """
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415  that module needs no PyTorch

    audited = audit(dataset, watcher=watcher)
    job = ClassicalJob.prepare(dataset, audited, recipe, backbone)
    directory = directory_of()
    with recorded(directory, watcher, launch) as recorder:
        write_request(directory, job)
        recorder.run_started(directory.path)
        tell_images(recorder, directory, job)
        tell_place(recorder, directory, job)
        seconds = {"load": time.perf_counter() - began}
        # Held to the end: once fitted, a Ctrl-C would only lose what is nearly done.
        with graceful_interrupt() as stop:
            report = _make(
                directory,
                job,
                recorder,
                seconds=seconds,
                stop=stop,
                beginning=Beginning(began, start),
            )
        tell_end(recorder, report)
        tell_fine_tuning(recorder, job)
    return Run(directory.path)


def _make(
    directory: RunDirectory,
    job: ClassicalJob,
    recorder: Recorder,
    *,
    seconds: dict[str, float],
    stop: threading.Event,
    beginning: Beginning,
) -> Report:
    """Fit, export, evaluate the file and write the report; note how long each took."""
    from opsin.classical.fitted_file import check_parity  # noqa: PLC0415

    at = time.perf_counter()
    fitting = _fit(job, recorder, stop)
    job = fitting.job
    if fitting.features is not None and beginning.start is None:  # what goes on is decided already
        write_json(directory.recipe, job.recipe.model_dump(mode="json"))
    seconds["train"] = time.perf_counter() - at
    at = time.perf_counter()
    recorder.doing("the export")
    draft, layers = _exported(directory, fitting, recorder)
    fitting = replace(fitting, job=replace(job, layers=layers))
    seconds["export"] = time.perf_counter() - at
    fine_tunes = job.recipe.fine_tunes and fitting.features is not None
    left = (job.recipe.budget or math.inf) - (time.perf_counter() - beginning.began)
    if fine_tunes and beginning.start is None and left <= 0:
        recorder.note("the budget is spent: the head on frozen features is delivered")
        fine_tunes = False
    if fine_tunes:
        at = time.perf_counter()
        fitting, draft = _fine_tuned(
            directory, fitting, draft, recorder, stop=stop, beginning=beginning
        )
        seconds["train"] += time.perf_counter() - at
    job, fitted = fitting.job, fitting.fitted
    tell_model(recorder, job)
    if not (fitting.steps or fitting.trained):
        recorder.epoch(_only_epoch(draft, job, seconds["train"]))
    return conclude(
        draft,
        job,
        recorder,
        difference=lambda file, images: check_parity(file, fitted, images),
        training=fitting.facts(interrupted=stop.is_set()),
        seconds=seconds,
    )


@dataclass(frozen=True)
class _Fitting:
    """What came of fitting.

    Args:
        job: With what was decided among its reasons.
        fitted: What is delivered.
        held_out: The same before it also learnt from the validation images, where it has.
        features: Of all images, ``float32[N, V, D]``, for a head on a pretrained network.
        steps: Trees or rounds; none for a model without such steps.
        unit: What the steps are.
        choice: The head that was chosen for a pretrained network.
        judged: Answers by heads that had not seen the images, and how sure the head may be.
        strange: Features of strange images, ``float32[S, V, D]``, where it is judged by these.
        trained: Whether epochs of fine-tuning were trained.
        tuned: How, where the network that was fine-tuned is delivered.
    """

    job: ClassicalJob
    fitted: Fitted
    held_out: Fitted | None = None
    features: NDArray[np.float32] | None = None
    steps: int = 0
    unit: str = "fits"
    choice: HeadChoice | None = None
    judged: tuple[OutOfFold, Calibration] | None = None
    strange: NDArray[np.float32] | None = None
    trained: bool = False
    tuned: FineTuned | None = None

    def facts(self, *, interrupted: bool) -> TrainingFacts:
        """Return what the report says of the training."""
        if self.tuned is not None:
            return self.tuned.facts(interrupted=interrupted)
        steps = self.steps or 1
        return TrainingFacts(
            best_epoch=steps,
            epochs=steps,
            asked=steps,
            stopped=False,
            interrupted=interrupted,
            diverged=None,
            stepped_back=False,
            balance="none",
            precision="float32",
            fitted_to=len(self.fitted.labels),
            unit=self.unit,
        )


def _fit(job: ClassicalJob, recorder: Recorder, stop: threading.Event) -> _Fitting:
    model = job.recipe.model
    if isinstance(model, FromBackbone):
        chosen, job, features, judged = _fit_head(job, recorder, stop)
        strange = None if judged is None else _features_of_strange(job, recorder, stop)
        return replace(_of_head(job, chosen, features), judged=judged, strange=strange)
    fitted, steps, unit = _fit_pixels(job, model, recorder, stop)
    return _Fitting(job, fitted, steps=steps, unit=unit)


def _of_head(job: ClassicalJob, chosen: ChosenHead, features: NDArray[np.float32]) -> _Fitting:
    return _Fitting(
        job,
        chosen.final,
        chosen.held_out,
        features,
        choice=chosen.choice,
    )


def _fine_tuned(
    directory: RunDirectory,
    fitting: _Fitting,
    frozen: Draft,
    recorder: Recorder,
    *,
    stop: threading.Event,
    beginning: Beginning,
) -> tuple[_Fitting, Draft]:
    """Fine-tune, fit the chosen head anew, and return it where validation says it is better."""
    features = cast("NDArray[np.float32]", fitting.features)
    choice = cast("HeadChoice", fitting.choice)
    found = fine_tune(
        directory, fitting.job, features, choice, recorder, stop=stop, beginning=beginning
    )
    kept, draft, job = fitting, frozen, replace(found.job, layers=fitting.job.layers)
    if found.backbone is not None:
        anew = _fit_anew(replace(fitting, job=found.job), found.backbone, recorder)
        tuned, layers = _exported(directory, anew, recorder)
        better, words = is_better(frozen, tuned)
        recorder.fact("Fine-tune", words)
        if better:
            own = [each.model_copy(update={"trainable": each.parameters}) for each in layers]
            kept, draft, job = replace(anew, tuned=found), tuned, replace(job, layers=own)
        recipe = job.recipe
        reasons = recipe.reasons | {"Fine-tune": words}
        job = replace(job, recipe=recipe.model_copy(update={"reasons": reasons}))
    write_json(directory.recipe, job.recipe.model_dump(mode="json"))
    return replace(kept, job=job, trained=found.outcome is not None), draft


def _fit_anew(fitting: _Fitting, backbone: Backbone, recorder: Recorder) -> _Fitting:
    """Fit the head that was chosen to what the network says once it is fine-tuned."""
    from opsin.backbones.features import compute  # noqa: PLC0415  loads onnx
    from opsin.classical.backbone_head import fit_as  # noqa: PLC0415  loads scikit-learn

    job, choice = fitting.job, cast("HeadChoice", fitting.choice)
    dataset = job.dataset
    height, width, channels = dataset.images.shape[1:]
    features = compute(
        backbone, dataset.images, dataset.digests, choice.views,
        watcher=recorder, kept=False, device=job.answers_on,
    )  # fmt: skip
    _check_finite(features, backbone)
    chosen = fit_as(
        choice,
        backbone,
        (height, width, channels),
        features,
        dataset.labels,
        train=job.rows,
        val=_also_learnt(job),
        classes=len(dataset.classes),
    )
    return _of_head(job, chosen, features)


def _check_finite(features: NDArray[np.float32], backbone: Backbone) -> None:
    """Refuse features that no head can learn from, perhaps of a network in half precision."""
    if not np.isfinite([features.min(), features.max()]).all():
        raise ModelFileError(
            "finite numbers from the network",
            f"{backbone.name} gives others for some images",
            "Check --prepare, or take an export of it in 32 bits.",
        )


def _also_learnt(job: ClassicalJob) -> NDArray[np.int64]:
    """Return the validation images that the delivered head learns from as well."""
    split = job.dataset.split
    return split.val if len(job.rows) == len(split.train) else split.val[:0]


def _exported(
    directory: RunDirectory, fitting: _Fitting, recorder: Recorder
) -> tuple[Draft, list[Layer]]:
    """Return the file that is not calibrated yet, and its layers."""
    from opsin.classical.fitted_file import Written  # noqa: PLC0415
    from opsin.classical.pixels import Pooling  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import FEATURES  # noqa: PLC0415  loads onnx

    fitted, held_out, features = fitting.fitted, fitting.held_out, fitting.features
    written = Written(fitted)
    job = replace(fitting.job, layers=written.layers)
    known = strange = None
    if features is not None and not isinstance(fitted.numbers, Pooling):
        known = (FEATURES, _seen(features, fitted.numbers))
        if fitting.strange is not None:
            strange = _seen(fitting.strange, fitted.numbers)

    def metadata_with(labels: NDArray[np.int64]) -> Metadata:
        metadata = metadata_of(job, labels, balanced=False)
        if isinstance(fitted.numbers, Pooling):
            return metadata
        mix, choice = cast("ClassMix", metadata.class_mix), cast("HeadChoice", fitting.choice)
        learnt = tuple(choice.learnt(np.array(mix.learnt)).tolist())
        return metadata.model_copy(update={
            "backbone": fitted.numbers.facts,
            "class_mix": mix.model_copy(update={"learnt": learnt}),
        })  # fmt: skip

    before = None
    if held_out is not None:
        before = Written(held_out).content(metadata_with(held_out.labels))
    content = written.content(metadata_with(fitted.labels))
    draft = Draft(
        directory, job.dataset, content, recorder, known, before,
        judged=fitting.judged, strange=strange, device=job.answers_on,
    )  # fmt: skip
    return draft, written.layers


def _seen(features: NDArray[np.float32], numbers: BackboneFeatures) -> NDArray[np.float32]:
    """Return those features that were chosen, the mean over the views that were."""
    chosen = features[:, : len(numbers.views), : numbers.features]
    mean: NDArray[np.float32] = chosen.mean(axis=1, dtype=np.float32)
    return mean


def _features_of(
    job: ClassicalJob, recorder: Recorder, stop: threading.Event
) -> NDArray[np.float32]:
    """Compute the features of all images in each view, ``float32[N, V, D]``."""
    from opsin.backbones.feature_cache import source_keys  # noqa: PLC0415
    from opsin.backbones.features import compute  # noqa: PLC0415  loads onnx

    dataset, backbone = job.dataset, cast("Backbone", job.backbone)
    features = compute(
        backbone,
        dataset.images,
        dataset.digests,
        views_of(dataset, len(job.rows)),
        watcher=recorder,
        stop=stop,
        sources=source_keys(dataset.source_digests, dataset.preparation),
        device=job.answers_on,
    )
    _check_finite(features, backbone)
    return features


def _features_of_strange(
    job: ClassicalJob, recorder: Recorder, stop: threading.Event
) -> NDArray[np.float32]:
    """Compute the features of images of nothing in particular, ``float32[S, V, D]``."""
    from opsin.backbones.features import compute  # noqa: PLC0415  loads onnx
    from opsin.evaluation.out_of_distribution import strange_images  # noqa: PLC0415  scikit-learn

    kinds = strange_images(*job.dataset.images.shape[1:], count=_STRANGE)
    del kinds["digits"]  # these may be what is known
    images = np.concatenate(list(kinds.values()))
    backbone = cast("Backbone", job.backbone)
    return compute(
        backbone,
        images,
        digest_rows(images),
        views_of(job.dataset, len(job.rows)),
        device=job.answers_on,
        watcher=recorder,
        stop=stop,
    )


def _fit_head(
    job: ClassicalJob, recorder: Recorder, stop: threading.Event
) -> tuple[ChosenHead, ClassicalJob, NDArray[np.float32], tuple[OutOfFold, Calibration] | None]:
    """Choose a head for the features, and say what was chosen among the reasons.

    Returns:
        The head, the job with the reasons, the features of all images, ``float32[N, V, D]``, and
        where there is no validation part, the answers of heads that had not seen the images.
    """
    from opsin.classical.backbone_head import HeadSearch  # noqa: PLC0415
    from opsin.classical.interruptible import run_interruptible  # noqa: PLC0415
    from opsin.evaluation.out_of_fold import folds_of, most_folds, out_of_fold  # noqa: PLC0415

    dataset, backbone, recipe = job.dataset, cast("Backbone", job.backbone), job.recipe
    height, width, channels = dataset.images.shape[1:]
    features = _features_of(job, recorder, stop)
    recorder.doing("the choice of a head")
    model = cast("FromBackbone", recipe.model)
    seed, units, most = recipe.training.seed, dataset.units, most_folds(len(dataset))
    folds = [] if len(dataset.split.val) else folds_of(dataset.labels, units, seed, most)
    search = HeadSearch(
        backbone,
        (height, width, channels),
        backbone.at,
        features,
        labels=dataset.labels,
        units=units,
        views=views_of(dataset, len(job.rows)),
        assumed=assumed_mix(recipe.training.class_mix, dataset),
        wanted=None if model.head == "auto" else model.head,
        seed=seed,
        threads=job.threads,
    )

    def chosen_and_judged(progress: FitProgress) -> tuple[ChosenHead, OutOfFold | None]:
        def answer(train: NDArray[np.int64], test: NDArray[np.int64]) -> Answers:
            return search.answer(search.choose(train, test[:0], progress), train, test)

        judged = out_of_fold(folds, answer) if folds else None
        return search.choose(job.rows, _also_learnt(job), progress), judged

    chosen, judged = run_interruptible(
        chosen_and_judged,
        what="Heads",
        total=len(search.candidates(dataset.labels[job.rows])) * (len(folds) + 1),
        unit="heads",
        watcher=recorder,
        stop=stop,
    )
    choice = chosen.choice
    facts = {
        "Features": f"{', '.join(choice.at)} · image seen {' and '.join(choice.views)}",
        "Head": choice.words,
    }
    for heading, words in facts.items():
        recorder.fact(heading, words)
    job = replace(job, recipe=recipe.model_copy(update={"reasons": recipe.reasons | facts}))
    known = None if judged is None or chosen.calibration is None else (judged, chosen.calibration)
    return chosen, job, features, known


def _fit_pixels(
    job: ClassicalJob,
    model: PixelModel,
    recorder: Recorder,
    stop: threading.Event,
) -> tuple[Fitted, int, str]:
    """Fit, and return how many trees or rounds there were; none for a model without such steps."""
    from opsin.classical.fit import TrainingRows, fit, work_of  # noqa: PLC0415  loads scikit-learn
    from opsin.classical.interruptible import run_interruptible  # noqa: PLC0415
    from opsin.classical.pixels import Pooling  # noqa: PLC0415

    dataset = job.dataset
    height, width, channels = dataset.images.shape[1:]
    pooling = Pooling.to_fit((height, width, channels), model.side)
    val = dataset.split.val
    recorder.begin("Pixels", len(job.rows) + len(val), "images")

    def read(done: int) -> None:
        recorder.advance(done)
        if stop.is_set():
            raise KeyboardInterrupt("Ctrl-C while the images were read")

    train = TrainingRows(pooling.read(dataset.images, job.rows, read), dataset.labels[job.rows])
    checked = TrainingRows(pooling.read(dataset.images, val), dataset.labels[val])
    recorder.end()
    recorder.doing("the fitting")
    total, unit = work_of(model)
    fitted = run_interruptible(
        lambda progress: fit(
            model,
            pooling,
            train,
            checked,
            classes=len(dataset.classes),
            seed=job.recipe.training.seed,
            threads=job.threads,
            progress=progress,
        ),
        what="Fit",
        total=total,
        unit=unit,
        watcher=recorder,
        stop=stop,
    )
    return (fitted, total, unit) if unit in ("trees", "rounds") else (fitted, 0, "fits")


def _only_epoch(draft: Draft, job: ClassicalJob, seconds: float) -> Epoch:
    """Return the one event of a model that is fitted in one go, by the answers of its file."""
    from opsin.classical.fit import figures_of  # noqa: PLC0415

    labels = job.dataset.labels
    places = np.linspace(0, len(job.rows) - 1, min(_SAMPLE, len(job.rows))).astype(np.int64)
    shown, val = job.rows[places], job.dataset.split.val
    known = draft.outputs(shown, ["probabilities"])["probabilities"]
    train_loss, train_accuracy = figures_of(known, labels[shown])
    if draft.judged is None:
        answers = draft.validation["probabilities"]
    else:
        val, answers = draft.judged[0].rows, draft.judged[0].answers.probabilities
    val_loss, val_accuracy = figures_of(answers, labels[val])
    return Epoch(
        epoch=1,
        epochs=1,
        step=1,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        rate=0.0,
        seconds=seconds,
        images_per_second=len(job.rows) / max(seconds, 1e-9),
        best=True,
    )
