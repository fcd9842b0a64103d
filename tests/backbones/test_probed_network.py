"""A network's file is looked into once; what is kept of it is believed only if it is our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.backbones.probe import FOLDER, probed_network
from opsin.core.metadata import Metadata
from opsin.core.sandbox import Sandbox
from opsin.data.cache import cache_root
from tests.made_classifier import classifier, metadata

from .small_networks import network


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that were looked into; nothing is known before."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    call = Sandbox.call

    def counted(self: Sandbox, header: dict[str, str], body: bytes = b"") -> object:
        names.append(header["name"])
        return call(self, header, body)

    monkeypatch.setattr(Sandbox, "call", counted)
    return names


def kept() -> list[Path]:
    return sorted((cache_root() / FOLDER).rglob("*.npz"))


def test_the_second_time_nothing_is_looked_into(looked_into: list[str]) -> None:
    first = probed_network(network(), "first", None)
    assert probed_network(network(), "second", None) == first
    assert looked_into == ["first"]
    # Where the file leaves it open, another size is another network.
    probed_network(network(side="S"), "open", 32)
    assert probed_network(network(side="S"), "other", 64)[0].side == (64, 64)
    assert looked_into == ["first", "open", "other"]


def test_what_is_damaged_or_of_others_is_looked_into_again(looked_into: list[str]) -> None:
    first = probed_network(network(), "first", None)
    (file,) = kept()
    file.write_bytes(b"PK damaged")
    assert probed_network(network(), "damaged", None) == first
    (file,) = kept()
    file.chmod(0o666)
    assert probed_network(network(), "of anyone", None) == first
    assert looked_into == ["first", "damaged", "of anyone"]
    assert probed_network(network(), "mended", None) == first
    assert len(looked_into) == 3


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    looked_into: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "file"))
    first = probed_network(network(), "first", None)
    assert probed_network(network(), "second", None) == first
    assert looked_into == ["first", "second"]


def test_what_a_classifier_says_of_itself_is_kept_whole(looked_into: list[str]) -> None:
    layers = [f"block{number}.convolution" for number in range(300)]
    probed, _ = probed_network(classifier(about=metadata(layers=layers)), "a run", None)
    found = Metadata.from_props(probed.properties, "a run")
    assert [layer.name for layer in found.layers] == layers
