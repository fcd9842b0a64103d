"""Parquet files and data frames: images in any form, parts, limits."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import opsin
from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.dataset import Dataset
from opsin.data.sources import open_stream
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN, VAL
from tests.data.sources.conftest import Notes
from tests.variants import a_few

PIXELS = [np.full((6, 6, 3), 40 * n, np.uint8) for n in range(6)]
LABELS = ["cat", "dog"] * 3


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def opened(source: Path | str, **options: object) -> LabelledImages:
    return sources.find_all(DataRecipe.of(str(source), **options)).open()


@pytest.mark.parametrize(
    "cell",
    [png, lambda pixels: {"bytes": png(pixels), "path": None}],
    ids=["bytes", "bytes and path"],
)
def test_images_in_any_form(cell: Callable[[np.ndarray], object], tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(cell, PIXELS)), "label": LABELS})
    frame.to_parquet(tmp_path / "a.parquet")
    data = opsin.load(tmp_path / "a.parquet", test_fraction=0, near_duplicates="apart")
    assert np.array_equal(data.images[:], PIXELS)
    assert [data.classes[label] for label in data.labels] == LABELS
    frame.drop(columns="label").to_parquet(tmp_path / "b.parquet")
    images = [each.image for each in open_stream(tmp_path / "b.parquet")]
    assert images == list(map(png, PIXELS))


def test_paths_lie_beside_the_table(tmp_path: Path) -> None:
    for number, pixels in enumerate(PIXELS):
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
    names = [f"{number}.png" for number in range(6)]
    pd.DataFrame({"path": names, "label": LABELS}).to_parquet(tmp_path / "a.parquet")
    contents = opened(tmp_path / "a.parquet")
    assert list(contents.images) == [tmp_path / name for name in names]
    assert contents.names == names
    outside = pd.DataFrame({"path": ["../secret.png"], "label": ["a"]})
    outside.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(SourceError, match="leads out of the table's folder"):
        opened(tmp_path / "b.parquet")


def test_columns_are_known_named_or_asked_for(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"photo": list(map(png, PIXELS)), "species": LABELS, "who": list("aabbcc")}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"photo, species, who\. .* path=file"):
        opened(tmp_path / "a.parquet")
    columns = {"path": "photo", "label": "species", "group": "who"}
    assert opened(tmp_path / "a.parquet", columns=columns).groups == list("aabbcc")
    with pytest.raises(SourceError, match="no column nowhere"):
        opened(tmp_path / "a.parquet", columns={**columns, "split": "nowhere"})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([10, 2, 10, 2, 10, 2], ("2", "10")),
        ([1.0, 0.0] * 3, ("0", "1")),
        ([True, False] * 3, ("false", "true")),
        (pd.Categorical(LABELS), ("cat", "dog")),
    ],
)
def test_classes_of_any_kind(labels: object, expected: tuple[str, ...], tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": labels})
    frame.to_parquet(tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").classes == expected


def test_what_has_no_class_is_passed_over_and_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "image": list(map(png, PIXELS)),
        "label": ["cat", None, "dog", "", "cat", "dog"],
        "split": ["train", "train", "test", "test", "unsupervised", "val"],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "a.parquet")
    recipe = DataRecipe.of(str(tmp_path / "a.parquet"))
    contents = sources.find_all(recipe).open()
    assert contents.given.tolist() == [TRAIN, TEST, VAL]
    assert contents.names == ["train/0", "test/0", "val/0"]
    said = {"image without a class": 2, "image in the part unsupervised": 1}
    assert {each.kind: each.count for each in contents.left_out} == said
    again = sources.find_all(recipe).open()  # from the cache
    assert {each.kind: each.count for each in again.left_out} == said


def hugging_face(names: list[str], rows: Mapping[str, list[int]], folder: Path) -> None:
    """Write parts as Hugging Face's hub has them."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    parts = {
        part: datasets.Dataset.from_dict(
            {"image": [{"bytes": png(PIXELS[row]), "path": None} for row in chosen],
             "label": [row % 2 for row in chosen]},
            features=features,
        )
        for part, chosen in rows.items()
    }  # fmt: skip
    (folder / "hub" / "data").mkdir(parents=True)
    for part, each in parts.items():
        each.to_parquet(folder / "hub" / "data" / f"{part}-00000-of-00001.parquet")


def test_hugging_face_s_form(tmp_path: Path) -> None:
    hugging_face(["zebra", "ant"], {"train": [0, 1, 2, 3], "test": [4, 5]}, tmp_path)
    contents = opened(tmp_path / "hub")
    assert contents.classes == ("zebra", "ant")  # the order of the numbers
    assert sorted(contents.given.tolist()) == [TRAIN] * 4 + [TEST] * 2


