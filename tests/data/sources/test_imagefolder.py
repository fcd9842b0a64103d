"""Folders in the manner of Hugging Face: metadata beside the images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from tests.data.sources.conftest import paths_of


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def opened(root: Path, **options: object) -> LabelledImages:
    return sources.find_all(DataRecipe.of(str(root), **options)).open()


def labels_of(contents: LabelledImages) -> dict[str, str]:
    labels = [contents.classes[label] for label in contents.labels]
    return dict(zip(contents.names, labels, strict=True))


def test_metadata_in_the_root(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "deep/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.png,cat\ndeep/2.png,dog\n")
    contents = opened(tmp_path)
    assert labels_of(contents) == {"1.png": "cat", "deep/2.png": "dog"}
    assert contents.given.tolist() == [UNASSIGNED] * 2
    assert contents.source == str(tmp_path)


def test_metadata_in_each_part(tmp_path: Path) -> None:
    for part, kind in (("train", "dog"), ("validation", "cat"), ("test", "dog")):
        put(tmp_path, f"{part}/1.png", f"{part}/2.png")
        rows = [{"file_name": "1.png", "label": kind}, {"file_name": "2.png", "label": "cat"}]
        (tmp_path / part / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    contents = opened(tmp_path)
    assert contents.classes == ("cat", "dog")
    assert labels_of(contents)["validation/1.png"] == "cat"
    assert labels_of(contents)["test/1.png"] == "dog"
    given = dict(zip(contents.names, contents.given.tolist(), strict=True))
    assert given["train/1.png"] == TRAIN
    assert given["validation/2.png"] == VAL
    assert given["test/2.png"] == TEST
    assert all(image.exists() for image in paths_of(contents))


def test_parts_named_by_the_paths_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.png,cat\ntest/1.png,dog\n")
    assert opened(tmp_path).given.tolist() == [TRAIN, TEST]


def test_metadata_without_labels_leaves_the_classes_to_the_folders(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/1.png,hello\n")
    assert labels_of(opened(tmp_path)) == {"cat/1.png": "cat", "dog/1.png": "dog"}
    with pytest.raises(SourceError, match="no column kind, but file_name, caption"):
        opened(tmp_path, columns={"label": "kind"})
    with_labels = opened(tmp_path, columns={"label": "caption"})
    assert labels_of(with_labels) == {"cat/1.png": "hello"}


def test_a_part_without_metadata_is_named(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,cat\n")
    with pytest.raises(SourceError, match="no metadata file with labels in test"):
        opened(tmp_path)


def test_new_metadata_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    table = tmp_path / "metadata.csv"
    table.write_text("file_name,label\n1.png,cat\n")
    before = sources.find_all(DataRecipe.of(str(tmp_path))).key
    table.write_text("file_name,label\n1.png,lion\n")
    assert sources.find_all(DataRecipe.of(str(tmp_path))).key != before
