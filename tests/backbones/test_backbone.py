"""Networks in the forms that exporters give them, opened as backbones."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from opsin.backbones.backbone import open_backbone, trainable
from opsin.backbones.feature_graph import FeatureGraph
from opsin.backbones.named_backbones import NAMED
from opsin.classical.backbone_head import BackboneFeatures
from opsin.core.errors import ModelFileError, OpsinError, RecipeError
from opsin.core.metadata import Layer
from opsin.hub.hub_name import HubName, snapshot_of
from opsin.importing.foreign_network import read_foreign
from tests.conftest import Notes, a_few
from tests.models.published_networks import Graph
from tests.onnx_files.made_files import computed

from .small_networks import SIDE, UNITS, network

FORMS: dict[str, dict[str, Any]] = {
    "plain": {}, "batch-of-one": {"batch": 1, "reshape": "constant"},
    "channels-last": {"channels_last": True}, "logits": {"head": "logits"},
    "last-convolution": {"head": "conv"}, "no-head": {"head": "none"},
    "constants": {"constants": True}, "half": {"half": True}, "half-within": {"half": "within"},
    "oldest-operators": {"opset": 9, "reshape": "constant"}, "old-operators": {"opset": 11},
    "new-operators": {"opset": 21}, "computed-sizes": {"reshape": "shape", "constants": True},
    "open-sides": {"side": "S"},
}  # fmt: skip


def write(folder: Path, content: bytes | None = None) -> Path:
    file = folder / "network.onnx"
    file.write_bytes(network() if content is None else content)
    return file


def features_of(path: Path, images: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
    backbone = open_backbone(path, **options)
    shape = images.shape[1:]
    graph = FeatureGraph(backbone, shape, ["whole"], backbone.at[:1])
    return np.asarray(computed(graph.content(), images=images)[graph.outputs[0]])


def one_by_one(content: bytes, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Compute what a network answers that was exported for one image."""
    return np.concatenate([next(iter(computed(content, x=each[None]).values())) for each in pixels])


def layers_of(path: Path, prepare: str) -> list[Layer]:
    backbone = open_backbone(path, prepare=prepare)
    return BackboneFeatures(backbone, (SIDE, SIDE, 3), backbone.at[:1], ("whole",)).layers()


def images_of(count: int = 3, side: int = SIDE, channels: int = 3) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, side, side, channels), np.uint8)


@pytest.fixture
def expected(tmp_path: Path) -> np.ndarray[Any, Any]:
    pixels = (images_of() / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2)
    (found,) = computed(network(head="none"), pixels=pixels).values()
    return np.asarray(found)


@pytest.mark.parametrize("form", a_few(FORMS, 5))
def test_every_form_is_the_same(form: str, tmp_path: Path, expected: np.ndarray[Any, Any]) -> None:
    options = dict(FORMS[form])
    file = write(tmp_path, network(**options))
    if form == "open-sides":
        (tmp_path / "preprocessor_config.json").write_text(
            '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 32}'
        )
    prepare = {} if form == "open-sides" else {"prepare": "-1..1"}
    found = features_of(file, images_of(), **prepare)
    assert found.shape == (3, UNITS)
    np.testing.assert_allclose(found, expected, atol=2e-3 if options.get("half") else 1e-5)


def _every_size_open(model: onnx.ModelProto) -> None:
    for place, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"d{place}"


def _behind(op: str, stored: Any, **options: Any) -> Callable[[onnx.ModelProto], None]:
    """Return what stores every weight in another form, and an operator that makes it of that."""

    def change(model: onnx.ModelProto) -> None:
        nodes = []
        for weight in model.graph.initializer:
            if weight.data_type == TensorProto.FLOAT:
                held, name = stored(numpy_helper.to_array(weight)), f"{weight.name}.stored"
                nodes.append(helper.make_node(op, [name], [weight.name], **options))
                weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(held), name))
        nodes += model.graph.node
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return change


_half_behind_casts = _behind("Cast", lambda held: held.astype(np.float16), to=TensorProto.FLOAT)
_bfloat16_behind_casts = _behind(
    "Cast", lambda held: held.astype(ml_dtypes.bfloat16), to=TensorProto.FLOAT
)
_turned_weights = _behind("Transpose", lambda held: held.T)


