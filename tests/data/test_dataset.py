"""Any ordinary source becomes one kind of dataset, decoded once."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

import opsin
from opsin.data import fill_cache as module
from opsin.data.dataset import Dataset, cut_into_folds, load, thin_parts
from opsin.data.run_images import load_run_images
from opsin.data.split import Split
from tests.conftest import shape_image, write_shapes


def test_digits_need_nothing(digits: Dataset) -> None:
    assert (digits.images.shape, digits.images[:].max()) == ((1797, 8, 8, 1), 255)
    assert [len(digits.split.rows(part)) for part in ("train", "val", "test")] == [1457, 161, 179]


@pytest.mark.parametrize("times", [1, 9_000])
def test_a_summary_names_classes_whose_names_are_short(times: int) -> None:
    """A report takes 20,000 characters: more would lose a training at its end."""
    names = [name * times for name in "abc"]
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    some = opsin.from_arrays(pixels, [0, 1, 2] * 10, names)
    none = np.zeros(0, np.int64)
    whole = replace(some, split=Split(np.arange(30), none, none))
    counted = " (a 10, b 10, c 10)" if times == 1 else ""
    assert whole.summary() == f"30 images 8×8 grey · 3 classes{counted}"


def test_the_second_time_nothing_is_decoded(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(shapes)

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "prepare", refuse)
    again = load(shapes)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.images, first.images)
    monkeypatch.undo()
    Image.fromarray(shape_image("disc", 99)).save(shapes / "disc" / "0.png")
    assert load(shapes).fingerprint != first.fingerprint


def test_unreadable_files_are_named_skipped_and_counted(shapes: Path) -> None:
    (shapes / "disc" / "broken.png").write_bytes(b"no image")
    data = load(shapes)
    assert len(data) == 24
    assert data.unreadable == [("disc/broken.png", "no image of a known format")]
    assert data.describe().audit.unreadable == 1
    assert np.array_equal(data.images[12], shape_image("square", 6000))
    for number in range(5):
        (shapes / "disc" / f"broken{number}.png").write_bytes(b"no image")
    with pytest.raises(opsin.SourceError, match=r"6 of 30 files.*at most 10%.*--max-unreadable"):
        load(shapes)
    assert len(load(shapes, max_unreadable=0.5).unreadable) == 6


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are always Unicode")
def test_file_names_that_are_no_unicode_are_read(shapes: Path) -> None:
    (shapes / "disc" / "0.png").rename(shapes / "disc" / os.fsdecode(b"caf\xe9.png"))
    names = load(shapes).names
    odd = os.fsdecode(b"disc/caf\xe9.png")
    assert odd in names
    assert load(shapes).names == names
    (shapes / "disc").rename(shapes / os.fsdecode(b"d\xe9"))
    with pytest.raises(opsin.SourceError, match="cannot be printed"):
        load(shapes)


def parts_by_name(data: Dataset) -> dict[str, str]:
    return {
        data.names[row]: part for part in ("train", "val", "test") for row in data.split.rows(part)
    }


def write_noise(root: Path, count: int) -> Path:
    """Write images of two classes that resemble nothing."""
    for number in range(count):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / "ab"[number % 2] / f"{number}.png")
    return root


@pytest.mark.parametrize("kind", ["files", "arrays"])
def test_parts_do_not_depend_on_how_images_are_prepared(tmp_path: Path, kind: str) -> None:
    source = tmp_path / ("set" if kind == "files" else "set.npz")
    if kind == "files":
        write_shapes(source, count=60)  # some of them hang together as near duplicates
    else:
        images = np.random.default_rng(0).integers(0, 256, (120, 24, 24, 3), np.uint8)
        np.savez(source, images=images, labels=np.arange(120) % 2)
    plain = parts_by_name(load(source))
    assert set(plain.values()) == {"train", "val", "test"}
    for options in ({"size": 32}, {"size": 64}, {"channels": 1}, {"size": 17, "resize": "fill"}):
        assert parts_by_name(load(source, **options)) == plain


def test_the_parts_of_a_run_are_taken_up(tmp_path: Path) -> None:
    photos = write_noise(tmp_path / "photos", 80)
    first = opsin.train(photos, model="knn", runs=tmp_path, quiet=True)
    before = parts_by_name(load(photos))
    write_noise(photos, 200)
    (photos / "a" / "0.png").unlink()
    (photos / "a" / "2.png").rename(photos / "a" / "another.png")
    data = load(photos, parts_of=first.path, size=32, channels=1)  # whatever the pixels are
    after = parts_by_name(data)
    assert all(after.get(name, part) == part for name, part in before.items())
    assert after["a/another.png"] == before["a/2.png"]
    assert [len(data.split.rows(part)) for part in ("train", "val", "test")] == [161, 18, 20]
    # The run that takes them up is read when the one before is gone.
    second = opsin.train(data, model="knn", runs=tmp_path, quiet=True)
    shutil.rmtree(first.path)
    assert parts_by_name(load_run_images(second.directory)) == after


def test_parts_of_a_run_of_other_images_are_refused(tmp_path: Path) -> None:
    run = opsin.train("digits", model="knn", runs=tmp_path, quiet=True)
    with pytest.raises(opsin.RecipeError, match="on none of these images"):
        load(write_noise(tmp_path / "photos", 80), parts_of=run.path)
    data = load("digits", parts_of=run.path)
    with pytest.raises(opsin.RecipeError, match="says itself which images are for training"):
        cut_into_folds(data, 5)


@pytest.mark.parametrize("near_duplicates", ["together", "apart"])
def test_corrections_move_no_other_image(tmp_path: Path, near_duplicates: Any) -> None:
    photos = write_noise(tmp_path / "photos", 60)
    for number in range(3):  # near copies, three of each
        with Image.open(photos / "ab"[number % 2] / f"{number}.png") as image:
            for more in range(3):
                brighter = image.point(lambda value, by=4 + 4 * more: value + by)
                brighter.save(photos / "ab"[number % 2] / f"{number} again {more}.png")
    plain = load(photos, near_duplicates=near_duplicates)
    before = parts_by_name(plain)
    table = tmp_path / "labels.csv"
    gone = [f"{'ab'[n % 2]}/{n}{more}.png" for n in range(3) for more in ("", " again 1")]
    gone += [name for name, part in before.items() if part == "test"][:2]
    other = {"a/20.png": "b", "b/21.png": "a"}
    rows = [f"{name},-" for name in gone] + [f"{name},{label}" for name, label in other.items()]
    table.write_text("name,label\n" + "\n".join(rows) + "\n")
    data = load(photos, near_duplicates=near_duplicates, labels=table)
    assert parts_by_name(data) == {n: part for n, part in before.items() if n not in gone}
    assert {
        data.names[row]: data.classes[data.labels[row]]
        for row in range(len(data))
        if data.names[row] in other
    } == other
    # What else is known of each image is still its own.
    row_of = {name: row for row, name in enumerate(plain.names)}
    pairs = {frozenset(plain.names[row] for row in pair) for pair in plain.near.pairs}
    assert {frozenset(data.names[row] for row in pair) for pair in data.near.pairs} == {
        pair for pair in pairs if not pair & set(gone)
    }
    of = [plain.units[row_of[name]] for name in data.names]
    assert len(set(zip(of, data.units, strict=True))) == len(set(of)) == len(set(data.units))
    for whole, part in zip(cut_into_folds(plain, 4), cut_into_folds(data, 4), strict=True):
        sides = parts_by_name(whole)
        assert parts_by_name(part) == {name: sides[name] for name in data.names}


def test_copies_with_equal_pixels_in_other_bytes_stay_on_one_side(tmp_path: Path) -> None:
    write_shapes(tmp_path, count=60)
    for file in list(tmp_path.rglob("*.png")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".bmp"))
    parts = parts_by_name(load(tmp_path))
    assert all(parts[name] == parts[f"{name[:-4]}.bmp"] for name in parts)


def collection(count: int, classes: int, people: int, copies: int, seed: int) -> dict[str, Any]:
    """Make arrays of random images, some of them twice, some of one person."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 8, 8), np.uint8)
    labels = np.arange(count) % classes
    if copies:
        images[-copies:] = images[:copies]
    groups = [
        f"person {number}" if number < people else ""
        for number in random.integers(0, 2 * people + 1, count)
    ]
    return {"images": images, "labels": labels, "groups": groups}


