"""A dense head on the last features of a pretrained network, with which fine-tuning begins."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.backbones.backbone import Backbone
from opsin.classical.backbone_features import BackboneFeatures
from opsin.classical.classical_recipe import Logistic
from opsin.classical.fit import Fitted
from opsin.core.errors import MissingExtraError

try:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

# Inverse strength of its regularisation, on standardised features.
_C: Final = 0.01
_ITERATIONS: Final = 200


def linear_probe(
    backbone: Backbone,
    shape: tuple[int, int, int],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    classes: int,
) -> Fitted:
    """Fit multinomial logistic regression to the first of the features that are asked for.

    A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022: a head that fits already leaves the features as they are.

    Args:
        backbone: Whose features they are.
        shape: Height, width and channels of the prepared images.
        features: Of the whole images, ``float32[N, D]``.
        labels: ``int64[N]``
        classes: K.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(features.std(axis=0, dtype=np.float64), 1e-3)
    estimator = LogisticRegression(C=_C, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit((features - mean) / deviation, labels)
    # On features as they come: the same answers, and one dense layer in the file.
    estimator.coef_ = estimator.coef_ / deviation
    estimator.intercept_ = estimator.intercept_ - estimator.coef_ @ mean
    own = BackboneFeatures(backbone, shape, backbone.at[:1], ("whole",))
    return Fitted(Logistic(c=_C), own, None, estimator, labels, classes)
