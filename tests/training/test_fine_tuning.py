"""What learns of a pretrained network, how fast, and in which batches."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RANDOM = np.random.default_rng(0)


def classifier(layers: int = 12) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a file of convolutions of very different sizes, and its weights."""
    weights: dict[str, np.ndarray] = {"input.scale": np.full((3, 1, 1), 0.01, np.float32)}
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["maps"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["maps", "input.scale"], ["input"]),
    ]
    value = "input"
    for place in range(layers):
        size = 10.0 ** RANDOM.uniform(-2, 1, (3, 1, 1, 1))
        weights[f"w{place}"] = (size * RANDOM.normal(size=(3, 3, 1, 1))).astype(np.float32)
        weights[f"b{place}"] = np.zeros(3, np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{place}", f"b{place}"], [f"conv{place}"]))
        value = f"conv{place}"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    weights["dense"] = RANDOM.normal(size=(12, 2)).astype(np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "dense"], ["head"]))
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [], [], held)
    return helper.make_model(graph).SerializeToString(), weights


def test_what_is_named_learns_and_nothing_is_changed_by_it() -> None:
    from opsin.training.fine_tuning import learning

    content, weights = classifier()
    names = set(weights) - {"input.scale", "w3"}
    network = learning(content, names)
    assert set(network.learnt()) == names
    for name, value in network.weights().items():
        np.testing.assert_allclose(value, weights[name], rtol=1e-6)


def test_filters_learn_relative_to_their_size() -> None:
    from opsin.training.fine_tuning import learning

    content, weights = classifier(1)
    network = learning(content, weights)
    with torch.no_grad():
        network.learnt()["w0"].add_(0.1)
    moved = network.weights()["w0"] - weights["w0"]
    sizes = np.sqrt((weights["w0"] ** 2).mean(axis=(1, 2, 3), keepdims=True))
    assert sizes.max() > 2 * sizes.min()
    np.testing.assert_allclose(moved, np.broadcast_to(0.1 * sizes, moved.shape), rtol=1e-3)


def test_what_lies_deeper_learns_slower_and_everything_once() -> None:
    from opsin.training.fine_tuning import learning
    from opsin.training.optimizers import by_depth, make_optimizers

    network = learning(*classifier())
    groups = by_depth(network)
    shares = [share for share, _ in groups]
    assert shares == sorted(shares) and shares[-1] == 1 and shares[0] < 0.2
    learnt = [id(value) for _, values in groups for value in values]
    assert learnt == [id(value) for value in network.learnt().values()]
    for optimizer in ("adamw", "sgd", "muon"):
        recipe = resolve(DataRecipe.of("x"), optimizer=optimizer).training
        made = make_optimizers(network, recipe)
        held = {id(p) for each, _ in made for group in each.param_groups for p in group["params"]}
        assert held == set(learnt)


def test_weights_half_way_back_are_taken_where_they_are_better() -> None:
    from opsin.training.batches import TrainingBatches
    from opsin.training.fine_tuning import averaged, learning

    content, weights = classifier(1)
    weights.pop("input.scale")
    network = learning(content, weights)
    images = RANDOM.integers(0, 256, (40, 2, 2, 3), np.uint8)
    with torch.no_grad():
        labels = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    first = network.weights()
    with torch.no_grad():
        network.learnt()["dense"].add_(torch.from_numpy(RANDOM.normal(size=(12, 2))).float())
    last = network.weights()
    val = TrainingBatches(images, labels, np.arange(40), torch.device("cpu"))
    share = averaged(network, first, val, resolve(DataRecipe.of("x"), ema=0.9).training)
    assert share < 1
    for name, value in network.weights().items():
        np.testing.assert_allclose(value, share * last[name] + (1 - share) * first[name], rtol=1e-4)
