"""A stranger's classifier.onnx costs one answer, and no more."""

import hashlib
import json
import os
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper

import opsin
from opsin.data.cache import cache_root
from opsin.runtime.model_check import check_model, fault_of, write_classifier
from tests.conftest import a_few
from tests.made_classifier import LAST, classifier, metadata, unsound_for_sevens

node = helper.make_node
IDENTITY = LAST[1]


def loop() -> onnx.NodeProto:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["going"], ["on"]), node("Identity", ["value"], ["same"])],
        "body",
        [
            info("turn", TensorProto.INT64, []),
            info("going", TensorProto.BOOL, []),
            info("value", TensorProto.FLOAT, None),
        ],
        [info("on", TensorProto.BOOL, []), info("same", TensorProto.FLOAT, None)],
    )
    return node("Loop", ["", "true", "shares"], ["probabilities"], body=body)


def only_at_once() -> onnx.NodeProto:
    shape = [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)]
    then = helper.make_graph([node("Identity", ["shares"], ["chosen"])], "then", [], shape)
    other = helper.make_graph([node("Neg", ["shares"], ["chosen"])], "else", [], shape)
    return node("If", ["true"], ["probabilities"], then_branch=then, else_branch=other)


def external(weight: TensorProto, location: str) -> None:
    """Let a weight be read from a file of the machine."""
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)


def secret_constant(model: onnx.ModelProto) -> None:
    weight = onnx.TensorProto()
    weight.CopyFrom(model.graph.initializer[1])
    weight.name = "taken"
    external(weight, "/etc/passwd")
    model.graph.node.insert(0, node("Constant", [], ["constant"], value=weight))


def wide(*sizes: int) -> dict[str, Any]:
    return {"sizes": np.array(sizes, np.int64), "true": np.array(True)}


def answering(*nodes: onnx.NodeProto, **weights: Any) -> bytes:
    return classifier(*nodes, IDENTITY, weights=weights)


def of_kind(kind: int) -> bytes:
    cast = node("Cast", ["shares"], ["probabilities"], to=kind)
    return classifier(cast, IDENTITY, kinds={"probabilities": (kind, ["N", 3])})


def saying(name: str, text: str) -> bytes:
    def change(model: onnx.ModelProto) -> None:
        known = {each.key: each.value for each in model.metadata_props}
        helper.set_model_props(model, known | {f"opsin.{name}": text})

    return classifier(changed=change)


ADD = node("Add", ["shares", "sum"], ["probabilities"])
FIRST = np.array([0], np.int64)
SUM = node("ReduceSum", ["huge"], ["sum"], keepdims=0)
HUGE = json.dumps({"height": 60_000, "width": 60_000, "channels": 1, "resize": "fit"})
CRAFTED: dict[str, tuple[bytes, str]] = {
    "doubles": (of_kind(TensorProto.DOUBLE), "does not fit the network"),
    "one row for all": (
        answering(
            node("ReduceMean", ["shares", "first"], ["probabilities"], keepdims=1), first=FIRST
        ),
        "does not fit the network",
    ),
    "depends on the others": (
        answering(
            node("ReduceMean", ["shares", "first"], ["mean"], keepdims=1),
            node("Sub", ["shares", "mean"], ["less"]),
            node("Softmax", ["less"], ["probabilities"]),
            first=FIRST,
        ),
        "depends on the others",
    ),
    "no number": (
        answering(
            node("Div", ["shares", "nothing"], ["probabilities"]), nothing=np.zeros((), np.float32)
        ),
        "between 0 and 1",
    ),
    "negative": (answering(node("Neg", ["shares"], ["probabilities"])), "between 0"),
    "one image only": (classifier(images=(1, 8, 8, 1)), "does not fit the network"),
    "other names": (
        classifier(changed=lambda model: model.graph.output.pop(0)), "other inputs and outputs"
    ),
    "an endless loop": (answering(loop(), **wide()), "loops or branches"),
    "a branch": (answering(only_at_once(), **wide()), "loops or branches"),
    "much from nothing": (
        answering(node("ConstantOfShape", ["sizes"], ["huge"]), SUM, ADD, **wide(2**18, 2**18)),
        "no readable|cannot be computed|does not",
    ),
    "much by copies": (
        answering(node("Tile", ["shares", "sizes"], ["huge"]), SUM, ADD, **wide(2**15, 2**15)),
        "cannot be computed|does not",
    ),
    "much for some images": (
        answering(
            node("Cast", ["flat"], ["whole"], to=TensorProto.INT64),
            node("Expand", ["shares", "whole"], ["probabilities"]),
        ),
        "Expand makes is no constant",
    ),
    "chance": (
        answering(node("RandomUniformLike", ["shares"], ["probabilities"])), "depends on the image"
    ),
    "another's operator": (
        classifier(
            node("Inverse", ["shares"], ["probabilities"], domain="com.microsoft"), IDENTITY,
            changed=lambda model: model.opset_import.append(
                helper.make_opsetid("com.microsoft", 1)
            ),
        ),
        r"needs the operator com\.microsoft\.Inverse",
    ),
    "a function of its own": (
        classifier(changed=lambda model: model.functions.add(name="f", domain="own")), "functions"
    ),
    "a secret file": (
        classifier(changed=lambda m: external(m.graph.initializer[1], "../../../../etc/passwd")),
        "outside the file",
    ),
    "a secret constant": (classifier(changed=secret_constant), "outside the file"),
    "operators of tomorrow": (
        classifier(changed=lambda model: model.opset_import[0].MergeFromString(b"\x10\xe7\x07")),
        "version 999",
    ),
    "60,000 pixels a side": (saying("preparation", HUGE), "lacks Opsin's description"),
    "deep": (saying("classes", "[" * 10**6), "lacks Opsin's description"),
    "long": (saying("source", f'"{"x" * 10**8}"'), "properties take more than"),
    "a long number": (saying("format", "9" * 10**6), "lacks Opsin's description"),
    "not a number": (
        saying("reject", '{"threshold": NaN, "rate": 0.1, "images": 1}'),
        "lacks Opsin's description",
    ),
    "one name twice": (saying("classes", '["a", "b", "a"]'), "lacks Opsin's description"),
}  # fmt: skip


