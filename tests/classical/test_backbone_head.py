"""A head is chosen by cross-validation, wherever there is something to tell heads apart by."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.backbones.backbone import open_backbone
from opsin.classical import backbone_head, heads
from opsin.classical.backbone_head import (
    BackboneFeatures,
    HeadChoice,
    HeadSearch,
    JudgedHead,
    fit_as,
    judge,
    simplest,
)
from opsin.classical.fit import FitProgress
from opsin.evaluation.out_of_fold import folds_of
from tests.backbones.small_networks import network
from tests.conftest import a_few


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    file = tmp_path / "small.onnx"
    file.write_bytes(network())
    return file


def coloured(
    counts: tuple[int, ...], groups: tuple[str, ...] = (), **options: Any
) -> opsin.Dataset:
    """Return noise in the colour of each class."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    tone = np.array([(200, 60, 40), (40, 60, 200), (60, 190, 80)])[labels]
    images = random.normal(tone[:, None, None], 50, (len(labels), 16, 16, 3)).clip(0, 255)
    return opsin.from_arrays(images.astype(np.uint8), labels, groups=groups, **options)


def trained(data: opsin.Dataset, backbone: Path, runs: Path, **options: Any) -> opsin.Run:
    given: dict[str, Any] = {"prepare": "-1..1", **options}
    return opsin.train(data, backbone=backbone, runs=runs, quiet=True, **given)


def test_one_image_of_a_rare_class_does_not_decide_the_head(backbone: Path, tmp_path: Path) -> None:
    data = coloured((40, 40, 3))
    assert np.bincount(data.labels[data.split.train])[2] == 1
    run = trained(data, backbone, tmp_path / "runs")
    assert "by cross-validation on the training images" in run.report.reasons["Head"]
    assert run.report.judged.accuracy > 0.8


@pytest.mark.parametrize("films", a_few([3, 4], 1))
def test_few_groups_of_many_images(films: int, backbone: Path, tmp_path: Path) -> None:
    groups = tuple(f"{label}-{number // 20}" for label in "ab" for number in range(20 * films))
    data = coloured((20 * films, 20 * films), groups)
    run = trained(data, backbone, tmp_path / "runs")
    assert "nearest class mean" not in run.report.reasons["Head"]
    assert run.report.judged.accuracy > 0.8


def test_features_that_are_not_finite_are_refused(backbone: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps({"image_mean": [0] * 3, "image_std": [1e-38] * 3}))
    with pytest.raises(opsin.ModelFileError, match="small gives numbers for some images"):
        trained(coloured((20, 20)), backbone, tmp_path / "runs", prepare=str(pixels))


def test_the_simplest_head_is_taken_that_is_not_clearly_worse() -> None:
    hard_and_easy = np.array([0.5, 0.1, 0.4, 0.2, 0.3])

    def judged(losses: Any) -> JudgedHead:
        return JudgedHead(0.9, 1.0, 1.0, 0.3, 0.3, 100, np.asarray(losses))

    # A little better on each fold is better, however much the folds differ.
    better = hard_and_easy - np.array([0.02, 0.03, 0.02, 0.03, 0.02])
    assert simplest([judged(hard_and_easy), judged(better)]) == 1
    mixed = hard_and_easy + np.array([0.05, -0.06, 0.05, -0.06, 0.01])
    assert simplest([judged(hard_and_easy), judged(mixed)]) == 0
    assert simplest([judged(better), judged(hard_and_easy)]) == 0


def test_a_head_for_a_fold_depends_on_nothing_outside_its_training_images(backbone: Path) -> None:
    network = open_backbone(str(backbone), prepare="-1..1")
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = random.normal(size=(60, network.units[0])).astype(np.float32)
    features[:, :3] += 3 * np.eye(3, dtype=np.float32)[labels]
    train, asked = np.arange(40), np.arange(40, 50)

    def answers() -> Any:
        search = HeadSearch(
            BackboneFeatures(network, (16, 16, 3), network.at[:1], ("whole",)),
            features,
            labels=labels,
            units=np.arange(60),
            assumed=np.full(3, 1 / 3),
            wanted=None,
            seed=0,
            threads=1,
        )
        chosen = search.choose(train, train[:0], FitProgress())
        return chosen.choice, search.answer(chosen, train, asked).probabilities

    choice, before = answers()
    features[50:], labels[40:] = 7, 0
    again, after = answers()
    assert choice == again
    np.testing.assert_array_equal(before, after)


def test_judged_only_once(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = coloured((30, 30))
    files = [trained(data, backbone, tmp_path, head="kernel-ridge").path / "classifier.onnx"]
    for module, name in ((backbone_head, "judge"), (heads, "eigh"), (heads, "cho_factor")):
        monkeypatch.setattr(module, name, None)  # would fail
    files.append(trained(data, backbone, tmp_path, head="kernel-ridge").path / "classifier.onnx")
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("each", [4, 40])
def test_components_know_no_validation_image(each: int, backbone: Path) -> None:
    network = open_backbone(str(backbone), prepare="-1..1")
    random = np.random.default_rng(0)
    count = 3 * each
    features = random.normal(size=(count, network.units[0])).astype(np.float32)
    train, val = np.arange(count - 6), np.arange(count - 6, count)
    head = backbone_head.Head("logistic")
    choice = HeadChoice(head=head, at=network.at[:1], views=("whole",), also=6)

    labels, parts = np.arange(count) % 3, {"train": train, "val": val}

    def weights() -> Any:
        chosen = fit_as(choice, network, (16, 16, 3), features, labels, classes=3, **parts)
        return chosen.held_out.projection.weight

    before = weights()
    features[val] *= 7
    np.testing.assert_array_equal(before, weights())


def test_kernels_are_fitted_to_a_limited_number_of_images(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone_head, "_MOST", 30)
    run = trained(coloured((40, 40, 40)), backbone, tmp_path / "runs", head="kernel-ridge")
    assert run.report.training.fitted_to == pytest.approx(30, abs=1)  # by rounding
    assert run.report.judged.accuracy > 0.8


def test_folds_show_how_far_a_head_leans_towards_common_classes() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [240, 50, 20])
    points = (1.5 * np.eye(3, 40)[labels] + random.normal(size=(310, 40))).astype(np.float32)
    folds = folds_of(labels, np.arange(310), 0)
    shares = np.bincount(labels) / 310
    strong, weak = (
        judge(head, points, labels, folds, assumed=shares, progress=FitProgress())
        for head in (backbone_head.Head("logistic", c) for c in (0.01, 1.0))
    )
    assert strong.mix_power > 1.3
    assert weak.mix_power < 0.9


def test_answers_assume_the_training_mix(backbone: Path, tmp_path: Path) -> None:
    data = coloured((120, 30, 10), test_fraction=0.2)
    run = trained(data, backbone, tmp_path / "runs")
    mix = run.classifier().metadata.class_mix
    assert mix is not None
    shares = np.bincount(data.labels[data.split.train]) / len(data.split.train)
    np.testing.assert_allclose(mix.assumed, shares)
    # The scores imply a power of it.
    powers = np.log(mix.learnt) - np.log(mix.learnt[0])
    np.testing.assert_allclose(powers[1] / powers[2], np.log(4) / np.log(12), rtol=0.05)
    found = run.classifier().probabilities(np.asarray(data.images[data.split.test]))
    np.testing.assert_allclose(found.mean(axis=0), shares, atol=0.08)
