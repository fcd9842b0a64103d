"""Keras and scikit-learn themselves judge what is imported."""

import os
import subprocess
from pathlib import Path

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


def test_answers_are_those_of_keras(tmp_path: Path) -> None:
    subprocess.run(
        [JUDGE, ROOT / "tests" / "importing" / "keras_networks.py", tmp_path],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        check=True,
        capture_output=True,
    )
    files = sorted(each for each in tmp_path.iterdir() if each.suffix in (".keras", ".h5"))
    assert len(files) >= 2 * 79
    apart = {}
    for file in files:
        model = convert(file).model
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        with np.load(file.with_suffix(".npz")) as judged:
            images, wanted = judged["images"], judged["answers"]
        (found,) = session.run(None, {session.get_inputs()[0].name: images})
        scale = max(1.0, float(np.abs(wanted).max()))
        difference = float(np.abs(found - wanted).max()) / scale
        labels = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        if difference > 1e-4 or labels:
            apart[file.name] = (difference, labels)
    assert apart == {}


def test_answers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    script = ROOT / "tests" / "importing" / "sklearn_estimators.py"
    subprocess.run([JUDGE, script, tmp_path], check=True, capture_output=True)
    files = sorted(tmp_path.glob("*.skops"))
    assert len(files) == 90
    apart = {}
    for file in files:
        with np.load(file.with_suffix(".npz")) as judged:
            images, wanted = judged["images"], judged["answers"]
        converted = convert_estimator(file)
        found = computed(converted, images)
        if wanted.ndim == 1:
            wanted = np.stack([-wanted / 2, wanted / 2], axis=1)
        if converted.form == "scores":
            wanted = softmax(wanted, axis=1)
        difference = float(np.abs(found - wanted).max())
        labels = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        if difference > 1e-4 or labels:
            apart[file.name] = (difference, labels)
    assert apart == {}
