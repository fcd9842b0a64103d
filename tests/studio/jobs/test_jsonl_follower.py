"""A growing file is read once, line by line, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from opsin.core.storage import write_bytes
from opsin.studio.jobs.job import last_lines
from opsin.studio.jobs.progress import JsonlFollower


class Line(BaseModel):
    epoch: int
    text: str = ""


EVENTS = st.lists(st.builds(Line, epoch=st.integers(0, 99), text=st.text(max_size=5)), max_size=6)


def lines(events: list[Line]) -> bytes:
    return "".join(event.model_dump_json() + "\n" for event in events).encode()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=EVENTS, second=EVENTS, cut=st.integers(0, 60))
def test_what_was_added_comes_with_what_was_there(
    tmp_path_factory: pytest.TempPathFactory, first: list[Line], second: list[Line], cut: int
) -> None:
    file = tmp_path_factory.mktemp("tail") / "history.jsonl"
    tail = JsonlFollower(file, Line)
    assert tail.read() == []
    file.write_bytes(lines(first))
    assert tail.read() == first
    added = lines(second)
    with file.open("ab") as stream:
        stream.write(added[:cut])
    # Only whole lines count, wherever the writer is interrupted.
    assert tail.read() == first + second[: added[:cut].count(b"\n")]
    with file.open("ab") as stream:
        stream.write(added[cut:])
    assert tail.read() == first + second
    assert tail.read() == first + second


@given(first=EVENTS, kept=st.integers(0, 6), second=EVENTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_went_back_is_read_anew(
    tmp_path_factory: pytest.TempPathFactory, first: list[Line], kept: int, second: list[Line]
) -> None:
    file = tmp_path_factory.mktemp("tail") / "history.jsonl"
    tail = JsonlFollower(file, Line)
    write_bytes(file, lines(first))
    tail.read()
    # As a training does that goes back; it may be as long again before the next look.
    write_bytes(file, lines(first[:kept]))
    with file.open("ab") as stream:
        stream.write(lines(second))
    assert tail.read() == first[:kept] + second


def test_a_log_shows_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_lines(log, 5) == []
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(log, 3) == ["line 99997", "line 99998", "line 99999"]
