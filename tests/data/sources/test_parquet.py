"""Parquet files and data frames: images in any form, parts, limits."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import opsin
from opsin.data.images import PackedImage, content_of
from opsin.data.sources import open_stream
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN, VAL
from tests.conftest import Notes, a_few
from tests.data.sources.conftest import opened
from tests.processes import python
from tests.served import encoded

PIXELS = [np.full((6, 6, 3), 40 * n, np.uint8) for n in range(6)]
LABELS = ["cat", "dog"] * 3


IMAGES = [encoded(pixels) for pixels in PIXELS]
FRAME = pd.DataFrame({"image": IMAGES, "label": LABELS})
WHOLE = FRAME.to_parquet()


@pytest.mark.parametrize(
    "cell",
    [encoded, lambda pixels: {"bytes": encoded(pixels), "path": None}],
    ids=["bytes", "bytes and path"],
)
def test_images_in_any_form(cell: Callable[[np.ndarray], object], tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list(map(cell, PIXELS)), "label": LABELS})
    frame.to_parquet(tmp_path / "a.parquet")
    data = opsin.load(tmp_path / "a.parquet", test_fraction=0, near_duplicates="apart")
    assert np.array_equal(data.images[:], PIXELS)
    assert [data.classes[label] for label in data.labels] == LABELS
    frame.drop(columns="label").to_parquet(tmp_path / "b.parquet")
    assert [each.image for each in open_stream(tmp_path / "b.parquet")] == IMAGES


def test_paths_lie_beside_the_table(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    for name, content in zip(names, IMAGES, strict=True):
        (tmp_path / name).write_bytes(content)
    pd.DataFrame({"path": names, "label": LABELS}).to_parquet(tmp_path / "a.parquet")
    contents = opened(tmp_path / "a.parquet")
    assert contents.images == [str(tmp_path / name) for name in names]
    assert contents.names == names
    outside = pd.DataFrame({"path": ["../secret.png"], "label": ["a"]})
    outside.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(opsin.SourceError, match="leads out of the table's folder"):
        opened(tmp_path / "b.parquet")


def test_columns_are_known_named_or_asked_for(tmp_path: Path) -> None:
    frame = pd.DataFrame({"photo": IMAGES, "species": LABELS, "who": list("aabbcc")})
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(opsin.SourceError, match=r"photo, species, who\. .* path=file"):
        opened(tmp_path / "a.parquet")
    columns = {"path": "photo", "label": "species", "group": "who"}
    assert opened(tmp_path / "a.parquet", columns=columns).groups == list("aabbcc")
    with pytest.raises(opsin.SourceError, match="no column nowhere"):
        opened(tmp_path / "a.parquet", columns={**columns, "split": "nowhere"})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([10, 2, 10, 2, 10, 2], ("2", "10")), ([1.0, 0.0] * 3, ("0", "1")),
        ([True, False] * 3, ("false", "true")), (pd.Categorical(LABELS), ("cat", "dog")),
    ],
)  # fmt: skip
def test_classes_of_any_kind(labels: object, expected: tuple[str, ...], tmp_path: Path) -> None:
    FRAME.assign(label=labels).to_parquet(tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").classes == expected


def test_what_has_no_class_is_passed_over_and_said(tmp_path: Path) -> None:
    frame = FRAME.assign(
        label=["cat", None, "dog", "", "cat", "dog"],
        split=["train", "train", "test", "test", "unsupervised", "val"],
    )
    frame.to_parquet(tmp_path / "a.parquet")
    for _ in range(2):  # the second time from the cache
        contents = opened(tmp_path / "a.parquet")
        assert contents.source_parts.tolist() == [TRAIN, TEST, VAL]
        assert contents.names == ["train/0", "test/0", "val/0"]
        said = {"image without a class": 2, "image in the part unsupervised": 1}
        assert {each.kind: each.count for each in contents.left_out} == said


def test_hugging_face_s_form(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["zebra", "ant"])
    features = datasets.Features({"image": datasets.Image(), "label": label})
    for part, rows in {"train": [0, 1, 2, 3], "test": [4, 5]}.items():
        images = [{"bytes": IMAGES[row], "path": None} for row in rows]
        made = {"image": images, "label": [row % 2 for row in rows]}
        file = tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(made, features=features).to_parquet(file)
    contents = opened(tmp_path / "hub")
    assert contents.classes == ("zebra", "ant")  # the order of the numbers
    assert sorted(contents.source_parts.tolist()) == [TRAIN] * 4 + [TEST] * 2


def packed(contents: LabelledImages, row: int) -> PackedImage:
    image = contents.images[row]
    assert isinstance(image, PackedImage)
    return image


def test_the_second_time_nothing_is_unpacked_unless_it_is_damaged(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.parquet")
    first, second = Notes(), Notes()
    found = opened(tmp_path / "a.parquet", watcher=first)
    assert ("Unpack", 6, "images") in first.begun
    again = opened(tmp_path / "a.parquet", watcher=second)
    assert second.begun == []
    assert list(again.images) == list(found.images)
    # What was damaged since is unpacked again.
    folder = Path(packed(again, 0).file).parent
    for name, size in (("about.json", 2), ("columns.npz", 200)):
        os.truncate(folder / name, size)
        assert packed(opened(tmp_path / "a.parquet"), 5).read() == IMAGES[5]
    contents = opened(tmp_path / "a.parquet")
    last = packed(contents, 5)
    os.truncate(last.file, last.end - 3)
    with pytest.raises(opsin.ImageError, match="it has been cut short"):
        content_of(last, "it")
    assert packed(contents, 0).read() == IMAGES[0]


def bomb(path: Path, rows: int) -> None:
    """Write one image of ten megabytes many times over, which takes no room in the file."""
    value = pa.array([bytes(10_000_000)], pa.binary())
    indices = pa.array(np.zeros(rows, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, value)
    labels = pa.array(["a"] * rows)
    pq.write_table(pa.table({"image": column, "label": labels}), path)


@pytest.mark.parametrize(
    "content",
    [b"", b"path,label\n", WHOLE[: len(WHOLE) // 2], WHOLE[:-4] + b"nope", FRAME[:0].to_parquet(),
     FRAME.assign(image=range(6)).to_parquet(),
     FRAME.assign(image=[[[1, 2], [3]]] * 6).to_parquet()],
)  # fmt: skip
def test_broken_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(opsin.SourceError):
        opened(tmp_path / "a.parquet")


def test_a_class_out_of_range(tmp_path: Path) -> None:
    about = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}}}'
    table = pa.table({"image": IMAGES, "label": [0, 1, 0, 1, 7, 0]})
    table = table.replace_schema_metadata({b"huggingface": about})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(opsin.SourceError):
        opened(tmp_path / "a.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100_000, 250])  # of the latter each part fits
def test_bombs(rows: int, tmp_path: Path) -> None:
    bomb(tmp_path / "a.parquet", rows)
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    with pytest.raises(opsin.SourceError):
        opened(tmp_path / "a.parquet")


@pytest.mark.parametrize("place", a_few(range(4, 60, 7), 2))
def test_damage_anywhere_is_explained_or_harmless(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    content = bytearray(WHOLE)
    at = len(content) * place // 64
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with contextlib.suppress(opsin.SourceError):
        assert len(opened(path)) <= 6


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.parquet")
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyarrow' else find(name, *a)\n"
        "import opsin\ntry: opsin.load(sys.argv[1])\n"
        "except opsin.MissingExtraError as error: print(error)"
    )
    said = python("-c", code, tmp_path / "a.parquet")
    assert "pip install 'opsin[parquet]'" in said.stdout


def test_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    FRAME.to_parquet(tmp_path / "packed" / "a.parquet")
    zipped = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "packed")
    assert len(opened(zipped)) == 6
    # Beside classes in folders it is a table of something else.
    for name in LABELS[:2]:
        for number in range(2):
            (tmp_path / "packed" / name).mkdir(exist_ok=True)
            (tmp_path / "packed" / name / f"{number}.png").write_bytes(IMAGES[number])
    mixed = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "packed")
    assert sorted(opened(mixed).names) == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    assert sorted(opened(tmp_path / "packed").names)[0] == "cat/0.png"


def loaded(*given: object, **options: Any) -> opsin.Dataset:
    return opsin.load(*given, near_duplicates="apart", **options)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("form", ["bytes", "paths"])
def test_frames(library: str, form: str, tmp_path: Path) -> None:
    images: list[Any] = list(IMAGES)
    if form == "paths":
        images = [str(tmp_path / f"{number}.png") for number in range(6)]
        for path, content in zip(images, IMAGES, strict=True):
            Path(path).write_bytes(content)
    made: Any = pd.DataFrame if library == "pandas" else pl.DataFrame
    data = loaded(made({"image": images, "label": LABELS}))
    assert np.array_equal(data.images[:], PIXELS)
    assert [data.classes[label] for label in data.labels] == LABELS
    assert data.recipe.source == f"{library}.DataFrame"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, ""])
@pytest.mark.parametrize("kind", [object, "string"])
def test_a_missing_label_is_none(missing: object, kind: Any) -> None:
    labels = pd.Series([*LABELS[:5], missing], dtype=kind)
    notes = Notes()
    data = loaded(FRAME.assign(label=labels), watcher=notes)
    assert (len(data), data.classes) == (5, ("cat", "dog"))
    assert [(each.kind, each.count) for each in data.left_out] == [("image without a class", 1)]
    assert len(loaded(FRAME.assign(split=pd.NA, group=missing))) == 6
    lacking = [*IMAGES[:5], None if isinstance(missing, str) else missing]
    assert len(loaded(FRAME.assign(image=lacking), max_unreadable=0.5).unreadable) == 1


def test_parts_in_a_column_and_a_test_of_its_own() -> None:
    both = loaded(FRAME.assign(split=["train"] * 4 + ["test"] * 2))
    assert len(both.split.test) == 2
    assert both.given_test
    for given in (loaded(FRAME[:4], test=FRAME[4:]), loaded(FRAME[:3], FRAME[3:])):
        assert given.fingerprint == both.fingerprint


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
        (pd.DataFrame({"image": ["a.png", b""], "label": ["a", "b"]}), "names files and holds"),
        (pd.DataFrame({"image": [b"", b""], "label": [{"a": 1}, "b"]}), "text or a number"),
    ],
)
def test_what_cannot_be_taken_is_explained(held: object, said: str) -> None:
    with pytest.raises(opsin.OpsinError, match=said):
        loaded(held)
