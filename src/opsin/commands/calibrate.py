"""A fresh file learns how sure it may be, and when to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.commands.class_mix import shares_of
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import OodFigures
from opsin.core.events import Watcher
from opsin.core.metadata import Calibration, ClassMix, Reject
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier, with_outputs
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import cpu_session

if TYPE_CHECKING:
    from opsin.evaluation.out_of_fold import OutOfFold
    from opsin.evaluation.reject import ClassPrototypes

# Training images that the classes' means are taken from: more make them no better.
_KNOWN: Final = 5000
# Training images that further ones are compared with, where these say more than their means.
_NEAREST: Final = 2000
_LOGITS: Final = "head"


@dataclass(frozen=True)
class Draft:
    """A file that is exported but not calibrated; nothing is on the disk yet.

    Args:
        directory: The run that it is for.
        dataset: What it was trained on.
        content: The file's bytes.
        watcher: Receives the progress of the work.
        known: A value of the file that is known for every image of the dataset, its name and
            ``float32[N, D]``: only what follows it is computed.
        held_out: The file as it was before it also learnt from the validation images, with the
            same names: it answers for these.
        judged: Answers by heads that had not seen the images, and how sure the file may be by
            them; ``None`` where a validation part says so.
        strange: What is known of every image, of images of nothing in particular,
            ``float32[S, D]``.
        device: Where the file computes: see `opsin.runtime.providers.choose`.
    """

    directory: RunDirectory
    dataset: Dataset
    content: bytes
    watcher: Watcher
    known: tuple[str, NDArray[np.float32]] | None = None
    held_out: bytes | None = None
    judged: tuple[OutOfFold, Calibration] | None = None
    strange: NDArray[np.float32] | None = None
    device: str = "auto"

    def opened(self, content: bytes) -> Classifier:
        """Open a file that is made of this one."""
        return Classifier.of_content(
            self.directory.classifier, content, most=None, device=self.device, watcher=self.watcher
        )

    @cached_property
    def classifier(self) -> Classifier:
        """The one session that all of the calibration is computed in."""
        return self.opened(with_outputs(self.content, [_LOGITS]))

    @cached_property
    def validating(self) -> Draft:
        """The draft that answers for the validation images."""
        return self if self.held_out is None else replace(self, content=self.held_out)

    @cached_property
    def validation(self) -> dict[str, NDArray[np.float32]]:
        """Logits, embedding and uncalibrated probabilities of all validation images."""
        names = (_LOGITS, "embedding", "probabilities")
        return self.validating._computed(self.dataset.split.val, names)

    @cached_property
    def mix(self) -> ClassMix | None:
        """The mix of classes that the file was fitted under, and the one that it assumes."""
        from opsin.onnx_files.onnx_graph import OnnxGraph  # noqa: PLC0415  needs onnx

        return OnnxGraph(self.content).metadata.class_mix

    @cached_property
    def validation_shift(self) -> NDArray[np.float64] | float:
        """What brings the logits of the validation images to their own mix, ``float64[K]``.

        A part that was cut from the training images differs from these by an image of a class at
        most, which tells nothing; so a class without any validation images is no rarer for it.
        """
        mix = self.validating.mix
        if mix is None:
            return 0.0
        labels, split = self.dataset.labels, self.dataset.split
        classes = len(self.dataset.classes)
        expected = shares_of(labels[split.train], classes) * len(split.val)
        counts = np.bincount(labels[split.val], minlength=classes)
        own = np.clip(expected, counts - 1, counts + 1)
        return np.asarray(np.log(own / own.sum()) - np.log(mix.learnt), np.float64)

    def outputs(
        self, rows: NDArray[np.int64], names: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return outputs of the file for some images."""
        if self.known is None:
            return self._computed(rows, names)
        return {name: self._every[name][rows] for name in names}

    @cached_property
    def _every(self) -> dict[str, NDArray[np.float32]]:
        names = (_LOGITS, "embedding", "probabilities")
        return self._computed(np.arange(len(self.dataset)), names)

    def _computed(
        self, rows: NDArray[np.int64], names: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        if self.known is not None:
            return self.from_known(self.known[1][rows], names)
        self.watcher.begin("Calibrate", len(rows), "images")
        parts, done = [], 0
        for part in self.classifier.iter_layers(self.dataset.images, names, rows):
            parts.append(part)
            self.watcher.advance(done := done + len(part[names[0]]))
        self.watcher.end()
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def from_known(
        self, values: NDArray[np.float32], names: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return outputs of the file for what `known` names of some images."""
        from opsin.onnx_files.onnx_graph import OnnxGraph  # noqa: PLC0415  needs onnx

        name = cast("tuple[str, NDArray[np.float32]]", self.known)[0]
        session = cpu_session(OnnxGraph(self.content).between(name, names))
        return dict(zip(names, session.run(list(names), {name: values}), strict=True))


@dataclass(frozen=True)
class CalibratedFile:
    """A calibrated file, and its answers to the validation images.

    Args:
        classifier: The file, as it will be written but for its score and views.
        validation: Its answers; ``None`` where there are no validation images.
        known: Its answers to all images of the dataset, where these are known already; to the
            validation images, those of before it learnt from them.
        ood: How well it distinguishes unknown images from known ones, by all images.
    """

    classifier: Classifier
    validation: Answers | None
    known: Answers | None = None
    ood: OodFigures | None = None


def uncalibrated(draft: Draft) -> CalibratedFile:
    """Return a file whose answers stay as they are; only how unlike the images are is learnt."""
    from opsin.onnx_files.postprocessing import Calibrated, finished  # noqa: PLC0415

    known, answers = _prototypes(draft), None
    calibrated = Calibrated(1.0, known.scales, known.directions)
    if len(draft.dataset.split.val):
        logits, embeddings = draft.validation[_LOGITS], draft.validation["embedding"]
        answers = Answers(*calibrated.answer(logits, embeddings))
    content = finished(draft.content, draft.classifier.metadata, calibrated)
    return CalibratedFile(draft.opened(content), answers)


def _prototypes(draft: Draft) -> ClassPrototypes:
    """Return the training images that a pretrained network knows, else the means of classes."""
    from opsin.evaluation.reject import ClassPrototypes  # noqa: PLC0415

    dataset = draft.dataset
    train = dataset.split.train
    each = draft.classifier.metadata.backbone is not None and draft.known is not None
    shown = _spread(dataset.labels[train], train, _NEAREST if each else _KNOWN)
    seen = draft.outputs(shown, ["embedding"])["embedding"]
    if each:
        return ClassPrototypes.of_images(seen)
    return ClassPrototypes.of(seen, dataset.labels[shown], len(dataset.classes))


def calibrate(draft: Draft) -> CalibratedFile:
    """Fit a file's temperature and reject threshold on validation and training images alone."""
    from opsin.evaluation.calibration import fit_temperature, log_loss_of  # noqa: PLC0415
    from opsin.evaluation.reject import choose_threshold  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import Calibrated, finished  # noqa: PLC0415

    dataset = draft.dataset
    split = dataset.split
    known = _prototypes(draft)
    ratio, val_ratio = (
        None if each.mix is None else each.mix.log_ratio for each in (draft, draft.validating)
    )
    calibrated = Calibrated(1.0, known.scales, known.directions, ratio)
    calibration, reject, answers = None, None, None
    if len(split.val):
        logits, embeddings = draft.validation[_LOGITS], draft.validation["embedding"]
        labels = dataset.labels[split.val]
        shift = draft.validation_shift
        temperature = fit_temperature(logits, labels, shift)
        losses = (
            log_loss_of(logits, labels, 1.0, shift),
            log_loss_of(logits, labels, temperature, shift),
        )
        calibration = Calibration(temperature=temperature, images=len(labels), log_loss=losses)
        chosen = choose_threshold(known.ood_score(embeddings))
        if chosen is not None:
            reject = Reject(max_ood_score=chosen[0], rate=chosen[1], images=len(labels))
        calibrated = replace(calibrated, temperature=temperature)
        answers = Answers(*replace(calibrated, mix=val_ratio).answer(logits, embeddings))
    elif draft.judged is not None:
        judged, calibration = draft.judged
        calibrated = replace(calibrated, temperature=calibration.temperature)
        scores = judged.answers.ood_score
        chosen = None if scores is None else choose_threshold(scores)
        if chosen is not None:
            reject = Reject(max_ood_score=chosen[0], rate=chosen[1], images=len(judged.rows))
    metadata = draft.classifier.metadata.model_copy(
        update={"calibration": calibration, "reject": reject}
    )
    content = finished(draft.content, metadata, calibrated)
    every, ood = None, None
    if draft.known is not None:
        found = draft.outputs(np.arange(len(dataset.labels)), (_LOGITS, "embedding"))
        every = Answers(*calibrated.answer(found[_LOGITS], found["embedding"]))
        if answers is not None:
            every.probabilities[split.val] = answers.probabilities
        if draft.judged is not None:
            ood = _ood_figures(draft, draft.judged[0], found["embedding"], reject)
    return CalibratedFile(draft.opened(content), answers, every, ood)


def _ood_figures(
    draft: Draft, judged: OutOfFold, embeddings: NDArray[np.float32], reject: Reject | None
) -> OodFigures | None:
    """Measure how well a file distinguishes unknown images from known ones, by all images."""
    from opsin.evaluation.out_of_distribution import near_and_far  # noqa: PLC0415  scikit-learn

    if draft.known is None or draft.strange is None:
        return None
    strange = draft.from_known(draft.strange, ["embedding"])["embedding"]
    return near_and_far(
        judged,
        embeddings[judged.rows],
        draft.dataset.labels[judged.rows],
        draft.dataset.classes,
        strange=strange,
        most=None if reject is None else reject.max_ood_score,
    )


def _spread(labels: NDArray[np.int64], rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Choose rows of each class evenly along the set, rare classes whole; in rising order."""
    classes, counts = np.unique(labels, return_counts=True)
    share = most // max(len(classes), 1)
    chosen = []
    for number, count in zip(classes, counts, strict=True):
        own = rows[labels == number]
        places = np.linspace(0, count - 1, min(max(share, 1), int(count))).round()
        chosen.append(own[places.astype(np.int64)])
    return np.sort(np.concatenate(chosen)) if chosen else rows[:0]
