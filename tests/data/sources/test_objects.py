"""Data frames that hold images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import opsin
from opsin.data.dataset import Dataset
from tests.data.sources.conftest import Notes
from tests.data.sources.test_parquet import LABELS, PIXELS, png


def loaded(*given: object, **options: Any) -> Dataset:
    return opsin.load(*given, near_duplicates="apart", **options)


def texts(data: Dataset) -> list[str]:
    return [data.classes[label] for label in data.labels]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("form", ["bytes", "paths"])
def test_frames(library: str, form: str, tmp_path: Path) -> None:
    images: list[Any] = list(map(png, PIXELS))
    if form == "paths":
        for number, content in enumerate(images):
            (tmp_path / f"{number}.png").write_bytes(content)
        images = [str(tmp_path / f"{number}.png") for number in range(6)]
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


def test_parts_in_a_column_and_a_test_of_its_own() -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    both = loaded(frame.assign(split=["train"] * 4 + ["test"] * 2))
    assert len(both.split.test) == 2
    assert both.given_test
    apart = loaded(frame[:4], test=frame[4:])
    assert apart.fingerprint == both.fingerprint
    joined = loaded(frame[:3], frame[3:])
    assert joined.fingerprint == both.fingerprint


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (3, "is no source and no data frame"),
        (np.zeros((4, 8, 8), np.uint8), "opsin.from_arrays"),
        (object(), "is no source and no data frame"),
        (pd.DataFrame({"x": [1]}), "but x"),
        (pd.DataFrame({"image": [b"", b""], "label": ["a", None]}), "one class only"),
        (pd.DataFrame({"image": [], "label": []}), "no images with classes"),
        (pd.DataFrame({"image": [1], "label": ["a"]}), "no paths or contents"),
        (pd.DataFrame({"image": PIXELS, "label": LABELS}), "opsin.from_arrays"),
        (
            pd.DataFrame({"image": ["a.png", b""], "label": ["a", "b"]}),
            "names files and holds contents",
        ),
        (pd.DataFrame({"image": [b"", b""], "label": [{"a": 1}, "b"]}), "text or a number"),
    ],
)
def test_what_cannot_be_taken_is_explained(held: object, said: str) -> None:
    with pytest.raises(opsin.OpsinError, match=said):
        loaded(held)
