"""Exports of labelling tools: their classes, the places of their images, and hostile ones."""

import json
import shutil
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.data.split import TEST, TRAIN, VAL
from tests.data.sources.conftest import labels_of, opened
from tests.data.sources.test_parquet import LABELS, PIXELS
from tests.served import encoded

NAMES = [f"{row}.png" for row in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        (tmp_path / "images" / name).write_bytes(encoded(pixels))
    return tmp_path


def coco() -> dict[str, object]:
    """Return an export with boxes: two of one class in the first image."""
    return {
        "images": [{"id": 10 + row, "file_name": name} for row, name in enumerate(NAMES)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 10 + row, "category_id": 1 + row % 2} for row in (0, 0, 1, 2, 3, 4, 5)
        ],
    }


def label_studio(*, short: bool) -> list[dict[str, object]]:
    if short:
        return [
            {"image": f"/data/local-files/?d=images/{name}", "id": 1, "choice": label}
            for name, label in zip(NAMES, LABELS, strict=True)
        ]
    return [
        {
            "data": {"photo": f"https://tool.example/data/upload/1/0a1b2c3d-{name}"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {"result": [{"type": "choices", "value": {"choices": [label]}}]},
            ],
        }
        for name, label in zip(NAMES, LABELS, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("instances.json", json.dumps(coco())),
        ("project-1.json", json.dumps(label_studio(short=False))),
        ("project-2.json", json.dumps(label_studio(short=True))),
    ],
)
def test_tools(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content)
    contents = opened(folder / name)
    assert labels_of(contents) == LABELS
    assert contents.names == [f"images/{each}" for each in NAMES]
    packed = shutil.make_archive(str(folder.parent / f"{folder.name}-{name}"), "zip", folder)
    assert labels_of(opened(packed)) == LABELS


def test_roboflow_s_folder_of_each_part(tmp_path: Path) -> None:
    for part, rows in (("train", range(4)), ("valid", [4]), ("test", [5])):
        (tmp_path / part).mkdir()
        content = coco()
        content["images"] = [{"id": 10 + row, "file_name": NAMES[row]} for row in rows]
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
        for row in rows:
            (tmp_path / part / f"{row}.png").write_bytes(encoded(PIXELS[row]))
    contents = opened(tmp_path)
    assert labels_of(contents) == LABELS
    assert contents.source_parts.tolist() == [TRAIN] * 4 + [VAL, TEST]


def test_images_of_several_classes_or_none_are_passed_over_and_said(folder: Path) -> None:
    content = coco()
    annotations = content["annotations"]
    assert isinstance(annotations, list)
    annotations[:] = [*annotations[:-1], {"image_id": 10, "category_id": 2}]
    (folder / "a.json").write_text(json.dumps(content))
    found = opened(folder / "a.json")
    assert found.names == [f"images/{row}.png" for row in range(1, 5)]
    said = {each.kind: each.count for each in found.left_out}
    assert said == {"image with several classes": 1, "image without a class": 1}


def test_a_folder_of_classes_with_json_beside_stays_one(tmp_path: Path) -> None:
    for label, row in zip(LABELS, range(6), strict=True):
        (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / label / f"{row}.png").write_bytes(encoded(PIXELS[row]))
    (tmp_path / "in" / "info.json").write_text('{"images": 3}')
    assert opened(tmp_path / "in").classes == ("cat", "dog")
    packed = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "in")
    assert opened(packed).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "content",
    [
        "{}", "[]", "[1, 2]", "{", "[" * 100_000, '{"images": [{}], "categories": []}',
        '{"images": 3, "categories": []}',
        '{"images": [], "categories": [], "annotations": [{"category_id": 9}]}',
        '[{"data": {"image": 3}}]', '[{"image": "../../secret.png", "choice": "a"}]',
        '[{"image": "/etc/passwd.png", "choice": "a"}]',
    ],
)  # fmt: skip
def test_hostile_and_broken_exports(content: str, folder: Path) -> None:
    (folder / "a.json").write_text(content)
    with pytest.raises(SourceError):
        opened(folder / "a.json").check()
