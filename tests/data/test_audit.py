"""The audit finds what was planted, and little else."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import opsin
from opsin.data.spelling import alike_names
from tests.conftest import write_shapes
from tests.data.test_near_duplicates import arrays, cropped, scenes


def scene_set(count: int = 60) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return arrays(scenes(count), 32), np.arange(count) % 2


def finding(found: opsin.Audit, kind: str) -> tuple[int, list[tuple[int, ...]]]:
    (only,) = [each for each in found.findings if each.kind == kind]
    return only.count, [case.rows for case in only.cases]


def test_duplicates_leaks_and_conflicts_are_found_the_worst_first() -> None:
    images, labels = scene_set()
    assert opsin.audit(opsin.from_arrays(images, labels)).findings == ()
    images[10], labels[10] = images[0], 0  # an exact copy
    images[31], labels[31] = images[2], 1  # one under another label
    near = arrays([cropped(scenes(60)[5], 1)], 32)
    test = (np.concatenate([images[20:22], near]), np.array([0, 1, 1]))
    found = opsin.audit(opsin.from_arrays(images, labels, ["cat", "dog"], test=test))
    assert [each.kind for each in found.findings] == [
        "conflicting-labels",
        "test-copies",
        "test-near-duplicates",
        "near-duplicates",
        "exact-duplicates",
    ]
    assert finding(found, "conflicting-labels") == (2, [(2, 31)])
    assert finding(found, "test-copies") == (2, [(20, 60), (21, 61)])
    assert finding(found, "test-near-duplicates") == (1, [(5, 62)])
    assert finding(found, "exact-duplicates")[0] == 8


def test_they_are_found_even_where_they_may_be_parted() -> None:
    images, labels = scene_set()
    images = np.concatenate([images, arrays([cropped(scenes(60)[5], 1)], 32)])
    data = opsin.from_arrays(images, [*labels, 1], near_duplicates="apart")
    assert finding(opsin.audit(data), "near-duplicates") == (2, [(5, 60)])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("empty", lambda pixels: pixels // 128 + 90),
        ("dark", lambda pixels: pixels // 5),
        ("bright", lambda pixels: 200 + pixels // 5),
        ("grey", lambda pixels: pixels.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, 2)),
        ("blurred", lambda pixels: Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4))),
    ],
)
def test_odd_images_are_found(kind: str, change: object) -> None:
    images, labels = scene_set()
    images[17] = change(images[17])  # type: ignore[operator]
    assert finding(opsin.audit(opsin.from_arrays(images, labels)), kind) == (1, [(17,)])


def test_odd_sizes_and_shapes_are_found(tmp_path: Path) -> None:
    for number, image in enumerate(scenes(50)):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        size = {7: (64, 20), 8: (12, 12)}.get(number, (64, 60))
        image.resize(size).save(folder / f"{number:02}.png")
    found = opsin.audit(opsin.load(tmp_path))
    names = found.dataset.names
    ((tall,),) = finding(found, "odd-shape")[1]
    ((small,),) = finding(found, "odd-size")[1]
    assert (names[tall], names[small]) == ("cat/07.png", "dog/08.png")


def test_unreadable_files_and_doubtful_classes_are_found(tmp_path: Path) -> None:
    write_shapes(tmp_path, 90, ("disc", "square"))
    write_shapes(tmp_path / "x", 5, ("cross",))
    (tmp_path / "x" / "cross").rename(tmp_path / "Discs")
    (tmp_path / "x").rmdir()
    (tmp_path / "disc" / "broken.png").write_bytes(b"no")
    found = opsin.audit(opsin.load(tmp_path))
    assert finding(found, "unreadable")[0] == 1
    assert finding(found, "small-classes")[0] == 1
    assert {finding(found, kind)[0] for kind in ("unbalanced", "spelled-twice")} == {1}
    plain = {each["kind"]: each for each in json.loads(json.dumps(found.records()))}
    assert plain["unreadable"]["cases"][0]["note"].startswith("disc/broken.png: ")
    assert plain["spelled-twice"]["cases"][0]["note"] == "'disc' and 'Discs'"
    assert [p["label"] for p in plain["spelled-twice"]["cases"][0]["images"]] == ["disc", "Discs"]


def test_names_are_alike_but_for_case_marks_and_a_plural() -> None:
    names = ["cheese", "chess", "T", "tee", "Dish", "dishes", "-", "résumé", "Resume_", "me", "ms"]
    assert alike_names(names) == [(4, 5), (7, 8)]


def test_what_cannot_be_trained_is_looked_at_all_the_same(tmp_path: Path) -> None:
    write_shapes(tmp_path, 1, ("disc",))
    with pytest.raises(opsin.SourceError, match="has one class only"):
        opsin.load(tmp_path)
    found = opsin.audit(opsin.look_at(tmp_path))
    assert found.findings[0].kind == "untrainable"
    assert "has one class only" in found.findings[0].cases[0].note
    assert opsin.draw_data(found.dataset, tmp_path / "look")


def test_a_group_on_both_sides_and_unchecked_classes_of_given_parts_are_found() -> None:
    images, labels = scene_set()
    groups = ["anna" if row in (3, 57) else "" for row in range(60)]
    test = (images[50:], labels[50:])
    found = opsin.audit(opsin.from_arrays(images[:50], labels[:50], test=test, groups=groups))
    assert finding(found, "test-groups") == (1, [(57,)])
    found = opsin.audit(
        opsin.from_arrays(images[:50], labels[:50], test=(images[50:52], np.array([0, 0])))
    )
    assert finding(found, "unchecked-classes")[0] == 1
