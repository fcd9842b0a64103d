"""The file answers as scikit-learn does, and every layer can be fetched from it by name."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import opsin
from opsin.classical.classical_recipe import PIXEL_MODELS, Knn
from opsin.classical.fit import FitProgress, Fitted, Pooling, fit
from opsin.classical.fitted_file import Written, check_parity
from opsin.core.metadata import Preparation
from opsin.onnx_files.postprocessing import TREES
from tests.made_classifier import metadata

SHAPE = (9, 7, 3)


def noisy_images(count: int, classes: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Draw noisy images whose classes differ in brightness and place: uint8[N, 9, 7, 3]."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = random.integers(0, 120, (count, *SHAPE))
    for place, label in enumerate(labels):
        images[place, label % 9, :, label % 3] += 60
    return images.astype(np.uint8), labels


def fitted(name: str, classes: int, **options: Any) -> Fitted:
    growing = {"trees": 12} if name == "forest" else {}
    model = PIXEL_MODELS[name](**{**growing, **options})
    return fitted_to(model, *noisy_images(20 * classes, classes), classes)


def fitted_to(model: Any, images: NDArray[np.uint8], labels: NDArray[Any], classes: int) -> Fitted:
    pooling = Pooling.to_fit(SHAPE, model.side)
    given: dict[str, Any] = {"classes": classes, "seed": 0, "threads": 1}
    return fit(model, pooling, pooling.rows_of(images), labels, progress=FitProgress(), **given)


def content_of(model: Fitted) -> bytes:
    written = Written(model)
    like = Preparation(height=9, width=7, channels=3, resize="fit")
    about = {"preparation": like, "layers": tuple(written.layers)}
    return written.content(metadata(classes=model.classes).model_copy(update=about))


def opened(content: bytes) -> opsin.Classifier:
    return opsin.Classifier.of_content(Path("classifier.onnx"), content, most=None)


@pytest.mark.parametrize("side", [32, 4])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_file_and_scikit_learn_agree(name: str, classes: int, side: int) -> None:
    model = fitted(name, classes, side=side)
    images, labels = noisy_images(60, classes, seed=1)
    classifier = opened(content_of(model))
    assert check_parity(classifier, model, images) < 2e-5
    if model.projection is None:  # the file sees the pixels of the fitting to the bit
        embedding = classifier.answers(images, embedding=True).embedding
        assert np.array_equal(np.asarray(embedding), model.numbers.rows_of(images))
    answers = model.probabilities(model.embedding(images))
    assert np.mean(answers.argmax(axis=1) == labels) > 1.5 / classes


@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_every_layer_can_be_fetched(name: str, tmp_path: Path) -> None:
    model = fitted(name, 3)
    written = Written(model)
    path = tmp_path / "classifier.onnx"
    content = content_of(model)
    assert content == content_of(fitted(name, 3))
    path.write_bytes(content)
    domains = {entry.domain for entry in onnx.load_model_from_string(content).opset_import}
    assert domains == ({"", TREES} if name == "forest" else {""})
    classifier = opsin.Classifier(path)
    images, _ = noisy_images(10, 3, seed=2)
    names = [layer.name for layer in written.layers]
    assert names[0] == "input"
    assert names[-1] == "head"
    found = classifier.layers(images, [*names, "embedding"])
    for layer in written.layers:
        assert found[layer.name].shape[1:] == layer.shape
        assert found[layer.name].dtype == np.float32
    np.testing.assert_allclose(found["embedding"], model.embedding(images), atol=1e-5)
    if "votes" in names:
        np.testing.assert_allclose(found["votes"].sum(axis=1), 1, atol=1e-5)
    # What the temperature is fitted to are the logits of the answers.
    logits = found["head"].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, classifier.probabilities(images), atol=1e-6)


def test_a_file_of_another_model_or_other_pixels_does_not_pass() -> None:
    model = fitted("logistic", 3)
    content = content_of(model)
    model.estimator.intercept_[0] += 2
    with pytest.raises(opsin.ParityError, match="differ by up to"):
        check_parity(opened(content), model, noisy_images(60, 3)[0])
    model = fitted("svm", 3)
    content = content_of(model)
    model.projection.mean_ += 0.01  # the file was written before
    with pytest.raises(opsin.ParityError, match="what they are computed from"):
        check_parity(opened(content), model, noisy_images(60, 3)[0])


def test_neighbours_at_one_distance_are_not_held_against_the_file() -> None:
    """Copies of one image with different labels: which of them vote is nobody's to say."""
    images = np.repeat(noisy_images(4, 2)[0], 40, axis=0)
    labels = np.random.default_rng(0).integers(0, 2, 160)
    model = fitted_to(Knn(neighbours=3), images, labels, 2)
    rows, content = model.numbers.rows_of(images), content_of(model)
    # The same images in another order: others of the copies vote.
    model.estimator.fit(model.projection.transform(rows)[::-1], labels[::-1])
    others = model.probabilities(model.embedding(images))
    session = onnxruntime.InferenceSession(content)
    (answers,) = session.run(["probabilities"], {"images": images})
    assert np.any(others.argmax(axis=1) != answers.argmax(axis=1))
    assert check_parity(opened(content), model, images) == 0


def test_more_neighbours_or_components_than_images_are_all_there_are() -> None:
    model = fitted("knn", 2, neighbours=1_000, components=4_096)
    assert model.estimator.n_neighbors == 40
    images, _ = noisy_images(20, 2, seed=1)
    assert check_parity(opened(content_of(model)), model, images) < 2e-5


def test_a_forest_in_steps_is_the_forest_at_once() -> None:
    from sklearn.ensemble import RandomForestClassifier

    model = fitted("forest", 3, trees=25)
    images, labels = noisy_images(120, 3)
    rows = model.numbers.rows_of(images)
    whole = RandomForestClassifier(25, max_leaf_nodes=2_000, random_state=0)
    whole.fit(rows[:60], labels[:60])
    assert np.array_equal(whole.predict_proba(rows), model.estimator.predict_proba(rows))
