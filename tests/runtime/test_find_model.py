"""MODEL is a path, or a name on the hub; what exists is a path."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.hub.hub_name import HubName
from opsin.runtime.model_check import find_model
from tests.backbones.small_networks import network
from tests.conftest import Notes
from tests.hub_server import COMMIT, HubServer

NAME = "hf:someone/digits"


@pytest.fixture
def published(hub: HubServer, nearest_mean: Path) -> HubServer:
    hub.publish(
        "someone/digits",
        {"classifier.onnx": nearest_mean.read_bytes(), "other.onnx": b"x", "README.md": b"x"},
    )
    return hub


def test_it_answers_as_the_file_that_was_published(
    published: HubServer, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    notes = Notes()
    there = opsin.Classifier(NAME, watcher=notes)
    assert there.published == HubName("someone/digits", COMMIT)
    assert there.title == f"{NAME}@{COMMIT}"
    assert notes.notes == [f"someone/digits is at commit {COMMIT[:12]}"]
    images = digits.images[:32]
    own = opsin.Classifier(nearest_mean)
    assert own.title == str(nearest_mean)
    assert np.array_equal(there.probabilities(images), own.probabilities(images))
    assert [path for _, path, _ in published.asked if path.startswith("/content/")] == [
        "/content/someone/digits/classifier.onnx"
    ]
    published.asked.clear()
    assert opsin.Classifier(there.title).content == own.content  # a commit is not asked for again
    assert not published.asked


def test_what_exists_is_a_path(
    published: HubServer, nearest_mean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hf:someone").mkdir()
    shutil.copy(nearest_mean, "hf:someone/digits")
    assert find_model(NAME) == (Path(NAME), None)
    assert not published.asked


def test_only_the_prefix_asks_the_hub(published: HubServer) -> None:
    with pytest.raises(opsin.RunError):
        opsin.Classifier("someone/digits")
    for text in ("hf:digits", "hf:", "hf:a/b/c", "hf:../x", "hf:a/..", "hf:small", "hf:a/b@x y"):
        with pytest.raises(opsin.RecipeError, match="hf:owner/name@revision"):
            opsin.Classifier(text)
    assert not published.asked


def test_another_programs_network_is_to_be_imported(hub: HubServer) -> None:
    hub.publish("someone/digits", {"onnx/model.onnx": network()})
    with pytest.raises(opsin.ModelFileError, match=r"lacks Opsin's description.*opsin import FILE"):
        opsin.Classifier(NAME)
