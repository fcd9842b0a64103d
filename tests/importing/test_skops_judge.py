"""scikit-learn itself judges what is imported: estimators that it fits and skops saves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from opsin.importing.skops_to_onnx import convert_estimator
from tests.importing.test_skops_to_onnx import computed

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / ".venv-keras" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not JUDGE.exists(), reason="no skops: make .venv-keras/ready"),
]


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
