"""How a job ended, according to its files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.child_process import exit_reason
from opsin.studio.jobs.job import Job, State, read_log, read_output
from opsin.web.refusals import Error

#: Exit status of a verb that Ctrl-C ended.
_INTERRUPTED: Final = 130
_FROM_OUTSIDE: Final = "it was asked to stop from outside the studio (Ctrl-C or SIGTERM)"
_BROKEN_OFF: Final = "it was interrupted before it was evaluated; Resume continues it"
# Characters of a log's last line that a cause repeats.
_MOST: Final = 300


class JobAnswer(BaseModel):
    """What every job's process says: why it could not, if so."""

    error: Error | None = None


class TrainingAnswer(JobAnswer):
    """What a training says: the run directory that it wrote, and how it went."""

    run: str | None = None
    training: TrainingFacts | None = None


def ended(job: Job, folder: Path, status: int | None) -> Job:
    """Return the job as it is now that its process is gone."""
    said = read_output(folder, TrainingAnswer if job.training else JobAnswer)
    state: State
    cause: str | None
    if said is None:
        state, cause = _without_a_word(job, folder, status)
    elif said.error is not None:
        state, cause = _refused(job, said.error, status)
    else:
        state, cause = _answered(job, said, status)
    run = job.run
    if isinstance(said, TrainingAnswer) and said.run is not None:
        run = Path(said.run).name
    return replace(job, state=state, cause=cause, run=run, ended=time.time())


def _wished(job: Job) -> State | None:
    wishes: dict[str, State] = {"stopping": "stopped", "pausing": "paused"}
    return wishes.get(job.state)


def _without_a_word(job: Job, folder: Path, status: int | None) -> tuple[State, str]:
    wished = _wished(job)
    if wished is not None:
        return (
            wished,
            "its process was ended at once; what it did since its last checkpoint is lost",
        )
    if status is not None and status < 0:
        name = exit_reason(status)
        killed = " (killed, or out of memory)" if name == "SIGKILL" else ""
        return "failed", f"its process was ended by {name}{killed}"
    lines = [line.strip() for line in read_log(folder, 20) if line.strip()]
    last = f"; its last message: {lines[-1][:_MOST]}" if lines else ""
    if status is None or status == 0:
        return "failed", f"its process ended without a message (killed, or out of memory?){last}"
    return "failed", f"its process ended with status {status}{last}"


def _refused(job: Job, error: Error, status: int | None) -> tuple[State, str | None]:
    received = error["received"]
    if status == _INTERRUPTED or (status is None and received.startswith("Ctrl-C")):
        wished = _wished(job)
        if wished == "stopped" and job.training and job.run:
            return wished, _BROKEN_OFF
        return wished or "stopped", None if wished else _FROM_OUTSIDE
    return "failed", f"expected {error['expected']}; {received}. {error['advice']}".strip()


def _answered(job: Job, said: JobAnswer, status: int | None) -> tuple[State, str | None]:
    training = said.training if isinstance(said, TrainingAnswer) else None
    if training is None:
        return "done", None
    if training.diverged:
        return "failed", training.diverged
    if training.stopped or status == _INTERRUPTED:
        wished = _wished(job)
        return wished or "stopped", None if wished else _FROM_OUTSIDE
    return "done", None