def test_the_second_time_nothing_is_unpacked(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    frame.to_parquet(tmp_path / "a.parquet")
    first, second = Notes(), Notes()
    recipe = DataRecipe.of(str(tmp_path / "a.parquet"))
    found = sources.find_all(recipe, watcher=first).open()
    assert ("Unpack", 6, "images") in first.begun
    again = sources.find_all(recipe, watcher=second).open()
    assert second.begun == []
    assert list(again.images) == list(found.images)
    # What was damaged since is unpacked again.
    assert isinstance(again.images[0], bytes)
    file = again.images.file  # type: ignore[union-attr]
    (file.parent / "about.json").write_text("{}")
    third = sources.find_all(recipe, watcher=Notes()).open()
    assert third.images[5] == png(PIXELS[5])


def test_an_image_that_is_cut_off_later_is_one_unreadable_image(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    frame.to_parquet(tmp_path / "a.parquet")
    contents = opened(tmp_path / "a.parquet")
    file = contents.images.file  # type: ignore[union-attr]
    os.truncate(file, file.stat().st_size - 3)
    with pytest.raises(opsin.ImageError, match="it has been cut short"):
        contents.images[5]
    assert contents.images[0] == png(PIXELS[0])


def bomb(path: Path, rows: int) -> None:
    """Write one image of ten megabytes many times over, which takes no room in the file."""
    value = pa.array([bytes(10_000_000)], pa.binary())
    indices = pa.array(np.zeros(rows, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, value)
    labels = pa.array(["a"] * rows)
    pq.write_table(pa.table({"image": column, "label": labels}), path)


@pytest.mark.parametrize(
    "kind",
    ["empty", "text", "cut short", "no footer", "no rows", "numbers as images", "lists",
     "a class out of range", pytest.param("bomb", marks=pytest.mark.slow),
     pytest.param("small bomb", marks=pytest.mark.slow)],
)  # fmt: skip
def test_hostile_and_broken_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    good = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    good.to_parquet(path)
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("path,label\n")
    elif kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no footer":
        path.write_bytes(content[:-4] + b"nope")
    elif kind == "no rows":
        good[:0].to_parquet(path)
    elif kind == "numbers as images":
        pd.DataFrame({"image": range(6), "label": LABELS}).to_parquet(path)
    elif kind == "lists":
        ragged = [[[1, 2], [3]]] * 6
        pd.DataFrame({"image": ragged, "label": LABELS}).to_parquet(path)
    elif kind == "a class out of range":
        about = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}}}'
        table = pa.table({"image": list(map(png, PIXELS)), "label": [0, 1, 0, 1, 7, 0]})
        pq.write_table(table.replace_schema_metadata({b"huggingface": about}), path)
    elif kind == "bomb":
        bomb(path, 100_000)
        assert path.stat().st_size < 1_000_000
    else:
        bomb(path, 250)  # of which each part fits
    with pytest.raises(SourceError):
        opened(path)


def test_of_several_files_the_damaged_one_is_named(tmp_path: Path) -> None:
    for name in ("1.parquet", "2.parquet"):
        pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS}).to_parquet(tmp_path / name)
    content = (tmp_path / "2.parquet").read_bytes()
    (tmp_path / "2.parquet").write_bytes(content[:-4] + b"nope")
    with pytest.raises(SourceError, match=r"2\.parquet"):
        opened(tmp_path)


@pytest.mark.parametrize("place", a_few(range(4, 60, 7), 2))
def test_damage_anywhere_is_explained_or_harmless(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS}).to_parquet(path)
    content = bytearray(path.read_bytes())
    at = len(content) * place // 64
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    try:
        contents = opened(path)
    except SourceError:
        return
    assert len(contents) <= 6


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS}).to_parquet(
        tmp_path / "a.parquet"
    )
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyarrow' else find(name, *a)\n"
        "import opsin\ntry: opsin.load(sys.argv[1])\n"
        "except opsin.MissingExtraError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.parquet")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pip install 'opsin[parquet]'" in said.stdout


def test_in_an_archive(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(png, PIXELS)), "label": LABELS})
    (tmp_path / "packed").mkdir()
    frame.to_parquet(tmp_path / "packed" / "a.parquet")
    zipped = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "packed")
    assert len(opened(zipped)) == 6
    # Beside classes in folders it is a table of something else.
    for name in LABELS[:2]:
        for number in range(2):
            (tmp_path / "packed" / name).mkdir(exist_ok=True)
            (tmp_path / "packed" / name / f"{number}.png").write_bytes(png(PIXELS[number]))
    mixed = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "packed")
    assert sorted(opened(mixed).names) == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    assert sorted(opened(tmp_path / "packed").names)[0] == "cat/0.png"


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
