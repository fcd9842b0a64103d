"""Jobs are files and a lock: their states stay true whatever dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.platform import is_locked
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import LOCK, LOG, Job, State, command, last_lines, read_job, write_job
from opsin.studio.jobs.queue import BESIDE, Queue, new_output_folder
from tests.studio.made_jobs import TRAINS, WAITS, python, until


def begun(queue: Queue, job: Job) -> bool:
    run = queue.get(job.id).run
    return run is not None and (queue.runs / run / "status.json").exists()


class Said(BaseModel):
    a: int


class Environment(BaseModel):
    env: list[str]
    path: list[str]


def test_a_job_is_started_answers_and_is_done(queue: Queue, tmp_path: Path) -> None:
    job = queue.add(
        "plan", "a plan", python("import sys; print('{\"a\": 1}'); print('x', file=sys.stderr)")
    )
    assert queue.get(job.id).state == "waiting"
    until(queue, lambda: queue.get(job.id).over)
    job = queue.get(job.id)
    assert (job.state, job.cause) == ("done", None)
    assert queue.output(job.id, Said) == Said(a=1)
    assert queue.output(job.id, Environment) is None
    assert last_lines(queue.folder(job) / LOG, 9) == ["x"]
    assert job.started is not None and job.ended is not None and job.started <= job.ended


def test_trainings_run_one_at_a_time_in_their_order(queue: Queue, tmp_path: Path) -> None:
    first, second, third = (queue.add("train", name, python(WAITS)) for name in "abc")
    queue.tick()
    assert [job.title for job in queue.jobs()] == ["a", "b", "c"]
    assert [job.state for job in queue.jobs()] == ["running", *["waiting"] * 2]
    queue.stop(second.id)
    assert queue.get(second.id).state == "stopped"
    (tmp_path / "go").touch()
    until(queue, lambda: queue.get(third.id).over)
    # The last ended comes first.
    assert [job.title for job in queue.jobs()] == ["c", "a", "b"]
    assert queue.get(first.id).run is None  # it wrote none


def test_trainings_at_once_write_runs_of_their_own(tmp_path: Path) -> None:
    queue = Queue(tmp_path, 2, tmp_path / "runs")
    jobs = [queue.add("train", "x", python(TRAINS, str(tmp_path / "runs"))) for _ in range(2)]
    until(queue, lambda: all(begun(queue, job) for job in jobs))
    assert len({queue.get(job.id).run for job in jobs}) == 2
    for job in jobs:
        queue.stop(job.id)
    until(queue, lambda: all(queue.get(job.id).over for job in jobs))


def test_short_jobs_run_beside_and_at_most_two(queue: Queue) -> None:
    queue.add("train", "training", python(WAITS))
    short = [queue.add("plan", f"plan {number}", python(WAITS)) for number in range(4)]
    queue.tick()
    assert sum(job.state == "running" for job in queue.jobs()) == 1 + BESIDE
    for job in short:
        queue.remove(job.id)  # also those at work
    queue.tick()
    assert [job.title for job in queue.jobs()] == ["training"]


def test_stopping_again_changes_nothing_and_a_training_goes_on(
    queue: Queue, tmp_path: Path
) -> None:
    job = queue.add("train", "x", python(TRAINS, str(tmp_path / "runs"), "evaluates"))
    until(queue, lambda: begun(queue, job))
    queue.stop(job.id)
    again = Queue(tmp_path, runs=tmp_path / "runs")  # a studio that was started again
    for _ in range(3):
        queue.stop(job.id)  # each a click, in this window or another
        again.stop(job.id)
    assert (queue.get(job.id).state, queue.get(job.id).signals) == ("stopping", 1)
    (tmp_path / "evaluated").touch()
    until(queue, lambda: queue.get(job.id).over)
    assert (queue.get(job.id).state, queue.get(job.id).cause) == ("stopped", None)
    other = queue.add("train", "y", python(WAITS))
    queue.resume(job.id)
    assert [each.id for each in queue.jobs()] == [job.id, other.id]
    run = tmp_path / "runs" / str(queue.get(job.id).run)
    assert queue._argv(queue.get(job.id)) == command("resume", run)


def test_stopping_at_once_again_kills(queue: Queue) -> None:
    stubborn = (
        "import signal, time; signal.signal(2, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"
    )
    job = queue.add("train", "x", python(stubborn))
    until(queue, (queue.home / "up").exists)
    queue.stop(job.id)
    for _ in range(2):
        assert queue.get(job.id).active
        queue.stop(job.id, at_once=True)
    until(queue, lambda: queue.get(job.id).over)
    assert queue.get(job.id).state == "stopped"
    assert "at once" in str(queue.get(job.id).cause)


STUDIO = """
import sys, time
from pathlib import Path
from opsin.studio.jobs.queue import Queue
queue = Queue(Path(sys.argv[1]))
for code in sys.argv[2:]: queue.add("train", "x", [sys.executable, "-S", "-c", code])
queue.tick()
print("started", flush=True)
time.sleep(60)
"""


def test_work_goes_on_when_the_studio_is_killed(tmp_path: Path) -> None:
    studio = subprocess.Popen(
        [sys.executable, "-c", STUDIO, str(tmp_path), WAITS, WAITS], stdout=subprocess.PIPE
    )
    assert studio.stdout is not None
    assert studio.stdout.readline() == b"started\n"
    studio.kill()
    studio.wait()
    studio.stdout.close()
    queue = Queue(tmp_path)
    first, second = queue.jobs()
    assert (first.state, second.state) == ("running", "waiting")
    queue.tick()
    assert [job.state for job in queue.jobs()] == ["running", "waiting"]
    (tmp_path / "go").touch()
    until(queue, lambda: queue.get(second.id).over)
    assert queue.get(first.id).state == queue.get(second.id).state == "done"


def test_after_a_power_cut_what_ran_has_failed_and_what_waited_waits(tmp_path: Path) -> None:
    before = Queue(tmp_path)
    ran, waits = (before.add("train", name, python(WAITS)) for name in "ab")
    # As the power cut left it: the number belongs to another process by now, the lock to nobody.
    running = ran.model_copy(update={"state": "running", "pid": os.getpid(), "started": 1.0})
    write_job(tmp_path / "jobs" / ran.id, running)
    (tmp_path / "jobs" / ran.id / "alive.lock").touch()
    after = Queue(tmp_path, at_once=0)
    after.tick()
    assert [job.state for job in after.jobs()] == ["waiting", "failed"]
    assert "ended from outside" in str(after.get(ran.id).cause)
    after.resume(ran.id)
    assert [job.id for job in after.jobs()] == [ran.id, waits.id]


def test_a_killed_process_has_failed_and_its_children_end(queue: Queue, tmp_path: Path) -> None:
    forks = """
