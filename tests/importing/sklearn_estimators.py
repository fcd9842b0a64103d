"""Estimators that scikit-learn fits and skops saves, and what they answer; run where both are."""

import sys
import warnings
from pathlib import Path

import numpy as np
import skops.io
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

IMAGES = 32
CLASSIFIERS = {
    "logistic": LogisticRegression(max_iter=50),
    "forest": RandomForestClassifier(50, random_state=0),
    "extra": ExtraTreesClassifier(50, random_state=0),
    "neighbours": KNeighborsClassifier(), "kd": KNeighborsClassifier(3, algorithm="kd_tree"),
    "ball": KNeighborsClassifier(3, algorithm="ball_tree"), "machine": SVC(),
    "linear": SVC(kernel="linear"),
    "weighted": SVC(class_weight="balanced", decision_function_shape="ovr"),
}  # fmt: skip
STEPS = {
    "alone": (), "standard": (StandardScaler(),), "range": (MinMaxScaler((-1, 1), clip=True),),
    "pca": (PCA(20),), "white": (StandardScaler(), PCA(20, whiten=True)),
}  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    digits = load_digits()
    noise = np.random.default_rng(0).integers(0, 16, digits.images.shape)
    images = (np.rint(digits.images * 15) + noise).astype(np.uint8)
    names = np.array([f"digit {number}" for number in range(10)])[digits.target]
    for name, classifier in CLASSIFIERS.items():
        for steps_name, steps in STEPS.items():
            for classes in (2, 10):
                chosen = np.flatnonzero(digits.target < classes)
                train, test = chosen[:-IMAGES], chosen[-IMAGES:]
                rows = images.reshape(len(images), -1) / 255
                estimator = make_pipeline(*steps, classifier) if steps else classifier
                estimator.fit(rows[train], names[train])
                scores = isinstance(classifier, SVC)
                answer = estimator.decision_function if scores else estimator.predict_proba
                stem = folder / f"{name}-{steps_name}-{classes}"
                skops.io.dump(estimator, f"{stem}.skops")
                np.savez(f"{stem}.npz", images=images[test], answers=answer(rows[test]))


if __name__ == "__main__":
    main()