def _constants_of_attributes(model: onnx.ModelProto) -> None:
    for place, (name, given) in enumerate((("value_float", 1.0), ("value_floats", [1.0, 2.0]))):
        node = helper.make_node("Constant", [], [f"constant{place}"])
        node.attribute.append(helper.make_attribute(name, given))
        model.graph.node.insert(0, node)


def _weights_among_the_inputs(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        )


def _operators_without_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.ClearField("name")


def _features_as_an_output_too(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, None))


def _stated_sizes(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(
        helper.make_tensor_value_info("relu1", TensorProto.FLOAT, [1, 8, 16, 16])
    )


def _names_of_any_kind(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"/m/{name} ü:0" if name == "conv1" else name for name in names]


@pytest.mark.parametrize("change", a_few([
    _every_size_open, _half_behind_casts, _operators_without_names, _stated_sizes,
    _names_of_any_kind, _features_as_an_output_too, _weights_among_the_inputs,
    _bfloat16_behind_casts, _turned_weights, _constants_of_attributes,
], 5))  # fmt: skip
def test_odd_files_that_are_sound_have_the_same_features(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    model = onnx.load_model_from_string(network())
    change(model)
    file = write(tmp_path, model.SerializeToString())
    preparation = tmp_path / "size.json"
    preparation.write_text(
        '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 32, 32]}'
    )
    found = features_of(file, images_of(), prepare=str(preparation))
    near = {_half_behind_casts: 2e-3, _bfloat16_behind_casts: 0.02}
    np.testing.assert_allclose(found, expected, atol=near.get(change, 1e-5))
    if change is not _names_of_any_kind:
        found_layers = layers_of(file, str(preparation))
        assert found_layers == layers_of(write(tmp_path), str(preparation))


def test_scaling_and_colour_order_inside(tmp_path: Path, expected: np.ndarray[Any, Any]) -> None:
    file = write(tmp_path, network(inside="scaling", bgr=True))
    found = features_of(file, images_of(), prepare="0..255,bgr")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("side", "channels"), [(20, 3), (100, 3), (32, 1)])
def test_images_of_other_sizes_and_grey_are_taken(side: int, channels: int, tmp_path: Path) -> None:
    found = features_of(write(tmp_path), images_of(2, side, channels), prepare="0..1")
    assert found.shape == (2, UNITS)
    assert np.isfinite(found).all()


def test_the_key_of_cached_features_stays() -> None:
    backbone = open_backbone("efficientnet-lite0", offline=True)
    content = FeatureGraph(backbone, (224, 224, 3), ["whole"]).content()
    # Where it must change, all features that users have kept are computed anew.
    assert hashlib.sha256(content).hexdigest().startswith("08a8c89c32b01b26")


def test_what_nothing_says_is_asked(tmp_path: Path) -> None:
    file = write(tmp_path)
    with pytest.raises(RecipeError, match="--prepare with one of imagenet"):
        open_backbone(file)
    with pytest.raises(RecipeError, match="is no preparation"):
        open_backbone(file, prepare="tiny")
    assert open_backbone(file, prepare="0..1", at=("relu1", "flat")).units == (8, UNITS)
    with pytest.raises(RecipeError, match="relu1"):
        open_backbone(file, prepare="0..1", at=("relu",))


def test_what_timm_writes_beside_a_network_is_read(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    file = write(tmp_path / "onnx")
    (tmp_path / "config.json").write_text(
        '{"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.4, 0.3], '
        '"std": [0.2, 0.2, 0.2], "crop_pct": 0.9}}'
    )
    (tmp_path / "onnx" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    backbone = open_backbone(file)
    assert backbone.pixels.mean == (0.5, 0.4, 0.3)
    assert backbone.pixels.stated == "config.json"
    assert backbone.licence == "apache-2.0"


def test_a_named_network_has_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    where = NAMED["mobilenetv4-small"].where
    assert isinstance(where, HubName)
    file = snapshot_of(where) / "onnx" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(network())
    for name in ("mobilenetv4-small", str(where)):
        assert open_backbone(name, prepare="-1..1").licence == "apache-2.0"


def test_what_is_given_wins_over_the_file_beside_and_it_is_said(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 32}'
    )
    told = Notes()
    assert open_backbone(file, prepare="imagenet", watcher=told).pixels.mean[0] == 0.485
    assert "--prepare=imagenet is used, although preprocessor_config.json" in told.notes[0]
    assert "says otherwise: RGB, -1 to 1" in told.notes[0]
    told.notes.clear()
    open_backbone(file, prepare="-1..1", watcher=told)
    assert told.notes == []


def test_a_network_in_double_precision_takes_images_of_another_size(tmp_path: Path) -> None:
    file = write(tmp_path, _means_of(TensorProto.DOUBLE))
    images = images_of(2, 8)
    found = features_of(file, images.repeat(2, 1).repeat(2, 2), prepare="0..1")
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_a_network_that_takes_bytes_is_told_no_other_pixels(tmp_path: Path) -> None:
    file = write(tmp_path, _means_of(TensorProto.UINT8))
    images = images_of(2, 8)
    means = images.mean(axis=(1, 2))
    for given, expected in ((None, means), ("0..255", means), ("0..255,bgr", means[:, ::-1])):
        np.testing.assert_allclose(features_of(file, images, prepare=given), expected, rtol=1e-5)
    with pytest.raises(RecipeError, match=r"network.onnx takes bytes"):
        open_backbone(file, prepare="imagenet")


def _means_of(kind: int) -> bytes:
    return _model(
        NODE("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        NODE("ReduceMean", ["values"], ["out"], axes=[2, 3], keepdims=0),
        kind=kind,
    )


IMAGE: list[int | str] = ["N", 3, 8, 8]
NODE = helper.make_node
RELU = NODE("Relu", ["pixels"], ["out"])
TRUE = numpy_helper.from_array(np.array(True), "true")


def _model(
    *nodes: onnx.NodeProto,
    shape: list[Any] | None = IMAGE,
    kind: int = TensorProto.FLOAT,
    inputs: Sequence[str] = ("pixels",),
    output: str = "out",
    weights: Sequence[TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def _body(*nodes: onnx.NodeProto, inputs: Sequence[tuple[str, int]] = ()) -> Any:
    given = [helper.make_tensor_value_info(name, kind, []) for name, kind in inputs]
    made = [
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes
    ]
    return helper.make_graph(nodes, "body", given, made)


def _passed(value: str) -> onnx.NodeProto:
    return NODE("Identity", ["pixels"], [value])


LOOP = NODE("Loop", ["", "true", "pixels"], ["looped"], body=_body(
    NODE("Identity", ["true"], ["on"]), _passed("next"),
    inputs=[("at", TensorProto.INT64), ("go", TensorProto.BOOL), ("before", TensorProto.FLOAT)],
))  # fmt: skip
# An image's values never end it, and it lies within a branch.
ENDLESS = NODE("If", ["true"], ["out"], then_branch=_body(LOOP), else_branch=_body(LOOP))


def _with_a_function() -> bytes:
    model = onnx.load_model_from_string(_model(RELU))
    imports = [helper.make_opsetid("", 17)]
    own = helper.make_function(
        "com.example", "Own", ["x"], ["y"], [NODE("Relu", ["x"], ["y"])], imports
    )
    model.functions.append(own)
    return bytes(model.SerializeToString())


ODD: dict[str, tuple[bytes, str]] = {
    "cut-off": (network()[:-300], "cannot be used"),
    "another-format": (b"PK\x03\x04" + bytes(2_000), "cannot be used"),
    "empty": (b"", "cannot be used"),
    "strings": (
        _model(NODE("Identity", ["pixels"], ["out"]), kind=TensorProto.STRING), "no image"
    ),
    "a-film": (_model(RELU, shape=["N", 3, 16, 8, 8]), "no image"),
    "far-too-small": (_model(RELU, shape=["N", 3, 2, 2]), "2×2"),
    "far-too-large": (_model(RELU, shape=["N", 3, 90_000, 90_000]), "90000"),
    "five-channels": (_model(RELU, shape=["N", 5, 8, 8]), "5 channels"),
    "no-input": (_model(NODE("Constant", [], ["out"], value_float=1.0), inputs=()), "0 inputs"),
    "two-inputs": (
        _model(NODE("Add", ["pixels", "other"], ["out"]), inputs=("pixels", "other")), "2 inputs"
    ),
    "functions-of-its-own": (_with_a_function(), "functions of its own"),
    "custom": (
        _model(NODE("Magic", ["pixels"], ["out"], domain="com.example")), "com.example.Magic"
    ),
    "branch": (
        _model(
            NODE("ReduceMax", ["pixels"], ["most"], keepdims=0),
            NODE("Cast", ["most"], ["bright"], to=TensorProto.BOOL),
            NODE("If", ["bright"], ["out"], then_branch=_body(_passed("one")),
                 else_branch=_body(_passed("other"))),
        ),
        "If is a branch",
    ),
    "sizes-that-do-not-fit": (
        _model(NODE("MatMul", ["pixels", "w"], ["out"]),
               weights=[numpy_helper.from_array(np.ones((5, 2), np.float32), "w")]),
        "cannot be computed",
    ),
    "a-value-from-nowhere": (
        _model(NODE("Add", ["pixels", "missing"], ["out"])), "missing is undefined"
    ),
    "detector": (
        _model(NODE("NonZero", ["pixels"], ["found"]), NODE("Cast", ["found"], ["out"], to=1)),
        "one image at a time",
    ),
    "mean-over-all-images": (
        _model(NODE("ReduceMean", ["pixels"], ["mean"], axes=[0], keepdims=1),
               NODE("Sub", ["pixels", "mean"], ["out"])),
        "other answers together than alone",
    ),
    "nothing-for-each-image": (
        _model(NODE("ReduceMean", ["pixels"], ["out"], keepdims=0)), "cannot be used"
    ),
}  # fmt: skip


def _chain(count: int) -> bytes:
    names = ["pixels", *(f"value{place}" for place in range(count - 1)), "out"]
    return _model(*(NODE("Relu", [one], [next_]) for one, next_ in pairwise(names)))


def _answering(weights: str, value: float) -> bytes:
    model = onnx.load_model_from_string(network())
    for weight in model.graph.initializer:
        if weight.name == weights:
            held = np.full_like(numpy_helper.to_array(weight), value)
            weight.CopyFrom(numpy_helper.from_array(held, weights))
    return bytes(model.SerializeToString())


def _twice_named() -> bytes:
    model = onnx.load_model_from_string(network())
    model.graph.initializer.append(model.graph.initializer[0])
    return bytes(model.SerializeToString())


def _enlarging() -> bytes:
    sides = numpy_helper.from_array(np.array([1, 1, 256, 256], np.float32), "sides")
    return _model(
        NODE("Resize", ["pixels", "", "sides"], ["large"]),
        NODE("GlobalAveragePool", ["large"], ["out"]),
        weights=[sides],
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_chain(20_000), "20,000 operators"),
        (_model(ENDLESS, weights=[TRUE]), "Loop is a loop"),
        (_enlarging(), "takes 48 MB an image"),
        (_answering("w2", np.nan), "its answers are no numbers"),
        (_answering("w2", np.inf), "its answers are no numbers"),
        (_twice_named(), "two weights called w1"),
    ],
    ids=["operators", "loop", "memory", "nan", "infinity", "names"],
)
def test_what_would_take_long_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path, content)
    with pytest.raises(ModelFileError, match=reason):
        open_backbone(file, prepare="0..1")
    with pytest.raises(ModelFileError, match=reason):
        read_foreign(file)


@pytest.mark.parametrize("name", a_few(ODD, 6))
def test_odd_files_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = ODD[name]
    file = write(tmp_path, content)
    with pytest.raises(OpsinError, match=reason):
        open_backbone(file, prepare="0..1")


def tokens_of(kind: str) -> bytes:
    """Return a network that ends with tokens of width 4, of a grid of four patches.

    Before them stand a ``class`` token, ``registers`` too, or nothing (``patches``).
    """
    graph = Graph(IMAGE)
    maps = graph.node("Conv", "x", graph.weight(4, 3, 4, 4), strides=[4, 4])
    columns = graph.node("Reshape", maps, graph.constant([0, 4, -1]))
    tokens = graph.node("Transpose", columns, perm=[0, 2, 1])
    if kind != "patches":
        tokens = graph.node("Concat", graph.weight(1, 1, 4, scale=1), tokens, axis=1)
    if kind == "registers":  # as DINOv2 puts them in: behind the class token
        zero, one, end = (graph.constant([place]) for place in (0, 1, 1 << 40))
        first = graph.node("Slice", tokens, zero, one, one)
        others = graph.node("Slice", tokens, one, end, one)
        tokens = graph.node("Concat", first, graph.weight(1, 3, 4, scale=1), others, axis=1)
    graph.node("Add", tokens, graph.node("MatMul", tokens, graph.weight(4, 4, scale=1)))
    return graph.network()[0]


@pytest.mark.parametrize("kind", ["class", "registers", "patches"])
def test_tokens_become_class_token_beside_mean_of_patches(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, tokens_of(kind))
    images = images_of(3, 8)
    pixels = (images / 255).astype(np.float32).transpose(0, 3, 1, 2)
    tokens = one_by_one(tokens_of(kind), pixels)
    expected = tokens[:, -4:].mean(axis=1)
    if kind != "patches":
        expected = np.concatenate([tokens[:, 0], expected], axis=1)
    for _ in range(2):  # as it is looked into, and as it is found again
        backbone = open_backbone(file, prepare="0..1")
        assert backbone.at[0] == "y"
        assert backbone.units[0] == expected.shape[1]
        np.testing.assert_allclose(features_of(file, images, prepare="0..1"), expected, atol=1e-5)


def attention_of_one() -> tuple[bytes, str]:
    """Return attention over four patches for one image, and the name of what its head sees.

    Sizes are fixed, as exporters write them. Queries, keys and values come out of one product and
    are taken apart; heads are merged with images, so that their axis has size 2, and rows of all
    images are multiplied at once.
    """
    graph = Graph([1, 3, 8, 8])

    def shaped(value: str, *sides: int) -> str:
        return graph.node("Reshape", value, graph.constant(sides))

    maps = graph.node("Conv", "x", graph.weight(8, 3, 4, 4, scale=0.5), strides=[4, 4])
    tokens = graph.node("Transpose", shaped(maps, 1, 8, 4), perm=[0, 2, 1])
    product = graph.node("MatMul", tokens, graph.weight(8, 24, scale=0.5))
    packed = graph.node("Transpose", shaped(product, 1, 4, 3, 2, 4), perm=[2, 0, 3, 1, 4])
    query, key, of = (
        shaped(graph.node("Gather", packed, graph.constant(place), axis=0), 2, 4, 4)
        for place in range(3)
    )
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 2, 1]))
    seen = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), of)
    for _ in range(2):
        seen = graph.node("Transpose", seen, perm=[1, 0, 2])
    rows = graph.node("MatMul", shaped(seen, 4, 8), graph.weight(8, 8, scale=0.5))
    block = graph.node("Add", tokens, shaped(rows, 1, 4, 8))
    mean = graph.node("ReduceMean", block, graph.constant([1]), keepdims=0)
    graph.node("MatMul", mean, graph.weight(8, 5, scale=0.5))
    return graph.network()[0], mean


