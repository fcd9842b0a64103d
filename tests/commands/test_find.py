"""`opsin find`: queries by name, file, folder and class; what is found, drawn and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import opsin
from tests.commands.test_label import NETWORK, heap  # noqa: F401  a fixture
from tests.conftest import Cli, only_json
from tests.labelling.conftest import pictures  # noqa: F401  a fixture


def find(heap: Path, *like: str | Path, **options: object) -> list[str]:  # noqa: F811
    found = opsin.find(heap, *like, backbone=NETWORK, **options).found  # type: ignore[arg-type]
    assert [one.similarity for one in found] == sorted(
        (one.similarity for one in found), reverse=True
    )
    return [one.image for one in found]


def test_queries_are_names_files_folders_and_classes(heap: Path, tmp_path: Path) -> None:  # noqa: F811
    lines = [path.name for path in heap.glob("lines-*.png")]
    by_name = find(heap, lines[0], count=9)
    assert sum(name in lines for name in by_name) >= 7
    outside = tmp_path / "elsewhere ü"
    outside.mkdir()
    shutil.copy(heap / lines[0], outside)
    assert find(heap, outside / lines[0], count=9) == by_name
    assert find(heap, outside, count=9) == by_name
    answers = tmp_path / "answers.csv"
    answers.write_text(f"path,label\n{lines[0]},striped\n{lines[1]},striped\n")
    opsin.label(heap, labels=answers, backbone=NETWORK)
    assert sum(name in lines for name in find(heap, "striped", count=8)) >= 7
    assert find(heap, "STRIPED", count=8) == find(heap, "striped", count=8)
    without = find(heap, lines[0], unlike=[lines[1]], count=99)
    assert len(without) == 28  # copies once, and not what the query names


def test_it_is_drawn_and_printed_as_json(cli: Cli, heap: Path, tmp_path: Path) -> None:  # noqa: F811
    words = ("--from", NETWORK, "--count", "4", "--out", "like.png", "--json")
    answer = only_json(cli("find", heap, "dots-3.png", *words))
    assert len(answer["found"]) == 4
    assert answer["images"] == 30
    assert "broken.png" in json.dumps(answer["unreadable"])
    with Image.open(tmp_path / "like.png") as sheet:
        assert sheet.width > 500


def test_what_cannot_be_looked_for_is_said(heap: Path) -> None:  # noqa: F811
    with pytest.raises(opsin.SourceError, match="no photograph of"):
        find(heap, "nowhere.png")
    with pytest.raises(opsin.RecipeError, match="nothing to look for"):
        find(heap)
    with pytest.raises(opsin.SourceError, match="nothing to draw"):
        find(heap / "dots-0.png", heap / "dots-0.png", out=heap.parent / "none.png")
