"""No page keeps the event loop, which all windows share, waiting for the disk."""

import os
import sys
from pathlib import Path

from opsin.data.dataset import Dataset
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.made_studio import addresses, write_two_runs
from tests.processes import python


def test_no_page_keeps_windows_waiting(tmp_path: Path, digits: Dataset, nearest_mean: Path) -> None:
    write_two_runs(tmp_path / "runs", digits, nearest_mean)
    jobs = Queue(tmp_path / "home")
    jobs.add("train", "A job", [sys.executable, "-c", ""])
    sets = Library(tmp_path / "home", jobs)
    made = sets.new_empty(["cat", "dog"])
    pages = addresses("good", "better", sets.add_source("digits").id)
    further = [f"/projects/{made.id}/photos", f"/projects/{made.id}/sort"]
    script = Path(__file__).with_name("blocking_calls.py")
    folders = [tmp_path / "runs", tmp_path / "home"]
    done = python(
        script,
        *folders,
        *pages.values(),
        *further,
        env=os.environ | {"PYTHONPATH": str(script.parents[3])},
        cwd=tmp_path,
    )
    assert done.stdout.strip() == ""
