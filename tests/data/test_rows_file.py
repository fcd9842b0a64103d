"""Rows that are written can be found again, and mean the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from opsin.data.audit import audit
from opsin.data.dataset import look_at
from opsin.data.rows_file import write_rows
from tests.conftest import Cli, write_shapes


def with_trouble(root: Path) -> Path:
    """Two classes, one image there twice, one file that is none."""
    folder = write_shapes(root / "shapes", 30)
    copy = (folder / "disc" / "3.png").read_bytes()
    (folder / "disc" / "copy.png").write_bytes(copy)
    (folder / "square" / "broken.png").write_bytes(b"no")
    return folder


def test_parts_and_findings_are_written_as_row_numbers(tmp_path: Path) -> None:
    data = look_at(with_trouble(tmp_path))
    found = audit(data)
    with np.load(write_rows(data, found, tmp_path / "rows.npz")) as file:
        rows = dict(file)
    assert all(each.dtype == np.int64 for each in rows.values())
    parts = np.concatenate([rows[part] for part in ("train", "val", "test")])
    assert np.array_equal(np.sort(parts), np.arange(len(data)))
    assert {name for name in rows if name.startswith("finding_")} == {
        f"finding_{each.kind}" for each in found.findings
    }
    copies = {data.names[row] for row in rows["finding_exact-duplicates"]}
    assert copies == {"disc/3.png", "disc/copy.png"}
    assert len(rows["finding_unreadable"]) == 0


def test_the_command_line_writes_them(cli: Cli, tmp_path: Path) -> None:
    done = cli("data", with_trouble(tmp_path), "--audit", "--rows", "rows.npz", "--no-draw",
               "--json")  # fmt: skip
    said = json.loads(done.stdout)
    assert said["rows"] == "rows.npz"
    with np.load(tmp_path / "rows.npz") as file:
        assert len(file["finding_exact-duplicates"]) == 2
    refused = cli("data", "digits", "--rows", "rows.npz", "--export", "there")
    assert refused.returncode == 2
    assert "neither --audit nor --rows" in refused.stderr.replace("\n", " ")
