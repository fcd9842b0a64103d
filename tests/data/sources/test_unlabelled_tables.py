"""Tables of images, with labels or without."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.data.sources import open_stream


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "path\nb/1.png\n2, or so.png\n".replace("2, or so.png", '"2, or so.png"'), None),
        ("a.tsv", "file_name\tlabel\nb/1.png\t\n2, or so.png\tx\n", None),
        ("a.csv", "file;path\nb/1.png;x\n2, or so.png;y\n", {"path": "file"}),
        ("a.jsonl", '{"path": "b/1.png"}\n\n{"path": "2, or so.png", "label": null}\n', None),
    ],
)
def test_no_label_is_needed(
    tmp_path: Path, name: str, text: str, columns: dict[str, str] | None
) -> None:
    (tmp_path / name).write_text(text)
    stream = open_stream(tmp_path / name, columns=columns)
    assert stream.kind == "table"
    assert stream.count() == 2 or "jsonl" in name
    images = list(stream)
    assert [image.name for image in images] == ["b/1.png", "2, or so.png"]
    assert images[0].path == str(tmp_path / "b/1.png")


def test_rows_before_a_damage_are_answered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,n\n1.png,1\n,2\n")
    images = iter(open_stream(tmp_path / "a.csv"))
    assert next(images).name == "1.png"
    with pytest.raises(SourceError, match=r"Line 3 of .*a\.csv has no path"):
        next(images)


def test_a_damaged_table_has_no_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('path\n"x.png\n')
    assert open_stream(tmp_path / "a.csv").count() is None
