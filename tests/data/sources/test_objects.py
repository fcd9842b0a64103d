"""Images that a program holds: frames, data sets of Hugging Face's and of PyTorch's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

import opsin
from opsin.data.dataset import Dataset
from tests.data.sources.conftest import Notes
from tests.data.sources.test_arrow_tables import LABELS, PIXELS, png


def loaded(*given: object, **options: Any) -> Dataset:
    return opsin.load(*given, near_duplicates="apart", **options)


def texts(data: Dataset) -> list[str]:
    return [data.classes[label] for label in data.labels]


class Pairs:
    """A data set of PyTorch's kind: a length, and items by their numbers."""

    classes = ("cat", "dog")
    transform = None

    def __init__(self, images: list[Any], labels: list[Any]) -> None:
        self._items = list(zip(images, labels, strict=True))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self._items[row]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("form", ["bytes", "paths", "arrays"])
def test_frames(library: str, form: str, tmp_path: Path) -> None:
    images: list[Any] = list(map(png, PIXELS))
    if form == "paths":
        for number, content in enumerate(images):
            (tmp_path / f"{number}.png").write_bytes(content)
        images = [str(tmp_path / f"{number}.png") for number in range(6)]
    elif form == "arrays":
        images = PIXELS if library == "pandas" else [pixels.tolist() for pixels in PIXELS]
    frame: Any = (pd.DataFrame if library == "pandas" else pl.DataFrame)(
        {"image": images, "label": LABELS}
    )
    data = loaded(frame)
    assert np.array_equal(data.images[:], PIXELS)
    assert texts(data) == LABELS
    assert data.recipe.source == f"{library}.DataFrame"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, ""])
@pytest.mark.parametrize("kind", [object, "string"])
def test_a_missing_label_is_none(missing: object, kind: Any) -> None:
    labels = pd.Series([*LABELS[:5], missing], dtype=kind)
    images = list(map(png, PIXELS))
    notes = Notes()
    data = loaded(pd.DataFrame({"image": images, "label": labels}), watcher=notes)
    assert (len(data), data.classes) == (5, ("cat", "dog"))
    assert [(each.kind, each.count) for each in data.left_out] == [("image without a class", 1)]
    groups = pd.DataFrame({"image": images, "label": LABELS, "split": pd.NA, "group": missing})
    assert len(loaded(groups)) == 6
    lacking = pd.DataFrame(
        {"image": [*images[:5], None if isinstance(missing, str) else missing], "label": LABELS}
    )
    assert len(loaded(lacking, max_unreadable=0.5).unreadable) == 1


def test_arrays_of_16_bits_keep_their_numbers() -> None:
    deep = [np.asarray(pixels, np.uint16) * 16 for pixels in PIXELS]
    for images in (deep, [Image.fromarray(each) for each in deep if each.ndim == 2]):
        if images:
            data = loaded(Pairs(images, [["cat", "dog"].index(label) for label in LABELS]))
            assert data.recipe.bits == 12
            assert np.array_equal(data.images[:].reshape(np.shape(PIXELS)), PIXELS)


def test_parts_in_a_mapping_and_a_test_of_its_own() -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    both = loaded({"train": frame[:4], "test": frame[4:]})
    assert len(both.split.test) == 2
    assert both.given_test
    apart = loaded(frame[:4], test=frame[4:])
    assert apart.fingerprint == both.fingerprint
    joined = loaded(frame[:3], frame[3:])
    assert joined.fingerprint == both.fingerprint


@pytest.mark.parametrize("streamed", [False, True])
def test_hugging_face_s_library(streamed: bool) -> None:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])}
    )
    rows = {
        "image": [{"bytes": png(pixels), "path": None} for pixels in PIXELS],
        "label": [0, 1] * 3,
    }
    held = datasets.Dataset.from_dict(rows, features=features)
    data = loaded(held.to_iterable_dataset() if streamed else held)
    assert data.classes == ("zebra", "ant")
    assert texts(data) == ["zebra", "ant"] * 3
    chosen = loaded(held.select([5, 4, 3, 2]))
    assert texts(chosen) == ["ant", "zebra"] * 2
    assert np.array_equal(chosen.images[0], PIXELS[5])


@pytest.mark.parametrize("form", ["Pillow", "arrays", "bytes", "mappings"])
def test_pairs(form: str) -> None:
    forms: dict[str, list[Any]] = {
        "Pillow": list(map(Image.fromarray, PIXELS)),
        "arrays": PIXELS,
        "bytes": list(map(png, PIXELS)),
        "mappings": PIXELS,
    }
    images = forms[form]
    items: Any = Pairs(images, [0, 1] * 3)
    if form == "mappings":
        pairs = zip(images, LABELS, strict=True)
        items = iter([{"image": image, "label": label} for image, label in pairs])
    data = loaded(items)
    assert np.array_equal(data.images[:], PIXELS)
    assert texts(data) == LABELS


def test_files_of_a_data_set_are_not_decoded_by_it(tmp_path: Path) -> None:
    class ImageFolder(Pairs):
        samples: list[tuple[str, int]]

        def __getitem__(self, row: int) -> tuple[Any, Any]:
            raise AssertionError("it was asked to decode")

    folder = ImageFolder(PIXELS, LABELS)
    folder.samples = []
    for number, pixels in enumerate(PIXELS):
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
        folder.samples.append((str(tmp_path / f"{number}.png"), number % 2))
    data = loaded(folder)
    assert np.array_equal(data.images[:], PIXELS)
    assert texts(data) == LABELS


@pytest.mark.torch
def test_tensors_and_subsets() -> None:
    import torch

    tensors = [torch.tensor(pixels).permute(2, 0, 1).float() / 255 for pixels in PIXELS]
    pairs: Any = Pairs(tensors, [torch.tensor(n % 2) for n in range(6)])
    assert np.array_equal(loaded(pairs).images[:], PIXELS)
    half = loaded(torch.utils.data.Subset(pairs, [0, 1, 2, 3]))
    assert texts(half) == ["cat", "dog"] * 2
    normalised = Pairs([tensor * 4 - 2 for tensor in tensors], [0, 1] * 3)
    with pytest.raises(opsin.SourceError, match="whole numbers from 0"):
        loaded(normalised)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (3, "a source, a data frame"),
        (np.zeros((4, 8, 8), np.uint8), "opsin.from_arrays"),
        (object(), "a source, a data frame"),
        ({"train": 3}, "a source, a data frame"),
        (pd.DataFrame({"x": [1]}), "has x"),
        (pd.DataFrame({"image": [b"", b""], "label": ["a", None]}), "two classes or more"),
        (pd.DataFrame({"image": [], "label": []}), "holds none"),
        (Pairs([1], [2]), "images as paths"),
        (pd.DataFrame({"image": ["a.png", b""], "label": ["a", "b"]}), "all files, or none"),
        (pd.DataFrame({"image": [b"", b""], "label": [{"a": 1}, "b"]}), "text or a number"),
    ],
)
def test_what_cannot_be_taken_is_explained(held: object, said: str) -> None:
    with pytest.raises(opsin.OpsinError, match=said):
        loaded(held)
