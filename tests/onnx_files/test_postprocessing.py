"""What a file is given after its training changes what it should, and nothing else."""

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies as st
from onnx import TensorProto
from scipy.special import softmax

from opsin.core.metadata import Calibration, Metadata
from opsin.evaluation.out_of_distribution import ClassPrototypes
from opsin.onnx_files.postprocessing import (
    Calibrated,
    End,
    GraphWriter,
    answers_to,
    finished,
    model_of,
    tail,
)
from tests.made_classifier import metadata
from tests.onnx_files.made_files import computed

CLASSES, UNITS = 4, 6


def content_of_a_tail() -> bytes:
    to = GraphWriter()
    tail(to, "logits", "seen", classes=CLASSES, units=UNITS)
    sizes = ("logits", CLASSES), ("seen", UNITS)
    ends: list[End] = [(name, TensorProto.FLOAT, (size,)) for name, size in sizes]
    ends += answers_to(classes=CLASSES, units=UNITS)
    model = model_of(to, "tail", *ends, inputs=2)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@given(seed=st.integers(0, 99), temperature=st.floats(0.05, 20))
def test_the_file_computes_what_was_measured(seed: int, temperature: float) -> None:
    random = np.random.default_rng(seed)
    content = content_of_a_tail()
    logits = random.normal(0, 5, (20, CLASSES)).astype(np.float32)
    seen = random.normal(size=(20, UNITS)).astype(np.float32)
    seen[0] = 0
    before = computed(content, logits=logits, seen=seen)
    assert before["probabilities"] == pytest.approx(softmax(logits, axis=1), abs=1e-6)
    assert (before["ood_score"] == 1).all()
    known = ClassPrototypes.of(seen, random.integers(0, 3, 20), CLASSES)
    calibration = Calibration(temperature=temperature, images=20, log_loss=(1.0, 0.5))
    told = metadata(classes=CLASSES).model_copy(update={"calibration": calibration})
    calibrated = Calibrated(temperature, known.scales, known.directions)
    content = finished(content, told, calibrated)
    after = computed(content, logits=logits, seen=seen)
    probabilities, scores = after["probabilities"], after["ood_score"]
    assert probabilities == pytest.approx(softmax(logits / temperature, axis=1), abs=1e-5)
    assert (probabilities.argmax(axis=1) == before["probabilities"].argmax(axis=1)).all()
    assert np.array_equal(after["embedding"], seen)
    for one, other in zip(calibrated.answer(logits, seen), (probabilities, scores), strict=True):
        assert np.array_equal(one, other)
    assert scores == pytest.approx(known.ood_score(seen), abs=1e-6)
    props = onnx.load_model_from_string(content).metadata_props
    assert Metadata.from_props({each.key: each.value for each in props}, "x") == told