@settings(max_examples=15)
@given(
    count=st.integers(60, 160),
    classes=st.integers(2, 4),
    people=st.integers(0, 12),
    copies=st.integers(0, 10),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**31),
)
def test_folds_cover_everything_once_and_are_those_of_the_option(
    count: int, classes: int, people: int, copies: int, folds: int, seed: int
) -> None:
    made = collection(count, classes, people, copies, seed)
    data = opsin.from_arrays(**made)
    parts = cut_into_folds(data, folds)
    tested = np.concatenate([part.split.test for part in parts])
    assert sorted(tested) == list(range(count))
    groups = np.array(made["groups"])
    for number, part in enumerate(parts, 1):
        sides = [set(groups[part.split.rows(side)]) - {""} for side in ("train", "val", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides))
        assert part.leaks == (0, 0)
        alone = opsin.from_arrays(**made, fold=f"{number}/{folds}")
        for side in ("train", "val", "test"):
            assert np.array_equal(part.split.rows(side), alone.split.rows(side))
        assert part.recipe == alone.recipe


@pytest.mark.parametrize("choice", ["together", "apart"])
def test_near_duplicates_are_parted_as_was_asked(choice: str) -> None:
    images = np.stack([shape_image(kind, seed) for seed in range(20) for kind in ("disc", "cross")])
    brighter = np.clip(images.astype(np.int64) + 15, 0, 255).astype(np.uint8)
    labels = np.tile(np.arange(40) % 2, 2)
    both = np.concatenate([images, brighter])
    data = opsin.from_arrays(both, labels, near_duplicates=choice)
    assert len(data.near.pairs) >= 20
    parts = cut_into_folds(data, 4)
    assert (sum(part.leaks[1] for part in parts) == 0) == (choice == "together")
    alone = opsin.from_arrays(both, labels, near_duplicates=choice, fold="3/4")
    assert np.array_equal(parts[2].split.test, alone.split.test)


