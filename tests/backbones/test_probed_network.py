"""A network's file is looked into once in a process; what it says of itself is kept."""

import pytest

from opsin.backbones.probe import probed_network
from opsin.core.metadata import Metadata
from opsin.core.sandbox import Sandbox
from tests.made_classifier import classifier, metadata

from .small_networks import network


def test_the_second_time_nothing_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[object] = []
    call = Sandbox.call

    def counted(self: Sandbox, header: dict[str, object], body: bytes = b"") -> object:
        sides.append(header["side"])
        return call(self, header, body)

    monkeypatch.setattr(Sandbox, "call", counted)
    first = probed_network(network(side="S"), "n.onnx", 32)
    assert probed_network(network(side="S"), "n.onnx", 32) == first
    assert probed_network(network(side="S"), "n.onnx", 64)[0].side == (64, 64)
    assert sides == [32, 64]


def test_what_a_classifier_says_of_itself_is_kept_whole() -> None:
    layers = [f"block{number}.convolution" for number in range(300)]
    probed, _ = probed_network(classifier(about=metadata(layers=layers)), "a run", None)
    found = Metadata.from_props(probed.properties, "a run")
    assert [layer.name for layer in found.layers] == layers
