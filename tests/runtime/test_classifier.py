"""A classifier.onnx answers for any image, and says what it did."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from opsin.core.errors import ImageError, ModelFileError, RecipeError
from opsin.core.metadata import Metadata, Views
from opsin.core.stored_json import plain_data
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier, shifted_views
from opsin.runtime.prediction import Prediction
from tests.data.test_network_pixels import photograph


@pytest.fixture
def classifier(nearest_mean: Path) -> Classifier:
    return Classifier(nearest_mean)


def test_one_by_one_is_the_same_as_all_at_once(classifier: Classifier, digits: Dataset) -> None:
    rows = digits.split.test[:300]
    together = classifier.probabilities(digits.images[rows])
    batches = np.concatenate(
        [part.probabilities for part in classifier.iter_answers(digits.images, rows)]
    )
    assert np.array_equal(together, batches)
    for row, answer in zip(rows[:20], together, strict=False):
        one = classifier.predict(digits.images[row])
        assert one.label == digits.classes[int(answer.argmax())]
        assert one.confidence == pytest.approx(float(answer.max()), abs=1e-6)


def test_an_answer_is_whole(classifier: Classifier, digits: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "a <b>.png"
    Image.fromarray(digits.images[0, :, :, 0]).save(file)
    answer = classifier.predict(file)
    assert isinstance(answer, Prediction)
    assert answer.name == str(file)
    assert answer.top(2)[0] == (answer.label, answer.confidence)
    assert len(answer.top(3)) == 3
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert plain_data(answer)["label"] == answer.label
    page = answer._repr_html_()
    assert "<b>.png" not in page
    assert "a &lt;b&gt;.png" in page


def test_pickled_it_needs_no_file(nearest_mean: Path, digits: Dataset, tmp_path: Path) -> None:
    copied = shutil.copy(nearest_mean, tmp_path / "a <b>.onnx")
    classifier = Classifier(copied, threads=1)
    content = pickle.dumps(classifier)
    Path(copied).unlink()
    again = pickle.loads(content)
    assert (again.path, again.threads) == (Path(copied), 1)
    images = digits.images[:50]
    assert np.array_equal(again.probabilities(images), classifier.probabilities(images))


def test_a_photograph_is_turned_and_it_is_said(classifier: Classifier, digits: Dataset) -> None:
    right = as_is = 0
    for row in digits.split.test[:60]:
        photo = photograph(digits.images[row, :, :, 0])
        answer = classifier.predict(photo)
        assert answer.notes == ("light background turned dark, as in training",)
        right += answer.label == digits.classes[digits.labels[row]]
        untouched = classifier.predict(photo, as_is=True)
        assert untouched.notes == ()
        as_is += untouched.label == digits.classes[digits.labels[row]]
    assert right >= 40
    assert right > as_is + 20


def test_each_of_a_list_is_answered(
    classifier: Classifier, digits: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    image = digits.images[0, :, :, 0]
    Image.fromarray(image).save(file)
    given = [file, str(file), file.read_bytes(), image, Image.fromarray(image), image[None] / 255]
    answers = classifier.predict(given)
    alone = classifier.predict(file)
    assert [answer.label for answer in answers] == [alone.label] * len(given)
    assert [answer.name for answer in answers[:3]] == [str(file), str(file), "image 2"]
    assert answers[-1].notes == ("numbers from 0 to 1 taken as black to white",)
    assert classifier.predict(()) == []
    with pytest.raises(RecipeError, match="a list of 6"):
        classifier.predict(given, name="a")  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="image 1 is of type list"):
        classifier.predict([image, [image]])


def test_prepared_images_of_another_shape_are_told(classifier: Classifier, digits: Dataset) -> None:
    images = digits.images[:3]
    whole = classifier.probabilities(images)
    assert np.array_equal(classifier.probabilities(images[..., 0]), whole)
    assert np.array_equal(classifier.probabilities(images.astype(np.int64)), whole)
    wrongs: tuple[tuple[Any, str], ...] = (
        (images[0], r"images\[None\]"),
        (images[:, :4], r"prepare first: classifier.prepare"),
        (images / 255, r"\(255.0 \* images\)"),
        (images - 0.5, "from -0.5"),
        ([images[0]], "list"),
    )
    for wrong, words in wrongs:
        with pytest.raises(ImageError, match=words):
            classifier.probabilities(wrong)
        with pytest.raises(ImageError, match=words):
            classifier.answers(wrong)
    with pytest.raises(RecipeError, match="below 3"):
        list(classifier.iter_answers(images, np.array([3])))


def test_layers_are_fetched_by_name(classifier: Classifier, digits: Dataset) -> None:
    images = digits.images[:3]
    layers = classifier.layers(images, ["flatten", "input"])
    assert list(layers) == ["flatten", "input"]
    np.testing.assert_allclose(layers["input"], images / np.float32(255), rtol=1e-6)
    assert layers["flatten"].shape == (3, 64)
    with pytest.raises(ModelFileError, match=r"conv9 is no layer.*input, flatten, head"):
        classifier.layers(images, ["conv9"])


def with_views(file: Path, folder: Path, **said: Any) -> Classifier:
    """Copy a file, and let it say what views its training had, and what they did."""
    model = onnx.load(file)
    known = {each.key: each.value for each in model.metadata_props}
    metadata = Metadata.from_props(known, str(file)).model_copy(update={"views": Views(**said)})
    onnx.helper.set_model_props(model, metadata.to_props())
    folder.mkdir()
    onnx.save_model(model, folder / "classifier.onnx")
    return Classifier(folder / "classifier.onnx")


def test_views_that_helped_are_averaged(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    helped = {"images": 180, "gained": 9, "lost": 1, "p": 0.02, "helped": True}
    classifier = with_views(nearest_mean, tmp_path / "own", flip=True, shift=2, **helped)
    rows = digits.split.test[:40]
    prepared = [classifier.prepare(digits.images[row], str(row)) for row in rows]
    averaged = classifier.predict_prepared(prepared, tta=True)
    seen = list(shifted_views(digits.images[rows], flip=True, shift=2))
    assert len(seen) == 2  # mirrored, and too small to be moved
    by_hand = np.mean([classifier.probabilities(view) for view in seen], 0)
    for row, answer, wanted in zip(rows, averaged, by_hand, strict=True):
        assert list(answer.probabilities.values()) == pytest.approx(wanted, abs=1e-6)
        assert answer.label == digits.classes[int(wanted.argmax())]
        assert answer == classifier.predict(digits.images[row], tta=True, name=str(row))
        assert answer.ood_score == classifier.predict(digits.images[row]).ood_score
        assert answer.notes == ()
    plain = classifier.predict_prepared(prepared)
    assert any(one.confidence != two.confidence for one, two in zip(averaged, plain, strict=True))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "this file does not say which test-time views suit it"),
        ({"flip": False, "shift": 0}, "its training varied nothing"),
        (
            {"flip": True, "shift": 2, "images": 180, "gained": 2, "lost": 2},
            "do not help this classifier on its 180 validation images: 2 put right, 2 put wrong",
        ),
    ],
)
def test_views_that_did_not_help_or_are_unknown_are_not_used(
    nearest_mean: Path, digits: Dataset, tmp_path: Path, said: dict[str, Any] | None, words: str
) -> None:
    classifier = with_views(nearest_mean, tmp_path / "own", **said) if said else None
    classifier = classifier or Classifier(nearest_mean)
    images = [digits.images[row] for row in digits.split.test[:20]]
    plain, asked = classifier.predict(images), classifier.predict(images, tta=True)
    for one, other in zip(plain, asked, strict=True):
        assert other.probabilities == one.probabilities
        (note,) = other.notes
        assert words in note
        assert note.endswith("; not used")


@pytest.mark.parametrize(("side", "step"), [(28, 1), (64, 1), (128, 2), (224, 4)])
def test_views_are_moved_by_a_small_share(side: int, step: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, side, side + 8, 3), np.uint8)
    plain, *moved = shifted_views(images, flip=False, shift=8)
    assert plain is images
    assert len(moved) == 4
    inner = slice(step, -step)
    ways = {(down, right) for down in (-step, step) for right in (-step, step)}
    for view in moved:
        assert view.shape == images.shape
        found = {
            way
            for way in ways
            if np.array_equal(view[:, inner, inner], np.roll(images, way, (1, 2))[:, inner, inner])
        }
        assert len(found) == 1
        ways -= found


def test_what_comes_into_sight_repeats_the_border() -> None:
    images = np.arange(28 * 28, dtype=np.uint16).astype(np.uint8).reshape(1, 28, 28, 1)
    view = list(shifted_views(images, flip=False, shift=1))[1][0, :, :, 0]
    assert np.array_equal(view[1:, 1:], images[0, :-1, :-1, 0])
    assert np.array_equal(view[0], view[1])
    assert np.array_equal(view[:, 0], view[:, 1])


def test_mirrored_views_are_those_of_the_mirrored_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 39, 37, 1), np.uint8)
    both = list(shifted_views(images, flip=True, shift=3))
    alone = list(shifted_views(np.ascontiguousarray(images[:, :, ::-1]), flip=False, shift=3))
    assert len(both) == 10
    assert all(np.array_equal(one, two) for one, two in zip(both[5:], alone, strict=True))
