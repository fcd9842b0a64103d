"""Networks of any kind become a few blocks with names that people read."""

import itertools

from hypothesis import given, strategies as st

from opsin.core.metadata import Layer
from opsin.studio.ui.graph import blocks_of, shape_in_words, title_of


def a_layer(name: str, kind: str = "ReLU", shape: tuple[int, ...] = (8, 4, 4)) -> Layer:
    return Layer(name=name, kind=kind, shape=shape, parameters=9, trainable=9, multiply_adds=0)


LAYERS = st.builds(
    a_layer,
    st.from_regex(r"[a-z]{1,4}\d{0,2}(\.[a-z]{1,4}){0,2}", fullmatch=True),
    st.sampled_from(["Conv 3×3", "ReLU", "BatchNorm", "Dense", "Flatten", "Add", "odd thing"]),
    st.sampled_from([(8, 4, 4), (8, 2, 2), (16, 2, 2), (8, 1, 1), (10,)]),
)


@given(st.lists(LAYERS, min_size=1, max_size=300))
def test_every_layer_is_in_one_block_in_its_order(layers: list[Layer]) -> None:
    blocks = blocks_of(layers)
    assert list(itertools.chain(*(block.layers for block in blocks))) == layers
    assert all(block.result in block.layers and block.title for block in blocks)


def test_a_small_network_has_a_block_for_each_convolution() -> None:
    kinds = {"input": "Normalise", "conv1": "Conv 3×3 same", "relu1": "ReLU", "norm": "BatchNorm"}
    kinds |= {"conv2": "Conv 3×3", "relu2": "ReLU", "pool": "MaxPool 2", "dropout": "Dropout 0.5"}
    layers = [a_layer(name, kind) for name, kind in kinds.items()]
    layers += [a_layer("flatten", "Flatten", (128,)), a_layer("head", "Dense", (10,))]
    blocks = blocks_of(layers)
    assert [block.title for block in blocks] == ["Input", "Conv 1", "Conv 2", "Head"]
    assert [block.result.name for block in blocks] == ["input", "relu1", "pool", "head"]


def test_a_deep_network_has_stages_by_what_they_give() -> None:
    layers = [a_layer("stem.conv", "Conv 3×3", (32, 16, 16)), a_layer("stem", shape=(32, 16, 16))]
    for number in range(1, 15):
        shape = (8 * ((number + 1) // 2), 8, 8)
        layers += [
            a_layer(f"block{number}.expand.conv", "Conv 1×1", (96, 8, 8)),
            a_layer(f"block{number}.expand", shape=(96, 8, 8)),
            a_layer(f"block{number}.project", "Conv 1×1", shape),
        ]
    layers += [a_layer("top.conv", "Conv 1×1", (99, 8, 8)), a_layer("head", "Dense", (3,))]
    blocks = blocks_of(layers)
    numbered = [f"Block {number}" for number in range(1, 8)]
    assert [block.title for block in blocks] == ["Stem", *numbered, "Head"]
    assert [layer.name for layer in blocks[-1].layers] == ["top.conv", "head"]
    many = [a_layer(f"node_{number}", "Conv 3×3", (number, 8, 8)) for number in range(1, 1001)]
    assert len(blocks_of(many)) <= 12


def test_layers_are_said_in_words() -> None:
    assert title_of(a_layer("conv", "Conv 3×3 same")) == "Convolution 3×3 same"
    assert shape_in_words(a_layer("head", shape=(1280,))) == "1,280 numbers"
    assert shape_in_words(a_layer("conv", shape=(1, 27, 28))) == "1 map, 28×27"
    assert title_of(a_layer("x", "<b>\u202e\x00")) == "<b>"