def test_a_transformer_exported_for_one_image_takes_several(tmp_path: Path) -> None:
    content, mean = attention_of_one()
    file = write(tmp_path, content)
    images = images_of(3, 8)
    found = features_of(file, images, prepare="0..1")
    assert open_backbone(file, prepare="0..1").at[0] == mean
    *_, dense = onnx.load_model_from_string(content).graph.initializer
    pixels = (images / 255).astype(np.float32).transpose(0, 3, 1, 2)
    expected = one_by_one(content, pixels)
    np.testing.assert_allclose(found @ numpy_helper.to_array(dense), expected, atol=1e-4)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(network())
    onnx.save(
        model,
        tmp_path / "network.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    with pytest.raises(ModelFileError, match="another file"):
        open_backbone(tmp_path / "network.onnx", prepare="0..1")


def test_halves_are_not_trained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"16 bits.*in 32 bits"):
        trainable(open_backbone(write(tmp_path, network(half=True)), prepare="-1..1"))


def test_bytes_are_unpacked_and_layers_keep_their_names(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(network())
    graph = model.graph
    place = next(at for at, weight in enumerate(graph.initializer) if weight.name == "w2")
    value = numpy_helper.to_array(graph.initializer[place])
    scale = np.abs(value).max(axis=(1, 2, 3)) / 127
    whole = np.round(value / scale[:, None, None, None]).astype(np.int8)
    del graph.initializer[place]
    for name, array in (("packed", whole), ("scales", scale.astype(np.float32))):
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["packed", "scales"], ["w2"], axis=0))
    packed = open_backbone(write(tmp_path, model.SerializeToString()), prepare="-1..1")
    wide = trainable(packed)
    assert "DequantizeLinear" not in {node.op_type for node in wide.graph.nodes}
    assert wide.graph.weights["w2"].dtype == np.float32
    assert {"conv1", "relu2", "flat"} <= wide.graph.values()
    pixels = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)
    expected, found = (
        computed(each.content, ["flat"], pixels=pixels)["flat"] for each in (packed, wide)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
