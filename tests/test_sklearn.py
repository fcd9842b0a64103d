"""The estimator does what scikit-learn asks of one, where that applies to images."""

import gc
import os
import pickle
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import opsin
from opsin.core.errors import ImageError, InputError, RecipeError
from opsin.sklearn import ImageClassifier
from tests.conftest import write_shapes
from tests.processes import python

PAGE = (Path(__file__).parents[1] / "docs/how-to/scikit-learn.md").read_text(encoding="utf-8")
# The checks feed rows of any numbers: each is an image of one row, black at -3 and white at 3.
CHECKED = ImageClassifier("logistic", image_shape=(1, -1), value_range=(-3, 3))
#: The exceptions, as the page states them: each must fail, and pass with other values.
EXCEPTIONS = {
    check: (why, (float(low), float(high)))
    for check, why, low, high in re.findall(
        r"^\| `(check_\w+)` \| (.+) \| `value_range=\((\d+), (\d+)\)` \|$", PAGE, re.MULTILINE
    )
}


@parametrize_with_checks(
    [CHECKED], expected_failed_checks=lambda _: {name: why for name, (why, _) in EXCEPTIONS.items()}
)
def test_a_check_of_scikit_learn_passes(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_passes_with_its_values(name: str) -> None:
    estimator = clone(CHECKED).set_params(value_range=EXCEPTIONS[name][1])
    getattr(estimator_checks, name)("ImageClassifier", estimator)


@pytest.mark.docs
def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "photos")
    estimator, _, _ = PAGE.partition("## Side by side")  # which test_side_by_side.py runs
    blocks = re.findall(r"```python\n(.*?)```", estimator, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/how-to/scikit-learn.md", "exec"), names)
    assert names["search"].best_score_ > 0.8
    assert set(tmp_path.iterdir()) == {tmp_path / "photos"}


@pytest.fixture(scope="module")
def scans() -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of 64 values from 0 to 16, and what they show."""
    rows, labels = load_digits(return_X_y=True)
    return rows[:500], labels[:500]


@pytest.fixture(scope="module")
def fitted(scans: tuple[NDArray[Any], NDArray[Any]]) -> ImageClassifier:
    rows, labels = scans
    return logistic(image_shape=(8, 8), value_range=(0, 16)).fit(rows[:300], labels[:300])


def logistic(**options: Any) -> ImageClassifier:
    """Return an estimator that is quick to fit and needs no PyTorch."""
    return ImageClassifier("logistic", **options)


def test_rows_and_images_in_any_type_are_the_same(scans: Any, fitted: ImageClassifier) -> None:
    rows, labels = scans
    images = (255 * rows / 16).round().reshape(-1, 8, 8)
    expected = fitted.predict_proba(rows[300:])
    assert fitted.score(rows[300:], labels[300:]) > 0.85
    assert expected.sum(axis=1) == pytest.approx(1, abs=1e-12)
    for same in (images.astype(np.uint8), images, images[..., None].astype(np.int64).tolist()):
        other = logistic().fit(same[:300], labels[:300])
        assert np.array_equal(other.predict_proba(same[300:]), expected)
    assert (fitted.n_features_in_, fitted.image_shape_) == (64, (8, 8, 1))
    # A row says nothing of its shape.
    wide = logistic(image_shape=(4, -1), value_range=(0, 16)).fit(rows[:300], labels[:300])
    assert wide.image_shape_ == (4, 16, 1)


def test_files_are_what_a_folder_of_them_is(shapes: Path, tmp_path: Path) -> None:
    folder = opsin.train(
        shapes, model="logistic", test_fraction=0, size=16, runs=tmp_path, quiet=True
    )
    files = [shapes / name for name in opsin.load(shapes).names]
    labels = [file.parent.name for file in files]
    estimator = logistic(size=16).fit(files, labels)
    images = [np.asarray(Image.open(file)) for file in files]
    answers = folder.classifier().predict(files, as_is=True)
    theirs = np.array([[*answer.probabilities.values()] for answer in answers])
    assert estimator.predict_proba(list(map(str, files))) == pytest.approx(theirs, abs=1e-7)
    assert np.array_equal(estimator.predict_proba(images), estimator.predict_proba(files))
    own, other = (
        run.directory.load_arrays(run.directory.split) for run in (estimator.run_, folder)
    )
    assert all(np.array_equal(own[part], other[part]) for part in ("train", "val", "test"))
    assert estimator.score(np.array(list(map(str, files))), labels) > 0.8
    assert not hasattr(estimator, "n_features_in_")


def test_scikit_learn_searches_and_validates(scans: Any) -> None:
    rows, labels = scans
    folds = StratifiedKFold(3)
    scale = FunctionTransformer(lambda rows: (rows * 255 / 16).round())
    pipeline = Pipeline([("scale", scale), ("classifier", logistic(image_shape=(8, 8)))])
    assert cross_val_score(pipeline, rows, labels, cv=folds).mean() > 0.85
    grid = {"classifier__c": np.array([1e-6, 1.0])}
    found = GridSearchCV(pipeline, grid, cv=folds, error_score="raise").fit(rows, labels)
    assert found.best_params_ == {"classifier__c": 1.0}
    assert found.best_estimator_[-1].run_.recipe.model.c == 1.0


_ASK = """
import pickle, sys
import numpy as np
estimator = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[3], estimator.predict_proba(np.load(sys.argv[2])))
print(hasattr(estimator, "run_"), estimator.classes_.tolist())
"""


@pytest.mark.slow
def test_a_pickle_answers_the_same_where_there_is_no_run(scans: Any, tmp_path: Path) -> None:
    rows, labels = scans
    estimator = logistic(image_shape=(8, 8), value_range=(0, 16)).fit(rows[:200], labels[:200])
    expected, run = estimator.predict_proba(rows), estimator.run_.path
    (tmp_path / "estimator").write_bytes(pickle.dumps(estimator))
    joblib.dump(estimator, tmp_path / "joblib")
    np.save(tmp_path / "rows.npy", rows)
    assert run.is_dir()
    del estimator
    gc.collect()
    assert not run.parent.exists()  # a temporary run goes with its estimator
    words = ["estimator", "rows.npy", "answers.npy"]
    env = os.environ | {"OPSIN_CACHE": str(tmp_path / "another cache")}
    done = python("-W", "error", "-c", _ASK, *words, cwd=tmp_path, env=env)
    assert done.stdout.split(maxsplit=1) == ["False", f"{list(range(10))}\n"]
    assert np.array_equal(np.load(tmp_path / "answers.npy"), expected)
    assert np.array_equal(joblib.load(tmp_path / "joblib").predict_proba(rows), expected)


def test_what_a_value_means_depends_on_no_other(scans: Any) -> None:
    rows, labels = scans
    estimator = logistic(image_shape=(8, 8)).fit(rows[:300], labels[:300])
    dark = np.minimum(rows[:4], 1)  # a batch of nothing but 0 and 1
    together = estimator.predict_proba(np.concatenate([dark, rows[4:8]]))[:4]
    assert np.array_equal(estimator.predict_proba(dark), together)
    with pytest.raises(InputError, match=r"fractions? |numbers from 0 to 1.*value_range=\(0, 1\)"):
        estimator.predict(rows[:4] / 16)
    ranged = logistic(image_shape=(8, 8), value_range=(16, 0))  # black on white
    answers = ranged.fit(16 - rows[:300], labels[:300]).predict_proba(16 - rows[300:])
    bright = logistic(image_shape=(8, 8), value_range=(0, 16)).fit(rows[:300], labels[:300])
    assert np.array_equal(answers, bright.predict_proba(rows[300:]))


_IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
_LABELS = [0, 1] * 6
REFUSED = {
    "rows": (logistic(), _IMAGES.reshape(12, 64), _LABELS, r"rows of 64 values.*image_shape"),
    "channels": (logistic(), _IMAGES.reshape(12, 8, 4, 2), _LABELS, r"uint8\[12, 8, 4, 2\]"),
    "ragged": (logistic(), [np.zeros((8, 8)), np.zeros((9, 8))], [0, 1], "np.stack"),
    "fractions": (logistic(), _IMAGES / 300, _LABELS, r"value_range=\(0, 1\)"),
    "NaN": (logistic(value_range=(0, 1)), np.full((12, 8, 8), np.nan), _LABELS, "NaN"),
    "one class": (logistic(), _IMAGES, [1] * 12, r"one class \(1\)"),
    "no such files": (logistic(), ["a.png", "b.png", "c.png", "d.png"], [0, 1, 0, 1], "a.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_a_value_error(case: str) -> None:
    estimator, images, labels, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        estimator.fit(images, labels)
    assert not hasattr(estimator, "run_")


def test_another_shape_is_refused_and_files_have_any(
    fitted: ImageClassifier, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"X has images of 9×8×1; .* 8×8×1"):
        fitted.predict(np.zeros((3, 9, 8)))
    with pytest.raises(ValueError, match="expecting 64 features"):
        fitted.predict(np.zeros((3, 60)))
    with pytest.raises(NotFittedError):
        logistic().predict(_IMAGES)
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert fitted.predict([tmp_path / "a.png"]).shape == (1,)
    with pytest.raises(ImageError, match=r"b\.png"):
        fitted.predict([tmp_path / "a.png", tmp_path / "b.png"])


def test_every_option_is_a_parameter_that_can_be_searched_over() -> None:
    from opsin.classical.classical_recipe import TRAIN_OPTIONS
    from opsin.sklearn import NOT_HERE, OPTIONS

    assert {*OPTIONS, *NOT_HERE} == set(TRAIN_OPTIONS)
    parameters = set(logistic().get_params())
    assert set(OPTIONS) < parameters
    own = {"model", "image_shape", "value_range", "budget", "random_state", "runs"}
    assert parameters - set(OPTIONS) == own
    with pytest.raises(RecipeError, match="no option nonsense"):
        ImageClassifier(nonsense=1)


@pytest.mark.slow
def test_images_are_prepared_as_the_backbone_takes_them(
    nearest_mean: Path, shapes: Path, tmp_path: Path
) -> None:
    files = [shapes / name for name in opsin.load(shapes).names]
    estimator = ImageClassifier(backbone=nearest_mean)
    estimator.fit(files, [file.parent.name for file in files])
    folder = opsin.train(shapes, backbone=nearest_mean, test_fraction=0, runs=tmp_path, quiet=True)
    assert estimator.run_.recipe.data.size == folder.recipe.data.size != (24, 24)
    assert estimator.run_.recipe.model == folder.recipe.model
    assert set(estimator.predict(files)) <= {"disc", "square"}
