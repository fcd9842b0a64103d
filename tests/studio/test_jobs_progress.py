"""How far a training is: one bar and one time, whoever shows it."""

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from opsin.commands.train.recorder import recorded
from opsin.core.artifacts.records import RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Pace
from opsin.core.format import clock
from opsin.report.terminal import Terminal
from opsin.studio.jobs.job import Job
from opsin.studio.progress import TrainingProgress
from opsin.studio.runs.run_index import RunIndex, read_progress


def status(run: RunDirectory, **work: object) -> None:
    run.status.write_text(
        json.dumps({"state": "running", "pid": 1, "started": 1.0, "heartbeat": 1.0} | work)
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_a_status_that_was_tampered_with_stops_nobody(run: RunDirectory) -> None:
    status(run, doing="9" * 5000 + "/1", done=10**400, total="x", share=-1, left=10**400, pid="x")
    assert read_progress(run) is None
    status(run, doing="9" * 5000 + "/1", done=1e300, total=1e300, share=1e300, left=1e300)
    found = read_progress(run)
    assert found is not None
    assert (found.share, found.left) == (1.0, None)
    followed = TrainingProgress(Job(kind="train", title="Waste 1"))
    followed.look(found)
    assert len(followed.step) < 1000
    assert followed.left is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"doing": 3}'])
def test_a_status_that_says_nothing_is_no_progress(run: RunDirectory, content: str) -> None:
    run.status.write_text(content)
    assert read_progress(run) is None


class _Screen(Terminal):
    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(Console(file=self.stream, force_terminal=True, width=160, no_color=True))

    def shows(self) -> str:
        assert self._bar is not None
        self.stream.truncate(0)
        self._bar.refresh()
        return self.stream.getvalue()


@settings(max_examples=15, deadline=None)
@given(
    epochs=st.integers(2, 4), speed=st.floats(20, 500), validation=st.integers(0, 30),
    waits=st.lists(st.integers(0, 20), min_size=8, max_size=8),
)  # fmt: skip
def test_at_one_moment_every_place_says_the_same_and_nothing_jumps(
    epochs: int, speed: float, validation: int, waits: list[int]
) -> None:
    """A training of even speed with pauses, as terminal, run page, queue and home show it."""
    now, total, seen = [0.0], 4_000, dict[str, RunStatus]()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("opsin.commands.train.recorder.time.monotonic", lambda: now[0])
        directory = RunDirectory.create(Path(folder), "one")
        directory.recipe.write_text('{"data": {"sources": ["x"]}, "model": {"name": "mlp"}}')
        index, screen, pace = RunIndex(Path(folder)), _Screen(), Pace(1.0, now=0.0)
        with recorded(directory, screen) as recorder:

            def look(*, nothing_happened: bool) -> None:
                index.scan()
                [row] = index.rows()
                found = row.progress
                assert found is not None
                before = seen.get("last")
                if before is not None and before.share is not None and found.share is not None:
                    assert found.share >= before.share
                if before is not None and before.left is not None and nothing_happened:
                    assert found.left is not None
                    assert 0 <= before.left - found.left <= 21
                    assert found.share == before.share
                seen["last"] = found
                if not nothing_happened and found.left is not None:
                    assert f"{clock(found.left)} left" in screen.shows()

            for epoch in range(1, epochs + 1):
                recorder.begin(f"{epoch}/{epochs}", total, "images")
                for step, wait in enumerate(waits, 1):
                    now[0] += total / 8 / speed + 2
                    share = (epoch - 1 + step / 8) / epochs
                    pace.saw(share, now[0])
                    told = {"share": share}
                    if pace.left is not None:
                        told["left"] = pace.left
                    recorder.advance(step * total // 8, **told)
                    look(nothing_happened=False)
                    now[0] += wait
                    look(nothing_happened=True)
                now[0] += validation
                recorder.end()
                recorder.doing("the checkpoint of step 7")
            recorder.begin("Disturb", 480, "images")
            now[0] += 2
            recorder.advance(10)
            look(nothing_happened=False)
            assert (seen["last"].share, seen["last"].left) == (1.0, None)
