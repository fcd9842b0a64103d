"""A worker decodes what it may, computes it alone or together, and says what went wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, strategies as st
from onnx import helper, numpy_helper

from opsin.core.errors import ImageError, ModelFileError
from opsin.runtime import providers
from opsin.runtime.classifier import Classifier
from opsin.server.worker import load, prepare, size_of
from tests.served import encoded
from tests.server.made_engine import write_leaning


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_leaning(tmp_path / "plain.onnx", 0)


@pytest.fixture(scope="module")
def means(nearest_mean: Path) -> Classifier:
    return Classifier(nearest_mean, threads=1)


def test_a_broken_file_is_named_as_the_user_knows_it(plain: Path) -> None:
    header = {
        "path": "runs/demo/classifier.onnx",
        "batch_invariant": True,
        "max_batch": None,
        "device": "cpu",
    }
    with pytest.raises(ModelFileError, match=r"classifier\.onnx is no classifier that Opsin wrote"):
        load(b"nothing", header)
    # One that ONNX Runtime opens and cannot compute: it wants a column that is not there.
    network = onnx.load_model(plain)
    places = numpy_helper.from_array(np.array([0, 1, 999], np.int64), "places")
    network.graph.initializer.append(places)
    softmax = network.graph.node[-1]
    pick = helper.make_node("Gather", ["logits", "places"], ["picked"], axis=1)
    network.graph.node.insert(len(network.graph.node) - 1, pick)
    softmax.input[0] = "picked"
    with pytest.raises(ModelFileError, match=r"classifier\.onnx gives no sound answers"):
        load(network.SerializeToString(), header)
    model, known = load(plain.read_bytes(), header)
    assert known["embedding"] == 16
    assert known["metadata"]["classes"] == ["class 0", "class 1", "class 2"]
    assert model.classifier.classes == ("class 0", "class 1", "class 2")
    assert known["device"] == "cpu"


def test_only_the_cpu_is_asked_for_the_same_bits_in_any_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leaning = write_leaning(tmp_path / "leaning.onnx", 1e-4).read_bytes()
    header = {"path": "it", "batch": 16, "batch_invariant": None, "max_batch": None}
    _, exact = load(leaning, header | {"device": "cpu"})
    assert (exact["device"], exact["batch_invariant"]) == ("cpu", False)
    for provider, device in (("AzureExecutionProvider", "openvino"), ("Nothing", "cpu")):
        if provider == "Nothing":  # it is said to be there, and cannot be used
            monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["Nothing"])
        elif provider not in onnxruntime.get_available_providers():
            continue
        monkeypatch.setattr(providers, "_failed", set())
        monkeypatch.setitem(
            providers._PROVIDERS, "openvino", providers._Provider(provider, "install it", {})
        )
        _, known = load(leaning, header | {"device": "auto"})
        assert (known["device"], known["batch_invariant"]) == (device, device != "cpu")
    assert [record.message[:30] for record in caplog.records] == ["openvino cannot be used (Speci"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_size_in_a_header(kind: str) -> None:
    assert size_of(encoded(np.zeros((7, 5, 3), np.uint8), kind)) == (5, 7)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8"])
)
def test_no_bytes_end_a_worker(means: Classifier, content: bytes, start: bytes) -> None:
    try:
        prepare(means, memoryview(start + content), None, as_is=False, max_pixels=10**6)
    except ImageError as error:
        assert "/" not in str(error)
