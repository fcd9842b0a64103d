"""Estimators of scikit-learn answer as they do there."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

import opsin
from opsin.importing.answers import Converted
from opsin.importing.skops_to_onnx import convert_estimator
from tests.importing.made_skops import Members, Node, attributes, plain, write_skops
from tests.onnx_files import made_files

NAMES = np.array([f"digit {number}" for number in range(10)])


@cache
def digits() -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return images, no two at the same distance from a third, and the names of their classes."""
    found = load_digits()
    noise = np.random.default_rng(0).integers(0, 14, found.images.shape)
    images = np.rint(found.images * (240 / 16)).astype(np.int64) + noise
    return images[..., None].astype(np.uint8), NAMES[found.target]


def fitted(estimator: Any, *only: str) -> Any:
    images, labels = digits()
    rows = np.flatnonzero(np.isin(labels, only or NAMES))[:400]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few iterations
        return estimator.fit(images[rows].reshape(len(rows), -1) / 255, labels[rows])


def computed(converted: Converted, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    onnx.checker.check_model(converted.model, full_check=True)
    rows = images.reshape(len(images), -1) / 255
    content, output = converted.model.SerializeToString(), str(converted.output)
    found = made_files.computed(content, [output], rows=rows)[output]
    if converted.form in ("logits", "scores"):
        found = softmax(found, axis=1)
    probabilities: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
    return probabilities


def imported(path: Path) -> opsin.Run:
    return opsin.import_model(path, prepare="0..1", runs=path.parent / "runs", quiet=True)


TWO = ("digit 3", "digit 8")
CASES: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "logistic": (LogisticRegression(max_iter=20), (), "logits"),
    "logistic of two": (LogisticRegression(max_iter=20), TWO, "logits"),
    "forest": (RandomForestClassifier(10, random_state=0), (), "probabilities"),
    "extra trees": (ExtraTreesClassifier(5, random_state=0), (), "probabilities"),
    "neighbours": (KNeighborsClassifier(3), (), "probabilities"),
    "machine": (SVC(), (), "scores"),
    "machine of two": (SVC(), TWO, "scores"),
    "linear machine": (SVC(kernel="linear"), (), "scores"),
    "scaled machine": (make_pipeline(StandardScaler(), PCA(20), SVC()), (), "scores"),
    "scaled forest": (
        make_pipeline(PCA(20, whiten=True), RandomForestClassifier(5, random_state=0)),
        (), "probabilities",
    ),
    "scaled neighbours": (
        make_pipeline(MinMaxScaler((-1, 1), clip=True), "passthrough", KNeighborsClassifier(3)),
        (), "probabilities",
    ),
    "scaled logistic": (
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=20)),
        (), "logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_scikit_learn_does(case: str, tmp_path: Path) -> None:
    estimator, only, form = CASES[case]
    estimator = fitted(estimator, *only)
    converted = convert_estimator(write_skops(tmp_path / "model.skops", estimator))
    found = computed(converted, digits()[0][-32:])
    rows = digits()[0][-32:].reshape(32, -1) / 255
    if form == "scores":
        scores = estimator.decision_function(rows)
        if scores.ndim == 1:
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        wanted = softmax(scores, axis=1)
    else:
        wanted = estimator.predict_proba(rows)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()
    assert converted.form == form
    assert converted.classes == tuple(estimator.classes_)


def test_a_pixel_has_the_last_bit_that_a_division_gives(tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))
    pixels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(pixels[:, None, None, None], (256, 4, 4, 1))
    rows = images.reshape(256, 16) / 255
    seen = pixels % 3 != 1  # each other pixel lies in the middle of a split
    estimator.fit(rows[seen], NAMES[(pixels + 1) // 3 % 2][seen])
    run = imported(write_skops(tmp_path / "model.skops", estimator))
    found = run.classifier().layers(images, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(found, estimator.predict_proba(rows), atol=1e-4)


def test_its_steps_are_layers(tmp_path: Path) -> None:
    estimator = fitted(make_pipeline(StandardScaler(), PCA(20), RandomForestClassifier(5)))
    run = imported(write_skops(tmp_path / "model.skops", estimator))
    layers = run.classifier().metadata.layers
    assert [(row.name, row.kind, row.shape) for row in layers] == [
        ("standardscaler_1", "StandardScaler", (64,)),
        ("pca_2", "PCA", (20,)),
        ("randomforestclassifier_3", "5 trees", (10,)),
    ]
    assert [row.parameters for row in layers[:2]] == [128, 20 * 64 + 64]
    found = run.classifier().layers(digits()[0][:2], ["pca_2"])["pca_2"]
    rows = digits()[0][:2].reshape(2, -1) / 255
    np.testing.assert_allclose(found, estimator[:2].transform(rows), atol=1e-4)
    assert run.classifier().predict(digits()[0][0]).label in NAMES
    assert run.imported().classes_from == "as in the file"
    assert run.imported().maker.startswith("scikit-learn 1.")
    assert run.imported().network == ("Pipeline of StandardScaler, PCA and RandomForestClassifier")


def as_objects(schema: Node, members: Members) -> None:
    stored = attributes(schema)["classes_"]
    del members[stored.pop("file")]
    stored |= {"type": "json", "content": [plain(str(name)) for name in NAMES]}


def test_names_of_classes_may_be_objects(tmp_path: Path) -> None:
    path = write_skops(
        tmp_path / "model.skops", fitted(LogisticRegression(max_iter=5)), changed=as_objects
    )
    assert convert_estimator(path).classes == tuple(NAMES)


@pytest.mark.parametrize(
    ("option", "way", "classes"),
    [("multi_class", "multinomial", TWO), ("multi_class", "ovr", ()), ("solver", "liblinear", ())],
)
def test_answers_as_earlier_versions_gave_them_are_refused(
    option: str, way: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    def earlier(schema: Node, _: Members) -> None:
        attributes(schema)[option] = plain(way)

    estimator = fitted(LogisticRegression(max_iter=5), *classes)
    path = write_skops(tmp_path / "model.skops", estimator, changed=earlier)
    with pytest.raises(opsin.ModelFileError, match=f"{option}={way}"):
        convert_estimator(path)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (KNeighborsClassifier(3, weights="distance"), "KNeighborsClassifier has weights=distance"),
        (KNeighborsClassifier(3, metric="manhattan"), "effective_metric_=manhattan"),
        (SVC(kernel="poly"), "kernel poly"),
        (make_pipeline(MinMaxScaler(), PCA(3)), "its PCA"),
        (StandardScaler(), "its StandardScaler"),
    ],
)
def test_what_is_not_known_is_named(estimator: Any, reason: str, tmp_path: Path) -> None:
    images, labels = digits()
    rows = images[:64].reshape(64, -1) / 255
    path = write_skops(tmp_path / "model.skops", estimator.fit(rows, labels[:64]))
    with pytest.raises(opsin.ModelFileError, match=reason) as refusal:
        convert_estimator(path)
    assert "ONNX" not in str(refusal.value)  # as which it would be refused again
