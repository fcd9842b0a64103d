"""A table's other columns are found again for each image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import opsin
from opsin.data.sources.table import columns_of

HEAD = ["file", "kind", "camera", "age", "same"]


def write_table(shapes: Path, ending: str) -> Path:
    """Write a table of the shapes, the 24th image without a camera."""
    rows: list[dict[str, object]] = [
        dict(zip(HEAD, (f"{kind}/{number}.png", kind, ("old", "new")[number % 2], number, "x"),
                 strict=True))
        for kind in ("disc", "square")
        for number in range(12)
    ]  # fmt: skip
    rows[-1]["camera"] = ""
    path = shapes / f"set.{ending}"
    if ending == "csv":
        lines = [",".join(HEAD), *(",".join(str(cell) for cell in row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_columns_of_a_table(shapes: Path, ending: str) -> None:
    table = write_table(shapes, ending)
    (shapes / "disc" / "3.png").unlink()
    data = opsin.load(table, columns={"path": "file", "label": "kind"})
    found = columns_of(data.located, data.names)
    assert list(found) == ["camera", "age"]
    by_name = dict(zip(data.names, found["camera"], strict=True))
    assert len(by_name) == 23
    assert (by_name["disc/4.png"], by_name["disc/5.png"], by_name["square/11.png"]) == (
        "old", "new", "",
    )  # fmt: skip
    assert dict(zip(data.names, found["age"], strict=True))["square/7.png"] == "7"


def test_other_columns_of_a_folder_with_metadata(shapes: Path) -> None:
    write_table(shapes, "csv").rename(shapes / "metadata.csv")
    data = opsin.load(shapes, columns={"path": "file", "label": "kind"})
    assert list(columns_of(data.located, data.names)) == ["camera", "age"]
    plain = opsin.load(shapes)
    assert columns_of(plain.located, plain.names) == {}
