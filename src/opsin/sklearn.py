"""A scikit-learn estimator that trains a run and predicts with its file."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError, InputError, MissingExtraError, RecipeError, SourceError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError("estimators of scikit-learn", "classical") from error

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.commands.report import without_page
from opsin.commands.runs import Run
from opsin.commands.train.load import model_asked, open_given
from opsin.commands.train.train import train
from opsin.core.events import SILENT
from opsin.core.recipe import DATA_OPTIONS, DataRecipe, refuse_unknown
from opsin.data.dataset import Dataset, load_recipe
from opsin.data.lazy_images import Images, decode_lazily
from opsin.data.pixel_values import to_bytes
from opsin.data.sources import arrays
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import UNASSIGNED
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import choose

#: Training options that do not apply here: `fit` gets all images, and `random_state` is the seed.
NOT_HERE: Final = (
    *("test", "test_fraction", "fold", "parts_of", "classes", "labels", "columns"),
    *("follow_links", "outside", "seed"),
)
#: The others, each a parameter to search over.
OPTIONS: Final = tuple(name for name in TRAIN_OPTIONS if name not in NOT_HERE)

_NO_LABELS: Final = "no_validation"  # scikit-learn's marker for "nothing to check"
_SAY_RANGE: Final = "Say which values are black and white, such as value_range=(0, 1)."


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An image classifier for scikit-learn's pipelines, searches and cross-validation.

    ``X`` holds images in one of three forms: an array ``[N, H, W]`` or ``[N, H, W, C]`` with one or
    three channels; rows of pixels ``[N, F]``, whose ``image_shape`` must then be given; or names of
    files. ``y`` holds labels of any kind. All images are for training: those for validation (early
    stopping, calibration) are cut from them, and there is no test part.

    Following scikit-learn, parameters are stored unchanged and checked by `fit`.

    Args:
        model: ``auto``, a network, or a model without layers, as for `opsin.train`.
        image_shape: ``(H, W)`` or ``(H, W, C)`` of the image that each row holds; one of them may
            be -1, as for `numpy.reshape`.
        value_range: The values of black and white in arrays; values outside are clipped.
            ``None``: integers from 0 to 255, or ``bool``.
        budget: Time that `fit` may take, in seconds or as ``10m``.
        random_state: Same seed, data and machine: same classifier. ``None`` draws a seed.
        runs: Folder for run directories, with figures and page (default: a temporary folder,
            without them, that goes with ``run_``).
        **options: Every other option that says how to prepare images and train: ``backbone``,
            ``size``, ``epochs``, ``c`` … (`opsin.train`); ``None`` means "the default".

    Attributes:
        classes_: The labels, sorted, ``[K]``.
        run_: The run, an `opsin.Run`. A temporary one stays behind when the estimator is pickled.
        classifier_: The trained `opsin.Classifier`.
        image_shape_: Shape of the fitted images, ``(H, W, C)``; ``None`` for files.
        n_features_in_: Pixels of a row, if rows were given.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> estimator = ImageClassifier("logistic", image_shape=(8, 8), value_range=(0, 16))
        >>> estimator.fit(X[:900], y[:900]).score(X[900:], y[900:]) > 0.85
        True
        >>> estimator.predict_proba(X[:3]).shape
        (3, 10)
    """

    def __init__(
        self,
        model: str = "auto",
        *,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        budget: str | float | None = None,
        random_state: int | np.random.RandomState | None = 0,
        runs: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.value_range = value_range
        self.budget = budget
        self.random_state = random_state
        self.runs = runs
        refuse_unknown(options, OPTIONS)
        for name in OPTIONS:
            setattr(self, name, options.get(name))

    def fit(self, X: Any, y: Any) -> ImageClassifier:  # noqa: N803  scikit-learn's name
        """Train on images and their labels.

        Args:
            X: Images in one of the forms above, ``[N, …]``.
            y: A label for each, ``[N]``.

        Raises:
            InputError: Images or labels cannot be fitted; it is a `ValueError`, too.
            ValueError: scikit-learn rejects the rows or labels.
            RecipeError: A parameter has an invalid value.
            MissingExtraError: A network is requested, and PyTorch is not installed.
        """
        images, labels = self._read(X, y)
        options = {name: _plain(getattr(self, name)) for name in OPTIONS}
        options = {name: value for name, value in options.items() if value is not None}
        model = model_asked(self.model, options)
        if "backbone" in options:  # images get its size, as in `opsin.train`
            open_given("X", options, offline=False, watcher=SILENT)
        data = {name: options.pop(name) for name in DATA_OPTIONS if name in options}
        device = str(options.get("device", "auto"))
        self.run_ = self._train(_dataset(images, labels, data), model=model, **options)
        self.classifier_ = Classifier(self.run_, threads=1, device=choose(device, needed=False))
        self.classes_ = np.unique(labels)
        self.image_shape_ = None if isinstance(images, list) else images.shape[1:]
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most probable label of each image, ``[N]``.

        Args:
            X: Images of the fitted shape, or file names.

        Raises:
            InputError: They have another shape, or other values; it is a `ValueError`, too.
            ImageError: A file cannot be read.
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, ``float64[N, K]``, in the order of ``classes_``.

        Arguments and errors are those of `predict`.
        """
        check_is_fitted(self, "classifier_")
        inputs, _ = self._read(X)
        preparation = self.classifier_.metadata.preparation
        images: Images
        if isinstance(inputs, list):
            images = decode_lazily(inputs, inputs, preparation)
        else:
            shape = inputs.shape[1:]
            if self.image_shape_ not in (None, shape):
                fitted, got = ("×".join(map(str, sides)) for sides in (self.image_shape_, shape))
                raise InputError(f"X has images of {got}; those that were fitted have {fitted}")
            images = inputs
            if shape != preparation.shape:
                names = [f"image {row}" for row in range(len(inputs))]
                images = decode_lazily(inputs, names, preparation)
        probabilities = self.classifier_.probabilities(images).astype(np.float64)
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        dropped = {"run_"} if self.runs is None else set()
        return {name: v for name, v in super().__getstate__().items() if name not in dropped}

    def _train(self, dataset: Dataset, **options: Any) -> Run:
        seed = _plain(self.random_state)
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        options |= {"budget": _plain(self.budget), "seed": seed, "quiet": True}
        if self.runs is not None:
            return train(dataset, runs=self.runs, **options)
        folder = tempfile.mkdtemp(prefix="opsin-")
        try:
            with without_page():
                run = train(dataset, runs=folder, **options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
        return run

    def _read(self, X: Any, y: Any = _NO_LABELS) -> tuple[NDArray[np.uint8] | list[str], Any]:  # noqa: N803
        """Images ``uint8[N, H, W, C]``, or files, and the labels for `fit`."""
        fits = y is not _NO_LABELS
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit on rows
            if fits and hasattr(self, name):
                delattr(self, name)
        files = _files(X)
        inputs: Any = X if files is None else files
        if files is None and not hasattr(X, "ndim"):
            with _source_errors_as_input_errors():
                inputs = arrays.as_array(X, "X")
        if files is None and inputs.ndim < 3:
            inputs, y = self._rows(inputs, y, fits=fits)
        elif fits:
            y = validate_data(self, X=_NO_LABELS, y=y)
            check_consistent_length(inputs, y)
        if fits:
            check_classification_targets(y)
        return _pixels(inputs, self.value_range) if files is None else files, y

    def _rows(self, X: Any, y: Any, *, fits: bool) -> tuple[NDArray[Any], Any]:  # noqa: N803
        """Rows of pixels as images ``[N, H, W]`` or ``[N, H, W, C]``."""
        shape = self.image_shape
        if shape is None and X.ndim == 2:
            raise InputError(
                f"X has rows of {X.shape[1]:,} values",
                "Say what image a row is, such as image_shape=(8, 8), for its height and width.",
            )
        result = validate_data(self, X, y, reset=fits)
        rows, y = result if fits else (result, y)
        try:
            return rows.reshape(len(rows), *(shape or ())), y
        except (ValueError, TypeError) as error:
            raise InputError(
                f"image_shape={shape!r} does not fit rows of {rows.shape[1]:,} values"
            ) from error


def _files(X: Any) -> list[str] | None:  # noqa: N803
    """A list of names as files; ``None`` for anything else."""
    if getattr(X, "ndim", 1) != 1 or isinstance(X, str | bytes) or not hasattr(X, "__iter__"):
        return None
    if not isinstance(next(iter(X), None), str | os.PathLike):
        return None
    try:
        return [str(os.fsdecode(name)) for name in X]  # not of NumPy, which would be an array
    except TypeError as error:
        raise InputError(f"X does not hold names of files alone ({error})") from error


@contextlib.contextmanager
def _source_errors_as_input_errors() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise InputError(error.message, error.advice) from error


def _pixels(images: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Scale values to 0 (black) to 255 (white), by their known range, not by the data."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if value_range is not None:
        try:
            low, high = (float(end) for end in value_range)
        except (TypeError, ValueError):
            low = high = 0.0
        if not (np.isfinite([low, high]).all() and low != high):
            raise RecipeError(f"value_range is such as (0, 1), not {value_range!r}")
        if images.dtype.kind not in "biuf" or not np.isfinite(images).all():
            raise InputError(f"X must hold finite numbers; it is {images.dtype} or holds NaN")
        shares = (images.astype(np.float64) - low) / (high - low)
        return np.asarray((255 * shares.clip(0, 1)).round(), np.uint8)
    if images.dtype.kind == "f" and np.array_equal(images, images.round()):
        images = images.astype(np.int64)  # 0 and 1 are greys, whatever else is in the batch
    try:
        pixels, note = to_bytes(images, "X")
    except ImageError as error:
        raise InputError(error.message, _SAY_RANGE) from error
    if note and images.dtype.kind == "f":
        raise InputError(f"X has {note.partition(' taken')[0]}, not 0 to 255", _SAY_RANGE)
    return pixels


def _dataset(
    images: NDArray[np.uint8] | list[str], labels: Any, options: dict[str, Any]
) -> Dataset:
    """The images as a dataset for training, with a validation part."""
    recipe = DataRecipe.of("X", test_fraction=0.0, **options)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y has one class ({classes[0]}); two or more are expected")
    with _source_errors_as_input_errors():
        if isinstance(images, list):
            contents = LabelledImages(
                source="X",
                classes=tuple(map(str, classes)),
                labels=codes.astype(np.int64),
                source_parts=np.full(len(codes), UNASSIGNED, np.uint8),
                names=images,
                images=images,
            )
        else:
            contents = arrays.from_arrays(images, codes, tuple(map(str, classes)), source="X")
        dataset = load_recipe(recipe, located=contents.located())
    if dataset.unreadable:
        name, reason = dataset.unreadable[0]
        warnings.warn(
            f"{len(dataset.unreadable):,} of {len(codes):,} files cannot be read and are left out "
            f"({name}: {reason}).",
            stacklevel=3,
        )
    return dataset


def _plain(value: Any) -> Any:
    """Convert a NumPy scalar, as in a search's grid, to Python's."""
    return value.item() if isinstance(value, np.generic) else value


# Each option has a name in `__init__`, where scikit-learn looks for parameters.
_SIGNATURE: Final = inspect.signature(ImageClassifier.__init__)
_LAST: Final = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=None)
ImageClassifier.__init__.__signature__ = _SIGNATURE.replace(  # type: ignore[attr-defined]
    parameters=[
        *list(_SIGNATURE.parameters.values())[:-1],
        *(_LAST.replace(name=name) for name in OPTIONS),
    ]
)
