"""Weights of Opsin's own networks become these networks again, and no others do."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from opsin.core.errors import ModelFileError
from opsin.core.recipe import ModelRecipe
from opsin.importing.foreign_network import Architecture, read_foreign

pytestmark = pytest.mark.torch

HIDDEN = {"cnn": (4, 6), "resnet": (6, 8, 10)}


def built(kind: Architecture, *, side: int = 24, normalised: bool = False) -> Any:
    """Return a network as the trainer has it, with measured means and deviations."""
    import torch

    from opsin.models.architectures import cnn, resnet
    from opsin.models.torch_layers import Normalise

    spec = {"cnn": cnn.SPEC, "resnet": resnet.SPEC}[kind]
    hidden = HIDDEN[kind]
    recipe = ModelRecipe(
        name=kind, hidden=hidden, depth=len(hidden), dropout=0.5,
        activation=spec.defaults.get("activation", "relu"),
    )  # fmt: skip
    torch.manual_seed(0)
    layers = spec.build(recipe, (side, side, 3), 5)
    if normalised:
        layers = {"input": Normalise([100.0, 90.0, 80.0], [50.0, 60.0, 70.0]), **layers}
    network = torch.nn.Sequential(OrderedDict(layers))
    for name, held in network.state_dict().items():
        if "running" in name:
            held.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("kind", "side"), [("cnn", 24), ("resnet", 24), ("resnet", 8)])
def test_they_answer_as_in_pytorch(
    kind: Architecture, side: int, normalised: bool, tmp_path: Path
) -> None:
    import torch

    network = built(kind, side=side, normalised=normalised)
    weights = {f"network.{name}": held for name, held in network.state_dict().items()}
    torch.save({**weights, "optimizer.step": torch.zeros(1)}, tmp_path / "w.pth")
    found = read_foreign(tmp_path / "w.pth", architecture=kind, side=side)
    images = np.random.default_rng(0).uniform(0, 255, (8, side, side, 3)).astype(np.float32)
    planes = torch.tensor(images)
    with torch.no_grad():
        logits = network(planes if normalised else planes.permute(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(found.content)
    taken = session.get_inputs()[0]
    fed = images if taken.shape[-1] == 3 else images.transpose(0, 3, 1, 2)
    answers = session.run(None, {taken.name: fed})[0]
    assert np.abs(answers - logits.numpy()).max() < 1e-4 * np.abs(logits.numpy()).max()


def test_others_are_named(tmp_path: Path) -> None:
    import torch

    weights = built("cnn").state_dict()
    del weights["block2.conv2.weight"]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"block2\.conv2\.weight is missing"):
        read_foreign(tmp_path / "w.pth", architecture="cnn", side=24)
    torch.save({**built("cnn").state_dict(), "more": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match="more has no place in it"):
        read_foreign(tmp_path / "w.pth", architecture="cnn", side=24)
    torch.save(built("cnn").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelFileError):
        read_foreign(tmp_path / "w.pth", architecture="cnn", side=40)
    with pytest.raises(ModelFileError, match=r"whiten\.weight is missing"):
        read_foreign(tmp_path / "w.pth", architecture="resnet", side=24)
