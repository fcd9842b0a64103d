"""Calibration of an exported file: class mix, temperature, reject threshold, test-time views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.artifacts.run_report import OodFigures
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher, watched
from opsin.core.metadata import Calibration, Reject, Views
from opsin.data.dataset import Dataset
from opsin.data.spelling import nfc
from opsin.evaluation.mistakes import drawn_rows
from opsin.runtime.classifier import Classifier, step_of, with_outputs
from opsin.runtime.prediction import Answers
from opsin.runtime.providers import cpu_session

if TYPE_CHECKING:
    from opsin.evaluation.out_of_distribution import ClassPrototypes
    from opsin.evaluation.out_of_fold import OutOfFold
    from opsin.onnx_files.onnx_graph import OnnxGraph

#: The class mix of the training images, which is the default.
AS_TRAINED: Final = "as-trained"
_SHARES: Final = TypeAdapter(dict[str, float])
_LARGEST: Final = 10_000_000  # bytes of a file of shares
# Training images for the classes' means, and for nearest neighbours in pretrained features.
_KNOWN, _NEAREST = 5000, 2000
_AT_ONCE: Final = 128  # images whose head is computed from known values
_VIEWED: Final = 1000  # validation images that views are tried on: there are ten of each
_LOGITS: Final = "head"
_NAMES: Final = (_LOGITS, "embedding", "probabilities")

Outputs = dict[str, Floats]


def assumed_mix(asked: str, dataset: Dataset) -> Doubles:
    """The class mix that answers are to assume, ``float64[K]``."""
    classes = len(dataset.classes)
    if asked == "even":
        return np.full(classes, 1 / classes)
    if asked == AS_TRAINED:
        return shares_of(dataset.labels[dataset.split.train], classes)
    return _shares_in(Path(asked), dataset.classes)


def shares_of(labels: Ints, classes: int) -> Doubles:
    """The share of each class, ``float64[K]``; an empty one counts as one image."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.asarray(counts / counts.sum(), np.float64)


def _shares_in(path: Path, classes: tuple[str, ...]) -> Doubles:
    advice = f'Write a file such as {{"{classes[0]}": 0.9, …}}, or give as-trained or even.'
    try:
        content = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
        shares = {nfc(name): n for name, n in _SHARES.validate_json(content).items()}
    except (OSError, ValidationError):
        raise RecipeError(f"{path} is no JSON of shares above 0 for each class", advice) from None
    wrong = [name for name in classes if not 0 < shares.get(nfc(name), 0) < np.inf]
    wrong += [name for name in shares if name not in map(nfc, classes)]
    if wrong:
        raise RecipeError(
            f"{path} needs a share above 0 for each class, and {wrong[0]!r} has none or is none",
            advice,
        )
    listed = np.array([shares[nfc(name)] for name in classes], np.float64)
    return np.asarray(listed / listed.sum(), np.float64)


