"""Classifiers from elsewhere as runs: measured, looked into, compared, built on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import opsin
from opsin.core.errors import RecipeError, RunError
from tests.conftest import Train, a_few
from tests.importing.made_keras import drawn, image, layer, sequential, write_h5, write_keras
from tests.onnx_files.made_files import model_file

CLASSES = tuple("0123456789")
Import = Callable[..., opsin.Run]


@pytest.fixture(scope="module")
def learnt() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).reshape(-1, 64) / 255
    model = LogisticRegression(C=10, max_iter=500).fit(pixels, digits.target)
    return model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)


@pytest.fixture
def digits_file(learnt: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], tmp_path: Path) -> Path:
    config = sequential(
        image(8, 8),
        layer("Flatten", "flatten"),
        layer("Dense", "scores", units=10, activation="softmax"),
    )
    return write_keras(tmp_path / "digits.keras", config, {"scores": learnt})


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    runs = tmp_path / "runs"
    return functools.partial(opsin.import_model, prepare="0..1", runs=runs, quiet=True)


def foreign_onnx(
    path: Path, learnt: Any, *last: onnx.NodeProto, shape: tuple[Any, ...] = ("N", 1, 8, 8)
) -> Path:
    """Write the same as another program would export it."""
    weight, bias = learnt
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["scores"]),
        *last,
    ]
    held = {"flat": np.array([-1, 64], np.int64), "weight": weight, "bias": bias}
    taken = ("x", TensorProto.FLOAT, shape)
    path.write_bytes(model_file(nodes, held, taken, {"y": None}, opset=17, maker="maker"))
    return path


@pytest.mark.slow
@pytest.mark.drawn
def test_with_images_it_is_a_run_like_others(
    digits_file: Path, imported: Import, train: Train
) -> None:
    run = imported(digits_file, data="digits")
    assert run.accuracy > 0.95
    report = run.report
    assert report.training.elsewhere
    assert (report.calibration, report.reject) == (None, None)
    assert "had never seen" not in run.directory.page.read_text(encoding="utf-8")
    assert run.imported().maker == "Keras 3.15.1"
    assert run.recipe.model.name == "imported"
    assert run.summary().state == "done"
    own = train("digits", model="logistic")
    found = opsin.compare(run, own)
    assert found.images == report.judged.images
    assert any("whether it learnt from these images is unknown" in n for n in found.notes)
    assert opsin.evaluate(run, "digits").accuracy == run.accuracy
    assert [row.name for row in run.classifier().metadata.layers] == ["flatten", "scores"]
    assert opsin.inspect(run).page


def test_the_answers_stay_what_they_were(digits_file: Path, learnt: Any, imported: Import) -> None:
    weight, bias = learnt
    images = np.rint(load_digits().images[:50] * (255 / 16)).astype(np.uint8)
    logits = images.reshape(-1, 64) / 255 @ weight + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    run = imported(digits_file, classes=CLASSES)
    prepared = images[..., None]
    np.testing.assert_allclose(run.classifier().probabilities(prepared), shares, atol=1e-5)
    found = run.classifier().predict(images[0])
    assert found.rejected is None  # there is no threshold: it cannot be told
    np.testing.assert_allclose(list(found.probabilities.values()), shares[0], atol=1e-5)


def test_without_images_it_answers_and_says_what_it_cannot(
    digits_file: Path, imported: Import
) -> None:
    run = imported(digits_file, classes=CLASSES)
    assert opsin.evaluate(run, "digits").accuracy > 0.95
    assert run.summary().state == "done"
    with pytest.raises(RunError, match="opsin import FILE --data SOURCE"):
        opsin.write_report(run)
    with pytest.raises(RunError, match="was imported"):
        opsin.resume(run)


SOFTMAX = [helper.make_node("Softmax", ["scores"], ["y"], axis=1)]
FORMS: dict[str, tuple[list[onnx.NodeProto], tuple[Any, ...], str]] = {
    "logits": ([helper.make_node("Identity", ["scores"], ["y"])], ("N", 1, 8, 8), "logits"),
    "softmax": (SOFTMAX, ("N", 1, 8, 8), "before its softmax"),
    "channels last": (SOFTMAX, ("N", 8, 8, 1), "before its softmax"),
    "one image": (SOFTMAX, (1, 1, 8, 8), "before its softmax"),
    "rows of pixels": (SOFTMAX, ("N", 64), "before its softmax"),
    "no axis for grey": (SOFTMAX, ("N", 8, 8), "before its softmax"),
    "probabilities without softmax": (
        [
            helper.make_node("Exp", ["scores"], ["large"]),
            helper.make_node("ReduceL1", ["large"], ["sum"], axes=[1], keepdims=1),
            helper.make_node("Div", ["large", "sum"], ["y"]),
        ],
        ("N", 1, 8, 8),
        "logarithms",
    ),
}


@pytest.mark.parametrize("form", a_few(FORMS, 2))
def test_onnx_of_any_maker(form: str, learnt: Any, tmp_path: Path, imported: Import) -> None:
    last, shape, words = FORMS[form]
    file = foreign_onnx(tmp_path / "other.onnx", learnt, *last, shape=shape)
    run = imported(file, data="digits")
    assert run.accuracy > 0.95
    assert words in run.imported().answers
    assert run.imported().maker == "maker"


def test_classes_come_from_beside_or_are_asked_for(
    digits_file: Path, tmp_path: Path, imported: Import
) -> None:
    with pytest.raises(RecipeError, match=r"10 classes.*--classes"):
        imported(digits_file)
    with pytest.raises(RecipeError, match="not 2 as given"):
        imported(digits_file, classes=["a", "b"])
    with pytest.raises(RecipeError, match=r"2 classes of .* have one name: a\b.*each its own"):
        imported(digits_file, classes=list("abcdefghia"))
    labels = digits_file.with_name("labels.txt")
    labels.write_text("".join(f"{n} digit {n}\n" for n in range(10)), encoding="utf-8")
    run = imported(digits_file)
    assert run.classifier().classes[:2] == ("digit 0", "digit 1")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"labels": list("abcdefghij")}), encoding="utf-8")
    run = imported(digits_file, classes_from=names)
    assert run.classifier().classes[:2] == ("a", "b")
    assert run.imported().classes_from == "of names.json"


def test_pixels_are_asked_for_and_never_guessed(
    digits_file: Path, tmp_path: Path, imported: Import
) -> None:
    with pytest.raises(RecipeError, match=r"the pixels .*--prepare with one of"):
        imported(digits_file, classes=CLASSES, prepare=None)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    scaled = sequential(
        image(8, 8, 1),
        layer("Rescaling", "scale", scale=1 / 255, offset=0.0),
        layer("Flatten", "flatten"),
        layer("Dense", "scores", units=10),
    )
    file = write_keras(tmp_path / "s.keras", scaled, {"scores": [drawn(64, 10), drawn(10)]})
    run = imported(file, classes=CLASSES, prepare=None)
    assert run.imported().pixels == "grey, 0 to 255 (its layer scale scales them)"


def test_a_network_of_16_bits(tmp_path: Path, imported: Import) -> None:
    half, weight = TensorProto.FLOAT16, drawn(16, 3).astype(np.float16)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["y"]),
    ]
    held = {"weight": weight, "shape": np.array([-1, 16], np.int64)}
    file, taken = tmp_path / "half.onnx", ("x", half, ["N", 1, 4, 4])
    file.write_bytes(model_file(nodes, held, taken, {"y": ["N", 3]}, kind=half))
    run = imported(file, classes=["a", "b", "c"])
    found = run.classifier().predict(np.full((4, 4), 255, np.uint8)).probabilities
    logits = weight.astype(np.float64).sum(axis=0)
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([found[name] for name in "abc"], shares, atol=1e-2)


def test_one_number_is_the_second_of_two_classes(tmp_path: Path, imported: Import) -> None:
    config = sequential(
        image(4, 4, 1),
        layer("Flatten", "flatten"),
        layer("Dense", "one", units=1, activation="sigmoid"),
    )
    weights = [drawn(16, 1), drawn(1)]
    file = write_h5(tmp_path / "one.h5", config, {"one": weights})
    run = imported(file, classes=["no", "yes"])
    pixels = np.full((4, 4), 255, np.uint8)
    share = 1 / (1 + np.exp(-(weights[0].sum() + weights[1][0])))
    found = run.classifier().predict(pixels)
    assert found.probabilities["yes"] == pytest.approx(share, abs=1e-5)
    assert [row.name for row in run.classifier().metadata.layers] == ["flatten", "one"]
