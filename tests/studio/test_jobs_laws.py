"""Whatever is asked of a queue in whatever order, its laws hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import thin

ASKS = st.lists(
    st.tuples(
        st.sampled_from(["add", "first", "stop", "resume", "remove"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


def ask(queue: Queue, what: str, number: int) -> str:
    """Ask for something, and return whom it was about."""
    ids = sorted(job.id for job in queue.jobs())
    if what in {"add", "first"}:
        return queue.add("train", "x", ["true"], first=what == "first").id
    if not ids:
        return ""
    about = ids[number % len(ids)]
    getattr(queue, what)(about)
    return about


def rank(job: Job) -> int:
    return 0 if job.active else 1 if job.pending else 2


@settings(max_examples=20)  # each writes dozens of files
@given(ASKS)
def test_order_is_kept_in_memory_and_on_the_disk(asks: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder))
        for what, number in asks:
            before = [job.id for job in queue.jobs() if job.pending]
            about = ask(queue, what, number)
            after = [job.id for job in queue.jobs() if job.pending]
            # What one asks of a job changes nothing in the order of the others.
            others = set(before) & set(after) - {about}
            assert [id_ for id_ in before if id_ in others] == [i for i in after if i in others]
        ranks = [rank(job) for job in queue.jobs()]
        assert ranks == sorted(ranks)
        assert Queue(Path(folder)).jobs() == queue.jobs()


@given(st.lists(st.floats(0, 1), max_size=200), st.integers(2, 50))
def test_a_thinned_curve_keeps_its_ends(points: list[float], most: int) -> None:
    kept = thin(points, most)
    assert len(kept) == min(len(points), most)
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