def test_a_source_that_names_its_parts_is_refused(tmp_path: Path) -> None:
    made = collection(60, 2, 0, 0, 0)
    test = (made["images"][:20] // 2, made["labels"][:20])
    with pytest.raises(opsin.RecipeError, match="which images are for the test"):
        cut_into_folds(opsin.from_arrays(made["images"], made["labels"], test=test), 3)
    for part in ("train", "val"):
        write_shapes(tmp_path / part, count=9 if part == "train" else 3)
    with pytest.raises(opsin.RecipeError, match="which images are for training"):
        cut_into_folds(opsin.load(tmp_path), 3)


def groups_of(sizes: list[int], classes: int = 3, **options: Any) -> opsin.Dataset:
    """Make images of which those of one group belong together, each group of every class."""
    count = sum(sizes)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    names = [f"person {n}" for n, size in enumerate(sizes) for _ in range(size)]
    labels = np.arange(count) % classes
    return opsin.from_arrays(images, labels, groups=names, **options)


def test_too_many_folds_for_large_groups_are_refused() -> None:
    data = groups_of([30] * 5)
    assert min(len(data.split.val), len(data.split.test)) >= 30
    with pytest.raises(opsin.RecipeError, match="without any to test"):
        cut_into_folds(data, 6)
    assert sum(len(part.split.test) for part in cut_into_folds(data, 5)) == len(data)


def test_two_bundles_of_everything_have_no_test_part_which_is_said() -> None:
    said = thin_parts(groups_of([50, 50]))
    assert "Only 0 of 100 images are for the test, where 10 were asked for" in said


def test_classes_that_the_figure_says_nothing_of_are_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    data = opsin.from_arrays(
        images[:60], np.arange(60) % 3, ["a", "b", "c"], test=(images[60:], np.arange(30) % 2)
    )
    said = thin_parts(data)
    assert said.startswith("The figure says nothing of c: no test image is of this class.")
    groups = ["a film" if row % 3 == 0 else "" for row in range(90)]
    by_all = opsin.from_arrays(images, np.arange(90) % 3, ["a", "b", "c"], groups=groups)
    none = np.zeros(0, np.int64)
    by_all = replace(by_all, split=Split(np.arange(90), none, none))
    said = "The figure says nothing of a: no image is independent of the others of this class."
    assert thin_parts(by_all) == said