@dataclass(frozen=True)
class ExportedFile:
    """A file before its calibration, in memory."""

    path: Path  # where it will be written
    dataset: Dataset  # what it was trained on
    content: bytes
    watcher: Watcher
    # A value of the graph, its name and ``float32[N, D]`` for all images of the dataset, from
    # which on everything is computed.
    known: tuple[str, Floats] | None = None
    # The head that did not learn from the validation images, and answers for them from `known`.
    held_out: bytes | None = None
    # Out-of-fold answers, and the calibration by them.
    judged: tuple[OutOfFold, Calibration] | None = None
    strange: Floats | None = None  # the known value of strange images
    device: str = "auto"

    def opened(self, content: bytes) -> Classifier:
        """A classifier of a file derived from this one."""
        return Classifier.of_content(
            self.path, content, most=None, device=self.device, watcher=self.watcher
        )

    @cached_property
    def classifier(self) -> Classifier:
        """The only session of the calibration."""
        return self.opened(with_outputs(self.content, [_LOGITS]))

    @cached_property
    def graph(self) -> OnnxGraph:
        """Its operators."""
        from opsin.onnx_files.onnx_graph import OnnxGraph  # noqa: PLC0415  needs onnx

        return OnnxGraph(self.content)

    @cached_property
    def validating(self) -> ExportedFile:
        """The file for the validation images."""
        return self if self.held_out is None else replace(self, content=self.held_out)

    @cached_property
    def validation(self) -> Outputs:
        """Logits, embedding and uncalibrated probabilities of the validation images."""
        val = self.dataset.split.val
        if self.known is None:
            return self.outputs(val)
        return self.validating.from_known(self.known[1][val])

    @cached_property
    def validation_shift(self) -> Doubles | float:
        """The offset of the logits for the validation images' class mix, ``float64[K]``."""
        mix = self.validating.graph.metadata.class_mix
        if mix is None:
            return 0.0
        labels, split = self.dataset.labels, self.dataset.split
        classes = len(self.dataset.classes)
        expected = shares_of(labels[split.train], classes) * len(split.val)
        counts = np.bincount(labels[split.val], minlength=classes)
        shares = np.clip(expected, counts - 1, counts + 1)
        return np.asarray(np.log(shares / shares.sum()) - np.log(mix.learnt), np.float64)

    def outputs(self, rows: Ints, names: Sequence[str] = _NAMES) -> Outputs:
        """Outputs of the file for some images."""
        if self.known is not None:
            return {name: self.of_all[name][rows] for name in names}
        layers = self.classifier.iter_layers(self.dataset.images, names, rows)
        shown = watched(
            self.watcher, "Calibrate", len(rows), layers, size=lambda part: len(part[names[0]])
        )
        parts = list(shown)
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    @cached_property
    def of_all(self) -> Outputs:
        """Outputs of the file for all images, whose ``known`` there is."""
        assert self.known is not None
        return self.from_known(self.known[1])

    def from_known(self, values: Floats, names: Sequence[str] = _NAMES) -> Outputs:
        """Outputs of the file for values as in ``known``."""
        from opsin.backbones.features import room_for  # noqa: PLC0415  needs onnx

        assert self.known is not None
        name = self.known[0]
        session = cpu_session(self.graph.between(name, names))
        outputs: Outputs = {}
        for start in range(0, max(len(values), 1), _AT_ONCE):
            found = session.run(list(names), {name: values[start : start + _AT_ONCE]})
            for key, part in zip(names, found, strict=True):
                if not start:
                    outputs[key] = room_for((len(values), *part.shape[1:]))
                outputs[key][start : start + len(part)] = part
        return outputs


class FileWithAnswers(NamedTuple):
    """A calibrated file, without score and views, and its answers before the evaluation."""

    classifier: Classifier
    validation: Answers | None
    test: Answers | None  # where a value of all images was known
    ood: OodFigures | None


