"""What a file is given after its training changes what it should, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.special import softmax

from opsin.core.metadata import Calibration, Metadata, Preparation
from opsin.evaluation.out_of_distribution import ClassPrototypes
from opsin.onnx_files.postprocessing import (
    Calibrated,
    GraphWriter,
    as_model,
    finished,
    outputs,
    tail,
)

CLASSES, UNITS = 4, 6


def write_file(path: Path) -> Metadata:
    to = GraphWriter()
    tail(to, "logits", "seen", classes=CLASSES, units=UNITS)
    taken = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", units])
             for name, units in (("logits", CLASSES), ("seen", UNITS))]  # fmt: skip
    answered = outputs(classes=CLASSES, units=UNITS)
    model = as_model(helper.make_graph(to.nodes, "tail", taken, answered, to.weights))
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    return Metadata(
        opsin="1", model="mlp", classes=tuple("abcd"), layers=(), source="x", fingerprint="f",
        preparation=Preparation(height=2, width=2, channels=1, resize="fit"),
    )  # fmt: skip


def answers(
    path: Path, logits: NDArray[np.float32], seen: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["probabilities", "embedding", "ood_score"]
    found: list[NDArray[np.float32]] = session.run(names, {"logits": logits, "seen": seen})
    return found


@given(seed=st.integers(0, 99), temperature=st.floats(0.05, 20))
def test_the_file_computes_what_was_measured(
    tmp_path_factory: pytest.TempPathFactory, seed: int, temperature: float
) -> None:
    random = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("tail") / "classifier.onnx"
    metadata = write_file(path)
    logits = random.normal(0, 5, (20, CLASSES)).astype(np.float32)
    seen = random.normal(size=(20, UNITS)).astype(np.float32)
    seen[0] = 0
    before = answers(path, logits, seen)
    assert before[0] == pytest.approx(softmax(logits, axis=1), abs=1e-6)
    assert (before[2] == 1).all()
    known = ClassPrototypes.of(seen, random.integers(0, 3, 20), CLASSES)
    calibration = Calibration(temperature=temperature, images=20, log_loss=(1.0, 0.5))
    told = metadata.model_copy(update={"calibration": calibration})
    calibrated = Calibrated(temperature, known.scales, known.directions)
    path.write_bytes(finished(path.read_bytes(), told, calibrated))
    probabilities, embedding, scores = answers(path, logits, seen)
    assert probabilities == pytest.approx(softmax(logits / temperature, axis=1), abs=1e-5)
    assert (probabilities.argmax(axis=1) == before[0].argmax(axis=1)).all()
    assert np.array_equal(embedding, seen)
    for one, other in zip(calibrated.answer(logits, seen), (probabilities, scores), strict=True):
        assert np.array_equal(one, other)
    assert scores == pytest.approx(known.ood_score(seen), abs=1e-6)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    props = session.get_modelmeta().custom_metadata_map
    assert Metadata.from_props(props, "x") == told
