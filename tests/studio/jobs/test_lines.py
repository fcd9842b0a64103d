"""A growing file is read line by line, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from opsin.studio.jobs.job import last_lines
from opsin.studio.jobs.progress import read_lines


class Line(BaseModel):
    epoch: int


def test_only_whole_lines_of_the_kind_count(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert read_lines(file, Line) == []
    file.write_bytes(b'{"epoch": 1}\n{"epo\xff\n\n{"epoch": 2}\n{"epoch": 3')
    assert read_lines(file, Line) == [Line(epoch=1), Line(epoch=2)]


def test_a_log_shows_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_lines(log, 5) == []
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(log, 3) == ["line 99997", "line 99998", "line 99999"]