def calibrate(exported: ExportedFile, *, adjusts: bool = True) -> FileWithAnswers:
    """Fit a file's temperature and reject threshold on validation and training images."""
    from opsin.evaluation.calibration import fit_temperature, log_loss_of  # noqa: PLC0415
    from opsin.evaluation.out_of_distribution import choose_threshold, near_and_far  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import Calibrated, finished  # noqa: PLC0415

    dataset, val = exported.dataset, exported.dataset.split.val
    known = _prototypes(exported)
    mixes = (of.graph.metadata.class_mix for of in (exported, exported.validating))
    ratio, val_ratio = (None if mix is None else mix.log_ratio for mix in mixes)
    calibrated = Calibrated(1.0, known.scales, known.directions, ratio)
    calibration, scores, answers = None, None, None
    if len(val):
        logits, embeddings = exported.validation[_LOGITS], exported.validation["embedding"]
        if adjusts:
            labels, shift = dataset.labels[val], exported.validation_shift
            temperature = fit_temperature(logits, labels, shift)
            before = log_loss_of(logits, labels, 1.0, shift)
            after = log_loss_of(logits, labels, temperature, shift)
            calibration = Calibration(
                temperature=temperature, images=len(labels), log_loss=(before, after)
            )
            scores = known.ood_score(embeddings)
            calibrated = replace(calibrated, temperature=temperature)
        answers = Answers(*replace(calibrated, mix=val_ratio).answer(logits, embeddings))
    elif exported.judged is not None:
        judged, calibration = exported.judged
        calibrated = replace(calibrated, temperature=calibration.temperature)
        scores = judged.answers.ood_score
    reject = None
    if scores is not None and (chosen := choose_threshold(scores)) is not None:
        reject = Reject(max_ood_score=chosen[0], rate=chosen[1], images=len(scores))
    update = {"calibration": calibration, "reject": reject}
    metadata = exported.graph.metadata.model_copy(update=update)
    content = finished(exported.content, metadata, calibrated)
    test, ood = None, None
    if exported.known is not None and len(dataset.split.test):
        outputs = exported.outputs(dataset.split.test, [_LOGITS, "embedding"])
        test = Answers(*calibrated.answer(outputs[_LOGITS], outputs["embedding"]))
    if exported.judged is not None and exported.strange is not None:
        judged = exported.judged[0]
        ood = near_and_far(
            judged,
            exported.outputs(judged.rows, ["embedding"])["embedding"],
            dataset.labels[judged.rows],
            dataset.classes,
            strange=exported.from_known(exported.strange, ["embedding"])["embedding"],
            most=None if reject is None else reject.max_ood_score,
        )
    return FileWithAnswers(exported.opened(content), answers, test, ood)


def _prototypes(exported: ExportedFile) -> ClassPrototypes:
    """Training images in a pretrained network's features, else the means of classes."""
    from opsin.evaluation.out_of_distribution import ClassPrototypes  # noqa: PLC0415

    dataset, train = exported.dataset, exported.dataset.split.train
    pretrained = exported.graph.metadata.backbone is not None and exported.known is not None
    labels, classes = dataset.labels[train], np.unique(dataset.labels[train])
    share = max((_NEAREST if pretrained else _KNOWN) // max(len(classes), 1), 1)
    spread = [train[:0]]
    for rows in (train[labels == label] for label in classes):
        at = np.linspace(0, len(rows) - 1, min(share, len(rows))).round().astype(np.int64)
        spread.append(rows[at])
    shown = np.sort(np.concatenate(spread))
    seen = exported.outputs(shown, ["embedding"])["embedding"]
    if pretrained:
        return ClassPrototypes.of_images(seen)
    return ClassPrototypes.of(seen, dataset.labels[shown], len(dataset.classes))


def try_views(
    classifier: Classifier,
    validation: Answers | None,
    dataset: Dataset,
    varied: Views,
    watcher: Watcher,
) -> Views:
    """Judge by validation images whether the mean over views beats a single answer."""
    from opsin.evaluation.comparison import LEVEL, compare_answers  # noqa: PLC0415  needs scipy

    height, width = dataset.images.shape[1:3]
    if validation is None or not (varied.flip or step_of(height, width, varied.shift)):
        return varied
    drawn = drawn_rows(len(dataset.split.val), _VIEWED)
    rows = dataset.split.val[drawn]
    answers = classifier.iter_answers(dataset.images, rows, views=varied)
    parts = watched(watcher, "Views", len(rows), answers, size=lambda part: len(part.probabilities))
    with_views = np.concatenate([part.probabilities for part in parts]).argmax(axis=1)
    alone = validation.probabilities[drawn].argmax(axis=1)
    test = compare_answers(alone, with_views, dataset.labels[rows], dataset.units[rows])
    gained, lost = test.only_second, test.only_first
    helped = bool(gained > lost and test.p < LEVEL)
    judged = {"images": len(rows), "gained": gained, "lost": lost, "p": test.p, "helped": helped}
    return varied.model_copy(update=judged)
