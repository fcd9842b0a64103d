"""What `inspect` refuses before it works, and the pages it writes to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands import inspect_pages as pages
from opsin.commands.inspect_model import Inspection
from opsin.core.errors import ImageError, ModelFileError, StorageError
from opsin.data.dataset import Dataset
from opsin.data.reference_set import ReferenceSet


def test_all_layers_are_known_before_the_first_is_looked_at(
    nearest_mean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Inspection, "units", never)
    with pytest.raises(ModelFileError, match="got 'conv9'"):
        opsin.inspect(nearest_mean, layers=["flatten", "conv9"], data="digits")


@pytest.mark.parametrize("option", ["out", "save"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    nearest_mean: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    place: Any = {option: tmp_path / "file" / "below.npz"}
    with pytest.raises(StorageError, match="not a directory"):  # and not that there is no image
        opsin.inspect(nearest_mean, tmp_path / "none.png", **place)


def test_an_image_does_not_take_the_page_of_the_network(
    nearest_mean: Path, tmp_path: Path, digits: Dataset
) -> None:
    file = tmp_path / "network.png"
    Image.fromarray(np.asarray(digits.images[0])[:, :, 0]).save(file)
    found = opsin.inspect(nearest_mean, file, out=tmp_path)
    assert found.page == tmp_path / "image-network.html"


class Unreadable:
    """Images whose files are gone."""

    def __getitem__(self, _: object) -> None:
        raise ImageError("an image", "it is gone", "Restore it.")


def test_no_image_to_draw_on_is_told_and_no_reason_to_stop() -> None:
    notes: list[str] = []
    images: Any = Unreadable()
    none = np.zeros(0, np.int64)
    known = ReferenceSet(images, none, [], none, none, "made", np.array([3]))
    look: Any = SimpleNamespace(has_images=True, known=known, note=notes.append)
    assert pages._image(look) is None
    assert len(notes) == 1 and "it is gone" in notes[0]
    look.known = ReferenceSet(images, none, [], none, none, "made")
    assert pages._image(look) is None
