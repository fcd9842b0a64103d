"""Networks fetched from a hub on this machine, by the real huggingface_hub."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.backbones.backbone import open_backbone
from opsin.core.errors import DownloadError, ModelFileError
from opsin.hub.hub_fetch import fetch
from opsin.hub.hub_name import HubName, found_here, snapshot_of
from tests.backbones.small_networks import network
from tests.conftest import Notes
from tests.hub_server import COMMIT, HubServer

NAME = HubName("someone/network")
LARGE = np.random.default_rng(5).bytes(300_000)
CARD = b"---\nlicense: apache-2.0\n---\n# A network\n"
PIXELS = b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 32}'


class Interrupted(Notes):
    def advance(self, done: int, **figures: float) -> None:
        if done >= 100_000:
            raise KeyboardInterrupt


def publish(hub: HubServer, content: bytes = LARGE, **more: Any) -> None:
    files = {"onnx/model.onnx": content, "README.md": CARD, "preprocessor_config.json": PIXELS}
    hub.publish(NAME.repository, files, **more)


def test_what_is_named_is_fetched_once(hub: HubServer) -> None:
    publish(hub)
    seen = Notes()
    found = fetch(NAME, watcher=seen)
    assert found.path.read_bytes() == LARGE
    assert found.where == HubName(NAME.repository, COMMIT)
    assert (snapshot_of(found.where) / "README.md").read_bytes() == CARD
    assert seen.totals[-1] == seen.done[-1] == len(LARGE)
    assert seen.done == sorted(seen.done)
    hub.asked.clear()
    assert fetch(found.where) == found  # a commit is asked for no more
    assert not hub.asked
    assert fetch(NAME) == found  # of a branch the newest is
    assert not hub.ranges()
    assert set(hub.signed) == {""}  # another server is sent no sign


def test_a_connection_that_breaks_is_gone_on_with(hub: HubServer) -> None:
    publish(hub)
    hub.breaks = [100_000]
    assert fetch(NAME).path.read_bytes() == LARGE


def test_other_bytes_than_announced_are_thrown_away(hub: HubServer) -> None:
    publish(hub, instead={"onnx/model.onnx": LARGE[:-1] + b"x"})
    with pytest.raises(DownloadError, match="sent other bytes"):
        fetch(NAME)
    assert found_here(NAME) is None
    publish(hub)
    assert fetch(NAME).path.read_bytes() == LARGE


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (None, "shows you no someone/network.*hf auth login"),
        ({"refused": (403, "GatedRepo")}, "owners of .* must let you in.*hf auth login"),
        ({"refused": (401, "RepoNotFound")}, "shows you no someone/network"),
    ],
)
def test_a_name_that_is_not_shown(hub: HubServer, more: dict[str, Any] | None, said: str) -> None:
    if more:
        publish(hub, **more)
    with pytest.raises(ModelFileError, match=said) as error:
        fetch(NAME)
    assert "\n" not in str(error.value)


def test_no_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(NAME)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    found = fetch(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    seen = Notes()
    assert fetch(NAME, watcher=seen) == found
    assert "which is here, is used" in seen.notes[0]


def test_offline_nothing_is_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub)
    with pytest.raises(ModelFileError, match="is not on this machine"):
        fetch(NAME, offline=True)
    assert not hub.asked
    found = fetch(NAME)
    hub.asked.clear()
    assert fetch(NAME, offline=True) == found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(NAME) == found
    assert not hub.asked


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": CARD}, "no ONNX file"),
        ({"a.onnx": LARGE, "b.onnx": LARGE}, "a.onnx, b.onnx"),
        ({"onnx/model_int8.onnx": LARGE}, "model_int8.onnx"),
        ({"onnx/model.onnx": LARGE, "onnx/model.onnx_data": LARGE}, "in a file of their own"),
    ],
)
def test_a_repository_without_a_network(hub: HubServer, files: dict[str, bytes], said: str) -> None:
    hub.publish(NAME.repository, files)
    with pytest.raises(ModelFileError, match=said):
        fetch(NAME)
    assert not hub.ranges()


def test_a_hostile_hub_writes_nothing_outside(hub: HubServer, tmp_path: Path) -> None:
    for name in ("../../../../../away.onnx", f"{tmp_path}/away.onnx", "a/../../away.onnx"):
        hub.publish(NAME.repository, {name: LARGE})
        with pytest.raises(ModelFileError, match="no ONNX file"):
            fetch(NAME)
    assert not list(tmp_path.rglob("*away*"))


def test_preparation_and_licence_come_with_it(hub: HubServer) -> None:
    publish(hub, content=network())
    backbone = open_backbone("someone/network")
    assert backbone.licence == "apache-2.0"
    assert backbone.pixels.stated == "preprocessor_config.json"
    assert str(backbone.where) == f"someone/network@{COMMIT}"
    assert backbone.name == f"someone/network@{COMMIT[:12]}"
    assert backbone.digest == hashlib.sha256(network()).hexdigest()


def test_a_path_wins(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").write_bytes(network())
    assert open_backbone("small", prepare="0..1").where is None
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelFileError, match="at runs/gone"):
        open_backbone("runs/gone")
    assert not hub.asked
