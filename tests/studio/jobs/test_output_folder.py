"""Where jobs write what people download."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import Queue, new_output_folder


def _age(folder: Path) -> None:
    then = time.time() - 2 * 86_400
    os.utime(folder, (then, then))


def test_a_folder_stays_as_long_as_a_job_of_the_queue_has_it(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    mine, forgotten = new_output_folder(queue), new_output_folder(queue)
    job = queue.add("predict", "many", command("predict", "run", "--out", mine / "answers.csv"))
    for folder in (mine, forgotten):
        _age(folder)
    new_output_folder(queue)
    assert mine.is_dir()
    assert not forgotten.exists()
    queue.remove(job.id)
    new_output_folder(queue)
    assert not mine.exists()


def test_many_ask_at_once_where_much_is_old(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for _ in range(20):
        for number in range(30):
            (tmp_path / "tried" / f"{number:012x}").mkdir(parents=True, exist_ok=True)
            _age(tmp_path / "tried" / f"{number:012x}")
        with ThreadPoolExecutor(8) as visitors:
            made = list(visitors.map(lambda _: new_output_folder(queue), range(8)))
        assert len(set(made)) == 8
        assert all(folder.is_dir() for folder in made)
