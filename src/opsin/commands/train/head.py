"""A model that scikit-learn fits, to pixels or to a pretrained network's features."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Self, cast

import numpy as np

from opsin.backbones.backbone import Backbone
from opsin.backbones.features import Extractor, compute
from opsin.backbones.named_backbones import NAMED
from opsin.classical import fitted_file
from opsin.classical.backbone_head import (
    COMPARED,
    BackboneFeatures,
    ChosenHead,
    HeadChoice,
    HeadSearch,
)
from opsin.classical.classical_recipe import (
    BACKBONE,
    ClassicalRecipe,
    Forest,
    FromBackbone,
    PixelModel,
    resolve_classical,
)
from opsin.classical.fit import (
    FitProgress,
    Fitted,
    Pooling,
    drawn,
    figures_of,
    fit,
    run_interruptible,
)
from opsin.classical.fitted_file import Written
from opsin.commands.backbones import measure
from opsin.commands.train.calibrate import ExportedFile, assumed_mix
from opsin.commands.train.learner import Learner, Loaded, answering_device, versions
from opsin.commands.train.load import MANY_IMAGES, PHOTOGRAPH, views_of
from opsin.commands.train.words import class_mix_in_words, tell_model
from opsin.core.arrays import Floats, Ints
from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.errors import ModelFileError, RecipeError
from opsin.core.format import about
from opsin.core.metadata import Calibration, ClassMix, Layer
from opsin.core.platform import cores
from opsin.core.recipe import TrainingRecipe
from opsin.core.storage import write_json
from opsin.data.cache import digest_rows
from opsin.data.dataset import Dataset
from opsin.evaluation.out_of_distribution import strange_images
from opsin.evaluation.out_of_fold import OutOfFold, folds_of, joined_folds, most_folds, out_of_fold
from opsin.onnx_files.postprocessing import FEATURES
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import CPU
from opsin.training.process_group import ALONE, ProcessGroup

# Training images from which on fine-tuning mixes them: of fewer, each says too much.
_MIXED: Final = 1_000
# Training images that figures are computed on: all of them would take as long as the fitting.
_SAMPLE: Final = 2_000
# Images of each strange kind: of 20 in all, the features take less than a second.
_STRANGE: Final = 5
# Seconds of a core that the choice of a head takes, however few images there are, and for the
# square of those that heads are compared on.
_CHOICE, _SQUARE = 0.1, 2.4e-6
# Seconds to open a network for features, and how many times as long as in its fastest batch an
# image takes among thousands that are read and cached beside it.
_OPENING, _SUSTAINED = 2.0, 1.15
# Times as long as a network's features of an image that a step of fine-tuning takes for it.
_STEP: Final = 4.5


class HeadLearner(Learner):
    """A model without layers, or a head on a pretrained network."""

    recipe: ClassicalRecipe
    rows: Ints  # training images that it is fitted to
    also: Ints  # validation images that it then learns from, too
    fitted: Fitted  # the delivered model
    exported: ExportedFile  # and its file
    features: Floats  # of all images by a pretrained network, ``float32[N, D]``
    choice: HeadChoice
    judged: tuple[OutOfFold, Calibration] | None = None  # out-of-fold answers, their calibration
    strange: Floats | None = None  # features of strange images, ``float32[S, D]``

    def __init__(
        self, dataset: Dataset, recipe: ClassicalRecipe, backbone: Backbone | None
    ) -> None:
        self.dataset, self.recipe, self.backbone = dataset, recipe, backbone
        self.budget, self.layers, self.threads = recipe.budget, [], cores()
        height, width, channels = dataset.images.shape[1:]
        self.shape = height, width, channels

    @classmethod
    def decide(cls, loaded: Loaded, options: Mapping[str, Any]) -> Self:
        """Decide everything that the caller left open; a budget is for fine-tuning alone."""
        dataset, seconds = loaded.dataset, loaded.budget
        tunes = options.get("fine_tune")
        if tunes and len(dataset.split.train) < _MIXED and options.get("mixup") is None:
            options = {**options, "mixup": 0.0}
        recipe = resolve_classical(
            dataset.recipe,
            model=str(loaded.model),
            mirrored=dataset.mirrored,
            **options,
            **({} if tunes else {"budget": seconds}),
        )
        reasons = {**loaded.reasons, **recipe.reasons}
        if seconds is not None:
            reasons["Budget"] = f"as many of the epochs as fit into {about(seconds)}"
        recipe = recipe.model_copy(update={"budget": seconds, "reasons": reasons})
        return cls(dataset, recipe, loaded.backbone)

    @contextlib.contextmanager
    def ready(self, group: ProcessGroup = ALONE) -> Iterator[None]:
        """Choose the images, and refuse fewer than two classes."""
        dataset, recipe, split = self.dataset, self.recipe, self.dataset.split
        labels, train = dataset.labels, split.train
        self.rows = drawn(train, labels[train], recipe.model.images, recipe.training.seed)
        self.also = split.val if len(self.rows) == len(train) else split.val[:0]
        if len(dataset.classes) < 2:
            raise RecipeError("There is one class only, and two or more are needed")
        if missing := set(range(len(dataset.classes))) - set(labels[self.rows].tolist()):
            raise RecipeError(f"Class {dataset.classes[min(missing)]!r} has no training images")
        reasons = {}
        if len(self.rows) < len(train):
            reasons["Images"] = (
                f"{len(self.rows):,} of {len(train):,} training images, each class at its share; "
                f"for more: --images {len(train)}"
            )
        reasons["Class mix"] = class_mix_in_words(recipe.training.class_mix, dataset)
        torch = ("torch",) if recipe.fine_tunes else ()
        packages = versions("scikit-learn", "onnx", "numpy", "pillow", *torch)
        if self.backbone is not None:
            if len(self.rows) > MANY_IMAGES and getattr(recipe.model, "at", None) is None:
                self.backbone = replace(self.backbone, at=self.backbone.at[:1])
            reasons["Backbone"] = self.backbone.words
            packages["backbone"] = f"sha256:{self.backbone.digest}"
        elif not isinstance(recipe.model, FromBackbone):
            pooling = Pooling.to_fit(self.shape, recipe.model.side)
            if pooling.factor > 1:
                height, width, _ = self.shape
                reasons["Pixels"] = (
                    f"{height}×{width} averaged down to {pooling.shape[1]}×{pooling.shape[2]}; "
                    f"for all of them: --side {max(height, width)}"
                )
        self.decided(**reasons)
        self.recipe = self.recipe.model_copy(update={"versions": packages})
        answering_device(self.recipe)
        group.wait()
        yield

    def fit(self) -> float:
        """Fit, and improve on it where the recipe says so."""
        began, held_out = time.perf_counter(), None
        if isinstance(self.recipe.model, FromBackbone):
            chosen = self._fit_head(self.recipe.model)
            self.fitted, held_out = chosen.final, chosen.held_out
            if self.start is None:  # what goes on is decided already
                write_json(self.directory.recipe, self.recipe.model_dump(mode="json"))
        else:
            self._fit_pixels(self.recipe.model)
        self.watcher.doing("the export")
        self.exported, self.layers = self.file_of(self.fitted, held_out)
        self.improve()
        if self.outcome is not None or self.backbone is None:
            tell_model(self.watcher, self)
        seconds = time.perf_counter() - began
        if self.outcome is None:
            self.watcher.epoch(self._only_epoch(seconds))
        return seconds

    def improve(self) -> None:
        """Train the network's own weights: only in fine-tuning."""

    def planned(self) -> dict[str, object]:
        """The seconds of the features that are not cached, and of the choice of a head."""
        backbone, dataset, count = self.backbone, self.dataset, len(self.rows)
        if backbone is None:
            return {}
        missing = 0
        for view in views_of(dataset, count):
            cache = Extractor(backbone, self.shape, view).cache
            missing += len(dataset) - int(cache.knows(dataset.digests).sum())
        choices = 1 + most_folds(count) * dataset.judged_by_all
        heads = choices * (_CHOICE + _SQUARE * min(count, COMPARED) ** 2) / self.threads
        features = (
            missing and _OPENING + missing * _SUSTAINED * measure(backbone).milliseconds / 1000
        )
        return {"seconds": features + heads}

    def _fit_pixels(self, model: PixelModel) -> None:
        pooling, watcher = Pooling.to_fit(self.shape, model.side), self.watcher
        watcher.begin("Pixels", len(self.rows), "images")

        def read(done: int) -> None:
            watcher.advance(done)
            if self.stop.is_set():
                raise KeyboardInterrupt("Ctrl-C while the images were read")

        pixels = pooling.read(self.dataset.images, self.rows, read)
        watcher.end()
        watcher.doing("the fitting")
        total, unit = (model.trees, "trees") if isinstance(model, Forest) else (1, "fits")
        self.fitted = run_interruptible(
            lambda progress: fit(
                model,
                pooling,
                pixels,
                self.dataset.labels[self.rows],
                classes=len(self.dataset.classes),
                seed=self.recipe.training.seed,
                threads=self.threads,
                progress=progress,
            ),
            what="Fit",
            total=total,
            unit=unit,
            watcher=watcher,
            stop=self.stop,
        )

    def _fit_head(self, model: FromBackbone) -> ChosenHead:
        """Choose a head for the features; the choice is among the recipe's reasons."""
        dataset, backbone = self.dataset, cast("Backbone", self.backbone)
        views, watcher, stop = views_of(dataset, len(self.rows)), self.watcher, self.stop
        images, digests = dataset.images, dataset.digests
        self.features = self.features_of(backbone, images, digests, views, stop=stop)
        watcher.doing("the choice of a head")
        seed, most = self.recipe.training.seed, most_folds(len(dataset))
        by_all = not len(dataset.split.val)
        folds = folds_of(dataset.labels, dataset.units, seed, most) if by_all else []
        if dataset.fold is not None:
            folds = joined_folds(dataset.fold, dataset.labels, dataset.units, seed)
        search = HeadSearch(
            BackboneFeatures(backbone, self.shape, backbone.at, views),
            self.features,
            labels=dataset.labels,
            units=dataset.units,
            assumed=assumed_mix(self.recipe.training.class_mix, dataset),
            wanted=None if model.head == "auto" else model.head,
            seed=seed,
            threads=self.threads,
        )

        def chosen_and_judged(progress: FitProgress) -> tuple[ChosenHead, OutOfFold | None]:
            def answer(train: Ints, test: Ints) -> Answers:
                answers = search.answer(search.choose(train, test[:0], progress), train, test)
                right = answers.probabilities.argmax(axis=1) == dataset.labels[test]
                progress.calls.append(lambda: watcher.judged(test.tolist(), right.tolist()))
                return answers

            judged = out_of_fold(folds, answer) if folds else None
            return search.choose(self.rows, self.also, progress), judged

        heads = len(search.candidates(dataset.labels[self.rows])) * (len(folds) + 1)
        chosen, judged = run_interruptible(
            chosen_and_judged, what="Heads", total=heads, unit="heads", watcher=watcher, stop=stop
        )
        self.choice = choice = chosen.choice
        self.decided(
            Features=f"{', '.join(choice.at)} · image seen {' and '.join(choice.views)}",
            Head=choice.words,
        )
        if judged is not None and chosen.calibration is not None:
            self.judged = judged, chosen.calibration
            kinds = strange_images(*self.shape, count=_STRANGE)
            del kinds["digits"]  # these may be what is known
            images = np.concatenate(list(kinds.values()))
            self.strange = self.features_of(backbone, images, digest_rows(images), views, stop=stop)
        return chosen

    def features_of(self, backbone: Backbone, *images: Any, **options: Any) -> Floats:
        """Features (arguments as for `compute`), which must be numbers that a head can learn."""
        device = answering_device(self.recipe)
        features = compute(backbone, *images, device=device, watcher=self.watcher, **options)
        if not np.isfinite([features.min(), features.max()]).all():
            raise ModelFileError(
                f"{backbone.name} gives numbers for some images that are not finite",
                "Check --prepare, or take an export of it in 32 bits.",
            )
        return features

    def file_of(self, fitted: Fitted, held_out: Fitted | None) -> tuple[ExportedFile, list[Layer]]:
        """The file of what was fitted, and its layers."""
        written, known = Written(fitted), None
        if isinstance(fitted.numbers, BackboneFeatures):
            known = (FEATURES, self.features)

        def content_of(model: Fitted, written: Written) -> bytes:
            metadata = self.metadata(model.labels, layers=written.layers)
            if isinstance(model.numbers, BackboneFeatures):
                mix = cast("ClassMix", metadata.class_mix)
                learnt = tuple(self.choice.learnt(np.array(mix.learnt)).tolist())
                mix = mix.model_copy(update={"learnt": learnt})
                of_backbone = {"backbone": model.numbers.facts, "class_mix": mix}
                metadata = metadata.model_copy(update=of_backbone)
            return written.content(metadata)

        exported = ExportedFile(
            self.directory.classifier,
            self.dataset,
            content_of(fitted, written),
            self.watcher,
            known,
            None if held_out is None else content_of(held_out, Written(held_out, whole=False)),
            judged=self.judged,
            strange=self.strange,
            device=answering_device(self.recipe),
        )
        return exported, written.layers

    def _only_epoch(self, seconds: float) -> Epoch:
        """The only epoch of a model that is fitted in one go, by the answers of its file."""
        labels, exported, rows = self.dataset.labels, self.exported, self.rows
        sample = rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(np.int64)]
        known = exported.outputs(sample, ["probabilities"])["probabilities"]
        train_loss, train_accuracy = figures_of(known, labels[sample])
        if exported.judged is None:
            val, answers = self.dataset.split.val, exported.validation["probabilities"]
        else:
            val, answers = exported.judged[0].rows, exported.judged[0].answers.probabilities
        val_loss, val_accuracy = figures_of(answers, labels[val])
        return Epoch(
            epoch=1,
            epochs=1,
            step=1,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=0.0,
            seconds=seconds,
            images_per_second=len(rows) / max(seconds, 1e-9),
            best=True,
        )

    def export(self) -> ExportedFile:
        """The better file."""
        return self.exported

    def difference(self, file: Classifier, rows: Ints) -> float:
        """Compare the file with scikit-learn, or the head on the features that it was fitted to."""
        images, known, embedding = self.dataset.images[rows], self.exported.known, None
        if known is not None and self.exported.device == CPU:
            embedding = self.fitted.projection.transform(known[1][rows])
        return fitted_file.check_parity(file, self.fitted, images, embedding)

    def facts(self) -> TrainingFacts:
        """The number of images that it was fitted to."""
        return TrainingFacts(
            best_epoch=1,
            epochs=1,
            asked=1,
            stopped=self.outcome is not None and self.outcome.stopped,
            interrupted=self.stop.is_set(),
            balance="none",
            precision="float32",
            fitted_to=len(self.fitted.labels),
            unit="fits",
        )

    @property
    def device_name(self) -> str:
        """Where scikit-learn computes, and where ONNX Runtime does if elsewhere."""
        where = f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}"
        what = "answers" if self.backbone is None else "features and answers"
        answers_on = answering_device(self.recipe)
        return where if answers_on == CPU else f"{where}; {what} on {answers_on}"

    def further(self) -> str | None:
        """How long fine-tuning would take, and what it brought, for frozen photographs."""
        dataset, backbone = self.dataset, self.backbone
        if self.recipe.fine_tunes or backbone is None or backbone.name not in NAMED:
            return None
        if dataset.images.shape[3] == 1 or np.median(dataset.sizes.min(axis=1)) < PHOTOGRAPH:
            return None
        tuned = resolve_classical(
            dataset.recipe, model=BACKBONE, backbone=backbone.name, fine_tune=True
        ).training
        steps = cast("TrainingRecipe", tuned).epochs * len(self.rows)
        seconds = steps * _STEP * measure(backbone).milliseconds / 1000
        # Three splits of TrashNet with --budget 15m: 94.0 and 94.9% of the others right.
        return (
            f"fine-tuning would take about {about(seconds)} on this CPU (--from {backbone.name} "
            "--fine-tune); with 2,016 photographs of waste it brought one point"
        )
