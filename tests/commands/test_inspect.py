"""What an inspection refuses, the pages it writes to, and how a known image is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import opsin
from opsin.commands.known_images import known_images
from opsin.data.lazy_images import ReferenceSet
from opsin.runtime.model_check import write_classifier


def test_all_layers_are_known_before_the_first_is_looked_at(
    nearest_mean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(opsin.Inspection, "units", never)
    with pytest.raises(opsin.ModelFileError, match="no layer 'conv9' among"):
        opsin.inspect(nearest_mean, layers=["flatten", "conv9"], data="digits")


def test_an_image_does_not_take_the_page_of_the_network(
    nearest_mean: Path, tmp_path: Path, digits: opsin.Dataset
) -> None:
    file = tmp_path / "network.png"
    Image.fromarray(np.asarray(digits.images[0])[:, :, 0]).save(file)
    found = opsin.inspect(nearest_mean, file, out=tmp_path)
    assert found.page == tmp_path / "image-network.html"


def test_a_network_that_ran_away_is_refused_in_a_line(nearest_mean: Path, tmp_path: Path) -> None:
    model = onnx.load_model(nearest_mean)
    (weight,) = (each for each in model.graph.initializer if each.name == "weight")
    value = numpy_helper.to_array(weight).copy()
    value[3, 5] = np.nan
    weight.CopyFrom(numpy_helper.from_array(value, "weight"))
    file = tmp_path / "classifier.onnx"
    onnx.save_model(model, file)
    with pytest.raises(
        opsin.ModelFileError, match=r"not all between 0 and 1.* Its training diverged"
    ):
        opsin.Inspection(file)
    # One that this account trained is opened, to be looked into.
    write_classifier(file, model.SerializeToString())
    with pytest.raises(opsin.ModelFileError, match=r"weight in .* no finite numbers"):
        opsin.Inspection(file).weights()


def known() -> ReferenceSet:
    """Four images, one of which is called as another one's place is."""
    return ReferenceSet(
        images=np.zeros((4, 2, 2, 1), np.uint8),
        labels=np.arange(4),
        names=["a.png", "test/0", "b.png", "c.png"],
        train=np.array([0, 1]),
        val=np.array([3]),
        source="made",
        test=np.array([2]),
    )


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.png", 0), ("train/1", 1), ("val/0", 3), ("test/0", 1),  # its own name counts first
        ("test/1", None), ("test/-1", None), ("test/²", None), ("test/", None), ("test", None),
        ("other/0", None), ("", None),
    ],
)  # fmt: skip
def test_names_and_places(name: str, row: int | None) -> None:
    assert known().row_called(name) == row


def test_a_file_without_a_run_asks_for_images_of_its_classes(
    nearest_mean: Path, shapes: Path
) -> None:
    classifier = opsin.Classifier(nearest_mean)
    with pytest.raises(opsin.SourceError, match="--data SOURCE"):
        known_images(classifier)
    with pytest.raises(opsin.SourceError, match="also has disc, square"):
        known_images(classifier, [shapes])
    given = known_images(classifier, ["digits"])
    assert len(given.images) == 1797
    assert sum(map(len, (given.train, given.val, given.test))) == 1797


def test_a_name_that_nobody_knows(nearest_mean: Path) -> None:
    look = opsin.Inspection(nearest_mean, data="digits")
    assert look.actual(look.predict("test/3")) is not None
    with pytest.raises(opsin.ImageError, match="by part and number"):
        look.predict("tset/3")
