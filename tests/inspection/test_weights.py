"""The weights' figures are those of the numbers in the file, and the images are the numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from opsin.classical.fitted_file import Written
from opsin.core.stored_json import plain_data
from opsin.inspection.weights import values_of, weight_views
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.classical.test_fitted_file import content_of, fitted, noisy_images
from tests.inspection.lesson_network import write_lesson_network
from tests.onnx_files.made_files import computed


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_number_is_counted_on_its_side_of_zero(numbers: NDArray[np.float32]) -> None:
    found = values_of("weight", "weights", numbers)
    assert found.counts.sum() == len(numbers)
    assert found.edges[0] == -found.edges[-1] and found.edges[len(found.counts) // 2] == 0
    below = found.counts[: len(found.counts) // 2].sum()
    assert below == (numbers < 0).sum()
    assert found.smallest <= found.mean + 1e-6 * abs(found.mean) + 1e-9
    assert np.isclose(found.norm**2, (found.mean**2 + found.deviation**2) * len(numbers))


@pytest.fixture
def network(tmp_path: Path) -> OnnxGraph:
    return OnnxGraph(write_lesson_network(tmp_path / "classifier.onnx").read_bytes())


def test_each_tensor_of_each_layer_is_described(network: OnnxGraph) -> None:
    weights, views = network.weights, weight_views(network)
    assert [view.name for view in views] == ["conv1", "conv2", "norm", "head"]
    conv, _, norm, head = views
    assert [values.title for values in conv.values] == ["weights", "biases"]
    assert [values.title for values in norm.values] == [
        "scale",
        "shift",
        "running mean",
        "running deviation",
    ]
    assert conv.values[0].norm == pytest.approx(np.linalg.norm(weights["conv1.weight"]))
    assert conv.values[0].shape == (4, 1, 3, 3)
    deviation = np.sqrt(weights["norm.running_var"])
    assert norm.values[3].mean == pytest.approx(float(deviation.mean()))
    assert head.values[1].largest == pytest.approx(float(weights["head.bias"].max()))
    said = json.loads(json.dumps([plain_data(view) for view in views]))
    assert said[0]["values"][0]["norm"] == conv.values[0].norm
    assert sum(said[0]["values"][0]["counts"]) == weights["conv1.weight"].size


def test_images_are_the_numbers_themselves(network: OnnxGraph) -> None:
    weights = network.weights
    conv, second, norm, head = weight_views(network)
    assert conv.images and second.images and head.images and norm.images is None
    assert (conv.images.kind, second.images.kind, head.images.kind) == (
        "filters",
        "kernels",
        "matrix",
    )
    assert conv.images.weights[2, 0, 1].tolist() == weights["conv1.weight"][2, :, 0, 1].tolist()
    assert np.array_equal(second.images.weights, weights["conv2.weight"])
    assert second.images.sources == ("conv1",)
    assert head.images.sources == ("flatten",)
    assert np.array_equal(head.images.weights, weights["head.weight"])


@pytest.mark.parametrize("classes", [2, 5])
def test_a_logistic_regression_is_an_image_a_class(classes: int) -> None:
    images, _ = noisy_images(6, classes)
    model = fitted("logistic", classes)
    content = content_of(model)
    network = OnnxGraph(content, Written(model).layers)
    (view,) = weight_views(network)
    assert view.images and view.images.kind == "units"
    assert view.images.weights.shape == (classes, 9, 7, 3)
    # Laid over an image and summed up, they are what the layer puts out.
    told = np.einsum("nhwc,khwc->nk", images / 255.0, view.images.weights)
    head = computed(content, ["head"], images=images)["head"]
    np.testing.assert_allclose(told + network.weights_of("head")["bias"], head, atol=1e-4)
