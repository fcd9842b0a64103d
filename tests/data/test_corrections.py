"""Corrections: applied whole or not at all, to the images they mean, and to no source."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import opsin
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.cache import short_digest
from opsin.data.corrections import Correction, read_corrections, write_corrections
from opsin.data.run_images import load_run_images
from tests.conftest import Notes


def rows_of(data: opsin.Dataset) -> list[Correction]:
    """Return a row for every image, with its present label."""
    digests = [digest.tobytes().hex() for digest in short_digest(data.digests)]
    return [
        Correction(digest, name, label_of(data, name))
        for digest, name in zip(digests, data.names, strict=True)
    ]


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def label_of(data: opsin.Dataset, name: str) -> str:
    return data.classes[int(data.labels[data.names.index(name)])]


def content_of(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(
        b"".join(str(file).encode() + file.read_bytes() for file in files)
    ).hexdigest()


def test_a_file_as_it_is_written_changes_nothing(shapes: Path, tmp_path: Path) -> None:
    data = opsin.load(shapes)
    path = write_corrections(tmp_path / "labels.csv", rows_of(data))
    again = opsin.load(shapes, labels=path)
    assert again.fingerprint == data.fingerprint
    assert np.array_equal(again.labels, data.labels)
    for part in ("train", "val", "test"):
        assert np.array_equal(again.split.rows(part), data.split.rows(part))
    assert again.corrected is not None
    none = dict.fromkeys(("relabelled", "left_out", "by_name"), 0)
    counts = again.corrected.model_dump(mode="json", exclude_unset=True)
    assert counts == {"file": str(path), "rows": 24, **none}
    assert data.corrected is None


def test_labels_are_corrected_and_images_left_out(shapes: Path, tmp_path: Path) -> None:
    data, before = opsin.load(shapes), content_of(shapes)
    rows = {row.name: row for row in rows_of(data)}
    path = write_corrections(
        tmp_path / "labels.csv",
        [
            rows["disc/3.png"]._replace(label="square"),
            rows["disc/5.png"]._replace(label="-"),
            rows["square/1.png"]._replace(label=""),
            rows["square/2.png"],
        ],
    )
    found = opsin.load(shapes, labels=path)
    assert label_of(found, "disc/3.png") == "square"
    assert set(data.names) - set(found.names) == {"disc/5.png", "square/1.png"}
    assert len(found) == len(found.images) == len(found.digests) == len(found.sizes) == 22
    for row, name in enumerate(found.names):
        assert np.array_equal(found.images[row], data.images[data.names.index(name)])
        if name != "disc/3.png":
            assert label_of(found, name) == label_of(data, name)
    assert found.fingerprint != data.fingerprint
    assert found.corrected is not None
    assert (found.corrected.relabelled, found.corrected.left_out) == (1, 2)
    about = found.describe()
    assert about.corrections is not None
    assert about.corrections.left_out == 2
    assert about.location.labels == str(path)
    split = found.split
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(22))
    # The source does not know of it.
    assert content_of(shapes) == before
    assert opsin.load(shapes).fingerprint == data.fingerprint


def test_an_image_is_known_at_another_size_or_name(shapes: Path, tmp_path: Path) -> None:
    data = opsin.load(shapes)
    row = next(row for row in rows_of(data) if row.name == "disc/3.png")
    path = write_corrections(tmp_path / "labels.csv", [row._replace(label="square")])
    notes = Notes()
    found = opsin.load(shapes, labels=path, size=16, watcher=notes)
    assert label_of(found, "disc/3.png") == "square"
    assert found.corrected is not None
    assert found.corrected.by_name == 1
    assert any("known by their names" in note for note in notes.notes)
    (shapes / "disc" / "3.png").rename(shapes / "disc" / "zebra.png")
    assert label_of(opsin.load(shapes, labels=path), "disc/zebra.png") == "square"
    # Another image of the old name is not meant, and that there is none such is said.
    rows = rows_of(data)
    (shapes / "disc" / "zebra.png").unlink()
    shutil.copy(shapes / "square" / "0.png", shapes / "disc" / "3.png")
    both = [row._replace(label="square"), next(r for r in rows if r.name == "disc/4.png")]
    path = write_corrections(path, both)
    with pytest.raises(opsin.SourceError, match=r"1 of the 2 images.*line 2 \(disc/3.png\)"):
        opsin.load(shapes, labels=path)


def test_copies_are_told_by_name_and_else_all_meant(shapes: Path, tmp_path: Path) -> None:
    shutil.copy(shapes / "disc" / "0.png", shapes / "square" / "copy.png")
    data = opsin.load(shapes)
    row = next(row for row in rows_of(data) if row.name == "disc/0.png")
    path = write_corrections(tmp_path / "labels.csv", [row])
    # The row says what disc/0.png is called already, and nothing of its copy.
    assert label_of(opsin.load(shapes, labels=path), "square/copy.png") == "square"
    for name in ("", "renamed.png"):
        write_corrections(path, [row._replace(name=name)])
        assert label_of(opsin.load(shapes, labels=path), "square/copy.png") == "disc"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none"),
        ("image,class\na,b\n", "columns image, class"),
        ("name,label,label\ndisc/1.png,disc,disc\n", "label twice"),
        ("name,label\ndisc/1.png,disc,more\n", "Line 2 .* has 3"),
        ("digest,label\nabc,disc\n", "Line 2 .* has 'abc'"),
        ("digest,name,label\n,,disc\n", "Line 2 .* has neither"),
        ('name,label\n"disc/1.png,disc\n', "Line 2 .* is broken"),
        ("name,label\ndisc/1.png,di\0sc\n", "NUL"),
        ("name,label\nwolf.png,disc\nfox.png,disc\n",
         r"2 of the 2 images.*line 2 \(wolf.png\), line 3 \(fox.png\)"),
        ("name,label\ndisc/1.png,Disc\n", r"no classes in 1 lines: 'Disc' in line 2"),
        ("name,label\ndisc/1.png,square\ndisc/1.png,-\n",
         "says 'square' in line 2 .* and '-' in line 3 .* the same image"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(shapes: Path, tmp_path: Path, text: str, said: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(opsin.SourceError, match=said) as caught:
        opsin.load(shapes, labels=path)
    assert str(path) in str(caught.value)


texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=12
).filter(lambda text: bool(text.strip()))


@given(
    rows=st.lists(st.tuples(st.sampled_from(["", "0" * 32, "af" * 16]), texts, texts), max_size=6)
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("written") / "labels.csv"
    written = [Correction(*row, suggested="x", score=0.5) for row in rows]
    found = read_corrections(write_corrections(path, written))
    assert [tuple(row[:3]) for row in found] == rows


@pytest.mark.torch
def test_a_run_keeps_its_corrections(shapes: Path, tmp_path: Path) -> None:
    path = table(tmp_path, "name,label\ndisc/3.png,square\ndisc/5.png,-\n")
    notes = Notes()
    run = opsin.train(
        shapes, labels=path, model="mlp", epochs=1, runs=tmp_path / "runs", watcher=notes
    )
    assert notes.facts["Labels"] == f"{path}: 1 relabelled, 1 left out"
    about = run.directory.read(DatasetRecord)
    assert about.corrections is not None
    assert about.corrections.relabelled == 1
    assert about.location.labels == str(path)
    # Whatever becomes of the file, and of the images that it names.
    path.write_text("name,label\ndisc/1.png,square\n", encoding="utf-8")
    moved = RunDirectory(run.path.rename(tmp_path / "runs" / "moved"))
    assert len(load_run_images(moved)) == 23
    (shapes / "disc" / "3.png").unlink()
    with pytest.raises(opsin.SourceError, match="1 are missing"):
        load_run_images(moved)
