"""The device is the best that is there; what fails on it, the CPU computes, with one line."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import parser

import opsin
from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset
from opsin.runtime import providers
from opsin.runtime.providers import Session, choose, cpu_session, installed
from tests.conftest import Notes

LINUX = ["AzureExecutionProvider", "CPUExecutionProvider"]
NVIDIA = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
MAC = ["CoreMLExecutionProvider", *LINUX]
WINDOWS = ["DmlExecutionProvider", "CPUExecutionProvider"]
INTEL = ["OpenVINOExecutionProvider", "CPUExecutionProvider"]


def network(body: str) -> bytes:
    text = f'<ir_version: 9, opset_import: ["": 20]> g (float[N] x) => (float[M] y) {{ {body} }}'
    return bytes(parser.parse_model(text).SerializeToString())


TWICE = network("y = Add(x, x)")
#: Can be opened, and never computed: three numbers are no square.
BROKEN = network(
    "s = Constant<value_ints = [7, 7]>() z = Reshape(x, s) y = ReduceSum<keepdims=0>(z)"
)
VALUES = {"x": np.array([1, 2, 3], np.float32)}


@pytest.fixture(autouse=True)
def _nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_failed", set())


@pytest.mark.parametrize(
    ("asked", "available", "device"),
    [
        ("auto", LINUX, "cpu"), ("auto", NVIDIA, "cuda"), ("auto", WINDOWS, "directml"),
        ("auto", INTEL, "openvino"), ("auto", MAC, "cpu"), ("cpu", NVIDIA, "cpu"),
        ("cuda:1", NVIDIA, "cuda:1"), ("tensorrt", NVIDIA, "tensorrt"), ("mps", MAC, "coreml"),
    ],
)  # fmt: skip
def test_the_best_is_chosen_of_what_is_there(
    asked: str, available: list[str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    assert choose(asked) == device


def test_what_is_not_there_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: INTEL)
    with pytest.raises(RecipeError) as caught:
        choose("cuda:1")
    assert "no cuda, only cpu, openvino" in caught.value.message
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in caught.value.advice
    assert choose("cuda:1", needed=False) == "cpu"


def test_a_device_that_does_not_start_leaves_the_work_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if "cuda" not in installed():  # then it is as if the libraries were missing
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: NVIDIA)
    notes = Notes()
    session = Session(TWICE, "auto", watcher=notes)
    if session.device != "cpu":
        pytest.skip("this machine has a GPU")
    assert session.run(["y"], VALUES)[0].tolist() == [2, 4, 6]
    # One line a process, whoever asks again and how.
    assert Session(TWICE, "cuda", watcher=notes).device == "cpu"
    assert capfd.readouterr() == ("", "")
    (note,) = notes.notes
    assert note.startswith("cuda cannot be used (")
    assert note.endswith("): the CPU computes instead")


def test_a_run_that_fails_is_computed_on_the_cpu_once_for_all_threads(stand_in: str) -> None:
    notes = Notes()
    session = Session(TWICE, stand_in, threads=1, watcher=notes)
    assert session.device == stand_in
    session.opened = cpu_session(BROKEN)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: session.run(["y"], VALUES)[0].tolist(), range(32))]
    assert found == [[2, 4, 6]] * 32
    assert session.device == "cpu"
    assert len(notes.notes) == 1
    assert "Reshape" in notes.notes[0]
    assert Session(TWICE, stand_in).device == "cpu"


def test_a_device_is_not_blamed_for_what_the_cpu_cannot_compute_either(stand_in: str) -> None:
    notes = Notes()
    session = Session(BROKEN, stand_in, watcher=notes)
    with pytest.raises(Exception, match="Reshape"):
        session.run(["y"], VALUES)
    with pytest.raises(ValueError, match="missing"):
        session.run(["y"], {})
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        Session(b"\x08\x08no network", stand_in, watcher=notes)
    assert session.device == stand_in
    assert notes.notes == []


@pytest.mark.parametrize("device", installed() or ["none"])
def test_answers_agree_with_the_cpus(device: str, nearest_mean: Path, digits: Dataset) -> None:
    if device == "none":
        pytest.skip("this ONNX Runtime has the CPU only")
    there = opsin.Classifier(nearest_mean, device=device)
    found = there.probabilities(digits.images)
    if there.device == "cpu":
        pytest.skip(f"{device} cannot be used here")
    exact = opsin.Classifier(nearest_mean, device="cpu").probabilities(digits.images)
    assert np.abs(found - exact).max() <= 1e-3
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() >= 0.999


def test_a_classifier_says_where_it_computes_and_a_copy_does_what_it_can(
    stand_in: str, nearest_mean: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = opsin.Classifier(nearest_mean, device=stand_in)
    exact = opsin.Classifier(nearest_mean, device="cpu")
    assert (classifier.device, exact.device) == (stand_in, "cpu")
    images = digits.images[:50]
    assert np.array_equal(classifier.probabilities(images), exact.probabilities(images))
    layer = classifier.layers(images, ["head"])["head"]
    assert np.array_equal(layer, exact.layers(images, ["head"])["head"])
    copied = pickle.dumps(classifier)
    assert pickle.loads(copied).device == stand_in
    monkeypatch.delitem(providers._PROVIDERS, stand_in)
    assert pickle.loads(copied).device == "cpu"