import os, time
if os.fork() == 0: open("up", "w").write(str(os.getpid()))
time.sleep(60)
"""
    job = queue.add("train", "x", python(forks))
    until(queue, lambda: (tmp_path / "up").exists() and bool((tmp_path / "up").read_text()))
    pid = queue.get(job.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(queue, lambda: queue.get(job.id).over)
    assert queue.get(job.id).state == "failed"
    assert "perhaps because memory or disk space ran out" in str(queue.get(job.id).cause)
    until(queue, lambda: not is_locked(queue.folder(job) / LOCK))


def test_a_job_is_noted_before_it_is_started(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []

    def dies(job: Job, *_: object) -> int:
        noted = read_job(queue.folder(job))
        states.append(noted and noted.state)
        raise OSError("the studio was killed here")

    monkeypatch.setattr(queue, "_process", dies)
    queue.add("train", "x", python(WAITS))
    queue.tick()
    assert states == ["running"]


def test_children_see_nothing_of_the_studio(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_TOKEN", "secret")
    monkeypatch.setenv("NICEGUI_SCREEN_TEST_PORT", "1")
    shows = "import json, os, sys; print(json.dumps({'env': sorted(os.environ), 'path': sys.path}))"
    job = queue.add("look", "x", python(shows))
    until(queue, lambda: queue.get(job.id).over)
    said = queue.output(job.id, Environment)
    assert said is not None
    assert not [key for key in said.env if key.startswith(("OPSIN_TOKEN", "NICEGUI", "PYTEST"))]
    assert "" not in said.path


def test_a_training_at_work_is_not_removed(queue: Queue) -> None:
    job = queue.add("train", "x", python(WAITS))
    queue.tick()
    with pytest.raises(RunError, match="is running"):
        queue.remove(job.id)
    queue.remove("no such job")
    with pytest.raises(NotThere):
        queue.get("no such job")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "train"}', '{"kind": 3, "title": "", "argv": []}',
                '{"kind": "train", "title": 5, "argv": []}', "[" * 5000]
)  # fmt: skip
def test_a_damaged_job_is_passed_over(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "jobs" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(content)
    queue = Queue(tmp_path)
    queue.tick()
    assert queue.jobs() == []


def test_a_full_disk_is_told_and_leaves_no_job(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").write_text("a file where the folder would be")
    with pytest.raises(OpsinError, match="Cannot write"):
        queue.add("train", "x", python(WAITS))
    (tmp_path / "jobs").unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(StorageError, match="disk is full"):  # nor of short work
        queue.add("look", "x", python(WAITS))
    assert queue.jobs() == []


@pytest.mark.parametrize("argv", [[], ["a\0b"], ["\ud800"]])
def test_what_cannot_be_a_process_fails_and_others_go_on(queue: Queue, argv: list[str]) -> None:
    strange = queue.add("train", "x", argv)
    other = queue.add("train", "y", python("print('{}')"))
    until(queue, lambda: queue.get(other.id).over)
    assert (queue.get(strange.id).state, queue.get(other.id).state) == ("failed", "done")
    assert queue.get(strange.id).cause


def test_a_training_can_be_stopped_where_the_disk_is_full(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, job: Job) -> None:
        raise StorageError("the disk is full", "Make room.")

    job = queue.add("train", "x", python(TRAINS, str(tmp_path / "runs")))
    waits = queue.add("train", "y", python(WAITS))
    until(queue, lambda: begun(queue, job))
    monkeypatch.setattr("opsin.studio.jobs.queue.write_job", full)
    queue.stop(job.id)
    until(queue, lambda: queue.get(job.id).over and queue.get(waits.id).over)
    assert queue.get(job.id).state == "stopped"
    assert "the disk is full" in str(queue.get(waits.id).cause)


STOPPED = {"run": "/runs/one", "training": {"stopped": True}}


def refusal(message: str) -> dict[str, object]:
    return {"error": {"kind": "OpsinError", "message": message, "advice": "Again."}}


CTRL_C = refusal("Interrupted")


@pytest.mark.parametrize(
    ("state", "said", "status", "expected"),
    [
        # The studio was started since: nobody knows the status.
        ("running", STOPPED, None, "stopped"),
        ("stopping", STOPPED, None, "stopped"),
        ("running", CTRL_C, None, "stopped"),
        ("stopping", CTRL_C, 130, "stopped"),  # before it was evaluated
        ("stopping", None, None, "stopped"),
        ("running", None, None, "failed"),
        ("running", {"run": "/runs/one", "training": {"stopped": False}}, None, "done"),
        # It was over before the request reached it.
        ("stopping", {"run": "/runs/one", "training": {"stopped": False}}, 0, "done"),
        ("running", {"run": "/runs/one", "training": {"diverged": "a loss"}}, 1, "failed"),
        ("stopping", refusal("there is no room"), 1, "failed"),
        ("running", None, 0, "failed"),
        ("running", {"answer": 42}, 0, "done"),
    ],
)
def test_an_end_is_told_from_the_files(
    tmp_path: Path, state: State, said: object, status: int | None, expected: State
) -> None:
    job = Job(kind="train", title="x", argv=("x",), state=state, pid=1, started=1.0)
    (tmp_path / "out.json").write_text(json.dumps(said) if said else "")
    now = job.at_its_end(tmp_path, status)
    assert now.state == expected
    unasked = state == "running" and expected == "stopped"
    unkept = (state, said) in (("stopping", None), ("stopping", CTRL_C))
    assert bool(now.cause) == (expected == "failed" or unasked or unkept)


def test_a_fault_of_ours_is_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.txt").write_text("Traceback\n  File\nValueError: no /home/ann/x.npz\n")
    job = Job(kind="train", title="x", state="running")
    now = job.at_its_end(tmp_path, 1)
    assert ("Error" in str(now.cause), now.details) == (False, "ValueError: no x.npz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    assert "disk is full" in str(job.at_its_end(tmp_path / "gone", 1).cause)


def test_a_run_that_was_deleted_is_not_trained_anew(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "home", runs=tmp_path / "runs")
    job = queue.add("train", "x", python(TRAINS, str(queue.runs)))
    until(queue, lambda: any(queue.runs.glob("*/status.json")))
    folder = queue.runs / str(queue.get(job.id).run)
    queue.stop(job.id)
    until(queue, lambda: queue.get(job.id).over)
    queue.resume(job.id)
    folder.rename(tmp_path / "runs" / ".deleted")
    until(queue, lambda: queue.get(job.id).over)
    assert queue.get(job.id).state == "failed"
    assert "was removed" in str(queue.get(job.id).cause)


ASKS = st.lists(
    st.tuples(st.sampled_from(["add", "stop", "resume", "remove"]), st.integers(0, 5)), max_size=25
)


def ask(queue: Queue, what: str, number: int) -> str:
    ids = sorted(job.id for job in queue.jobs())
    if what == "add":
        return queue.add("train", "x", ["true"]).id
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
