"""Events are on the disk once they were added, whatever follows, and no link leads elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsin.core.files import ConfinedDir
from opsin.core.stored_json import EventLog

NAME = "log.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ConfinedDir]:
    with ConfinedDir(tmp_path) as own:
        yield own


def test_what_was_added_is_read_in_its_order(folder: ConfinedDir) -> None:
    log = EventLog(folder, NAME)
    assert list(log.read()) == []
    log.append({"image": "a\udcff", "none": None}, "text")
    log.append([1, 2])
    assert list(EventLog(folder, NAME).read()) == [
        {"image": "a\udcff", "none": None},
        "text",
        [1, 2],
    ]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_cut_short_goes_and_the_next_is_whole(
    folder: ConfinedDir, cut: int
) -> None:
    log = EventLog(folder, NAME)
    log.append("first")
    log.append({"second": 2})
    path = folder.path / NAME
    os.truncate(path, path.stat().st_size - cut)
    assert list(log.read()) == ["first"]
    log.append("third")
    assert path.read_text() == '"first"\n"third"\n'


def test_no_link_is_followed_and_no_pipe_opened(folder: ConfinedDir) -> None:
    mine = folder.path / "mine.txt"
    mine.write_text("mine")
    (folder.path / NAME).symlink_to(mine)
    os.mkfifo(folder.path / "pipe")
    for name in (NAME, "pipe"):
        log = EventLog(folder, name)
        with pytest.raises(OSError, match="regular file"):
            log.append("first")
        with pytest.raises(OSError, match="regular file"):
            list(log.read())
    with pytest.raises(OSError, match="Not the name of a file"):
        EventLog(folder, "../mine.txt").append("first")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("line", [b"{]", b"NaN", b"[" * 100_000, b"\xff", b"[[]," * 6_000_000])
def test_a_line_that_is_no_event_is_refused_or_passed_over(
    folder: ConfinedDir, line: bytes
) -> None:
    (folder.path / NAME).write_bytes(b'"first"\n' + line + b'\n"last"\n')
    log = EventLog(folder, NAME)
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        list(log.read())
    assert list(log.read(skip=True)) == ["first", "last"]


def test_a_line_without_an_end_costs_little(folder: ConfinedDir) -> None:
    log = EventLog(folder, NAME)
    log.append("first")
    os.truncate(folder.path / NAME, 5 << 30)  # sparse
    with pytest.raises(ValueError, match="longer than any"):
        list(log.read(skip=True))
    with pytest.raises(OSError, match="longer than any"):
        log.append("second")
