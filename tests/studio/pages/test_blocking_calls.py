"""No page keeps the event loop, which all windows share, waiting for the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nicegui")

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.storage import write_json
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue
from tests.made_runs import answers_right, write_run
from tests.made_studio import addresses


def test_no_page_reads_the_disk_on_the_event_loop(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    layers = [layer.model_dump(mode="json") for layer in Classifier(nearest_mean).metadata.layers]
    for name, right in (("good", 0.8), ("better", 0.97)):
        answers = answers_right(digits, right)
        path = write_run(tmp_path / "runs", name, digits, answers, classifier=nearest_mean)
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        write_json(RunDirectory(path).report, report | {"layers": layers})
    jobs = Queue(tmp_path / "home")
    job = jobs.add("train", "A job", command("train", "digits"))
    jobs.pause_all(True)
    sets = Library(tmp_path / "home", jobs)
    made = sets.new_empty(["cat", "dog"])
    pages = addresses("good", "better", sets.add_source("digits").id, digits.classes[0])
    further = [f"/data/{made.id}", f"/jobs/{job.id}", "/data?add=folder", "/data?add=empty",
               "/import"]  # fmt: skip
    script = Path(__file__).with_name("blocking_calls.py")
    folders = [tmp_path / "runs", tmp_path / "home"]
    done = subprocess.run(
        [sys.executable, script, *folders, *pages.values(), *further],
        env=os.environ | {"PYTHONPATH": str(script.parents[3])}, cwd=tmp_path, text=True,
        capture_output=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
