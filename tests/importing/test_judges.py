"""Keras and scikit-learn themselves judge what is imported."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.special import softmax

from opsin.importing.keras_to_onnx import convert
from opsin.importing.skops_to_onnx import convert_estimator
from tests.importing.test_skops_to_onnx import computed

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / ".venv-keras" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not JUDGE.exists(), reason="no Keras: make .venv-keras/ready"),
]


def judged(file: Path) -> tuple[Any, Any]:
    """The images that a file was tried with, and the judge's answers."""
    with np.load(file.with_suffix(".npz")) as kept:
        return kept["images"], kept["answers"]


def differing(file: Path, found: Any, wanted: Any, scale: float = 1.0) -> dict[str, Any]:
    """The file with its largest difference and the number of other labels; nothing if alike."""
    difference = float(np.abs(found - wanted).max()) / scale
    labels = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    return {file.name: (difference, labels)} if difference > 1e-4 or labels else {}


def test_answers_are_those_of_keras(tmp_path: Path) -> None:
    subprocess.run(
        [JUDGE, ROOT / "tests" / "importing" / "keras_networks.py", tmp_path],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        check=True,
        capture_output=True,
    )
    files = sorted(each for each in tmp_path.iterdir() if each.suffix in (".keras", ".h5"))
    assert len(files) >= 2 * 79
    apart: dict[str, Any] = {}
    for file in files:
        model = convert(file).model
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        images, wanted = judged(file)
        (found,) = session.run(None, {session.get_inputs()[0].name: images})
        apart |= differing(file, found, wanted, scale=max(1.0, float(np.abs(wanted).max())))
    assert apart == {}


def test_answers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    script = ROOT / "tests" / "importing" / "sklearn_estimators.py"
    subprocess.run([JUDGE, script, tmp_path], check=True, capture_output=True)
    files = sorted(tmp_path.glob("*.skops"))
    assert len(files) == 90
    apart: dict[str, Any] = {}
    for file in files:
        images, wanted = judged(file)
        converted = convert_estimator(file)
        found = computed(converted, images)
        if wanted.ndim == 1:
            wanted = np.stack([-wanted / 2, wanted / 2], axis=1)
        if converted.form == "scores":
            wanted = softmax(wanted, axis=1)
        apart |= differing(file, found, wanted)
    assert apart == {}