@pytest.mark.parametrize("name", a_few(CRAFTED, 6))
def test_a_crafted_file_is_refused(name: str) -> None:
    content, reason = CRAFTED[name]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of other tests' processes
    with pytest.raises(opsin.ModelFileError, match=reason) as caught:
        check_model(content, "theirs.onnx")
    assert "theirs.onnx" in str(caught.value)
    assert len(str(caught.value)) < 800
    # A child process counts the memory that its parent held when it was forked, even after exec.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert used <= max(before, own, 1 << 20)


def test_a_sound_file_is_tried_once_and_known_from_then_on() -> None:
    content = classifier()
    assert check_model(content, "own.onnx") == 256
    (note,) = (cache_root() / "models").rglob(f"{_digest(content)}.json")
    assert json.loads(note.read_text(encoding="utf-8")) == {"most": 256}
    note.write_text('{"most": 7}', encoding="utf-8")
    assert check_model(content, "own.onnx") == 7


@pytest.mark.skipif(os.name == "nt", reason="rights are other ones there")
@pytest.mark.parametrize("damage", ["rights", "link", "text", "value"])
def test_what_another_account_may_have_noted_counts_for_nothing(damage: str) -> None:
    content, _ = CRAFTED["negative"]
    write_classifier(cache_root() / "trusted.onnx", content)
    assert check_model(content, "own.onnx") is None
    (note,) = (cache_root() / "models").rglob(f"{_digest(content)}.json")
    if damage == "rights":
        note.chmod(0o666)
    elif damage == "link":
        note.rename(note.with_suffix(".moved"))
        note.symlink_to(note.with_suffix(".moved"))
    else:
        note.write_text({"text": "{", "value": '{"most": -1}'}[damage], encoding="utf-8")
    with pytest.raises(opsin.ModelFileError, match="between 0 and 1"):
        check_model(content, "own.onnx")
    note.unlink(missing_ok=True)


def test_no_answer_where_some_image_has_none(tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(unsound_for_sevens())
    opened = opsin.Classifier(path)
    assert opened.predict(np.full((8, 8), 8, np.uint8)).confidence > 0
    with pytest.raises(opsin.ModelFileError, match=r"theirs\.onnx answers with infinity or NaN"):
        opened.predict(np.full((8, 8), 7, np.uint8))


def test_layers_of_texts_are_refused(tmp_path: Path) -> None:
    cast = node("Cast", ["head"], ["words"], to=TensorProto.STRING)
    path = tmp_path / "theirs.onnx"
    path.write_bytes(classifier(cast, *LAST, about=metadata(layers=["words", "gone"])))
    opened = opsin.Classifier(path)
    images = np.zeros((1, 8, 8, 1), np.uint8)
    with pytest.raises(opsin.ModelFileError, match="its words are object"):
        opened.layers(images, ["words"])
    with pytest.raises(opsin.ModelFileError, match="no readable ONNX"):
        opened.layers(images, ["gone"])


def test_more_images_than_were_tried_are_computed_part_by_part(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(classifier())
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    whole = opsin.Classifier(path)
    parts = opsin.Classifier.of_content(path, whole.content, most=3)
    np.testing.assert_allclose(parts.probabilities(images), whole.probabilities(images), atol=1e-6)
    assert parts.answers(images, embedding=True).embedding is not None


@pytest.mark.slow
def test_a_large_file_of_honest_weights_is_let_in(tmp_path: Path) -> None:
    weight = np.zeros((64, 500_000), np.float32)
    content = classifier(
        node("MatMul", ["flat", "wide"], ["units"]), *LAST, weights={"wide": weight}
    )
    assert len(content) > 120_000_000
    assert check_model(content, "large.onnx")


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.integers(0, 255), st.booleans())
def test_damaged_files_are_refused_or_sound(place: int, byte: int, cut: bool) -> None:
    content = bytearray(classifier())
    place %= len(content)
    content[place] = byte
    if cut:
        del content[place:]
    try:
        check_model(bytes(content), "damaged.onnx")
    except opsin.ModelFileError as error:
        assert "damaged.onnx" in str(error)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.ones((2, 3), np.float64) / 3, "float64"),
        (np.array([[0.5, 0.4, 0.2]], np.float32), "sum of 1"),
        (np.array([[np.inf, 0, 0]], np.float32), "sum of 1"),
        (np.array([[0.5, 0.5]], np.float32), "2 probabilities for 3"),
        (np.array([0.2, 0.3, 0.5], np.float32), r"float32\[3\]"),
        (np.array([["a", "b", "c"]], object), "object"),
    ],
)
def test_what_is_no_answer(value: Any, fault: str) -> None:
    found = fault_of({"probabilities": value}, len(value), 3)
    assert found is not None
    assert re.search(fault, found)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
