"""What an ONNX file may hold, told from its bytes."""

import contextlib

import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import helper

from opsin.core.errors import ModelFileError
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.onnx_scan import scan
from tests.made_classifier import LAST, classifier


@settings(max_examples=1000)
@given(st.binary(max_size=400))
def test_any_bytes_pass_or_are_refused(content: bytes) -> None:
    try:
        scan(content, "any.onnx")
    except ModelFileError as error:
        assert "any.onnx" in error.message


@settings(max_examples=1000)
@given(st.data())
def test_any_damage_passes_or_is_refused(data: st.DataObject) -> None:
    content = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    for reader in (lambda: scan(cut, "any.onnx"), lambda: OnnxGraph(cut)):
        with contextlib.suppress(ModelFileError):
            reader()


SOUND = classifier()


def test_a_graph_in_two_parts_is_one() -> None:
    """A part that hides behind the first is looked at, too."""
    further = onnx.ModelProto()
    further.graph.node.append(helper.make_node("NonZero", ["shares"], ["places"]))
    with pytest.raises(ModelFileError, match="NonZero"):
        scan(SOUND + further.SerializeToString(), "theirs.onnx")


def test_an_input_is_no_constant() -> None:
    def hidden(model: onnx.ModelProto) -> None:
        size = helper.make_tensor("images", onnx.TensorProto.INT64, [1], [-1])
        model.graph.initializer.append(size)

    reshaped = helper.make_node("Reshape", ["flat", "images"], ["reshaped"])
    with pytest.raises(ModelFileError, match="Reshape makes is no constant"):
        scan(classifier(reshaped, *LAST, changed=hidden), "theirs.onnx")


def test_a_file_of_many_parts_takes_no_time() -> None:
    with pytest.raises(ModelFileError, match="more than 2,000,000 parts"):
        scan(b"\x12\x00" * 3_000_000, "theirs.onnx")


def test_more_operators_than_any_classifier_has_are_refused() -> None:
    further = onnx.ModelProto()
    further.graph.node.extend([helper.make_node("Identity", ["flat"], ["unused"])] * 20_000)
    with pytest.raises(ModelFileError, match="operators, and up to 16,000 are read"):
        scan(SOUND + further.SerializeToString(), "theirs.onnx")


def test_escape_sequences_do_not_reach_the_terminal() -> None:
    odd = helper.make_node("\x1b[2J", ["flat"], ["odd"], domain="own\n")
    with pytest.raises(ModelFileError) as caught:
        scan(classifier(odd, *LAST), "theirs.onnx")
    assert str(caught.value).isprintable()


def test_a_broken_weight_that_nothing_uses_is_named() -> None:
    def broken(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer.add(name="spare", data_type=1, raw_data=b"\0\0\0\0")
        weight.dims.append(10**15)

    with pytest.raises(ModelFileError, match="weight spare"):
        OnnxGraph(classifier(changed=broken))
