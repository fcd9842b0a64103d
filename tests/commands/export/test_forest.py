"""A model without layers is shipped as it is, and only as it is; no PyTorch is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

import opsin
from opsin.commands.export.smaller import To
from opsin.core.errors import ModelFileError
from tests.commands.export import shipped
from tests.conftest import without_drawing


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    pytest.importorskip("sklearn", "1.9")
    with without_drawing():
        return opsin.train("digits", model="forest", trees=10, quiet=True,
                           runs=tmp_path_factory.mktemp("forest"))  # fmt: skip


@pytest.mark.parametrize("to", ["int8", "fp16"])
def test_thresholds_are_not_rounded(to: To, forest: opsin.Run) -> None:
    with pytest.raises(ModelFileError, match=r"\(forest\).*--to bundle"):
        shipped(forest, to)
    assert not list(Path(forest.path).glob("*-*.onnx"))


def test_its_bundle_is_the_same_each_time_and_looks_at_no_test_image(forest: opsin.Run) -> None:
    exported = shipped(forest, "bundle")
    first = exported.path.read_bytes()
    assert (exported.part, exported.labels_changed, exported.samples) == ("val", 0, 10)
    assert shipped(forest, "bundle").path.read_bytes() == first
    assert not forest.directory.looks.exists()
