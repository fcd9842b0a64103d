"""How a job ended, according to its files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from opsin.core.child_process import exit_reason
from opsin.studio.jobs.job import Job, State, read_log, read_output

#: Exit status of a verb that Ctrl-C ended.
_INTERRUPTED: Final = 130
_FROM_OUTSIDE: Final = "it was asked to stop from outside the studio (Ctrl-C or SIGTERM)"
_BROKEN_OFF: Final = "it was interrupted before it was evaluated; Resume continues it"
# Characters of a log's last line that a cause repeats.
_MOST: Final = 300


def ended(job: Job, folder: Path, status: int | None) -> Job:
    """Return the job as it is now that its process is gone.

    Args:
        job: As it was while the process was there.
        folder: The job's folder.
        status: The process's exit status, below zero for a signal; ``None`` if unknown.
    """
    said = read_output(folder)
    state: State
    cause: str | None
    if said is None:
        state, cause = _without_a_word(job, folder, status)
    elif isinstance(said.get("error"), dict):
        state, cause = _refused(job, said["error"], status)
    else:
        state, cause = _answered(job, said, status)
    run = job.run
    if job.training and said is not None and isinstance(said.get("run"), str):
        run = Path(said["run"]).name
    return replace(job, state=state, cause=cause, run=run, ended=time.time())


def _wished(job: Job) -> State | None:
    """Return the state that was asked for, if one was."""
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


def _refused(job: Job, error: dict[str, Any], status: int | None) -> tuple[State, str | None]:
    parts = [str(error.get(part, "")) for part in ("expected", "received", "advice")]
    if status == _INTERRUPTED or (status is None and parts[1].startswith("Ctrl-C")):
        wished = _wished(job)
        if wished == "stopped" and job.training and job.run:
            return wished, _BROKEN_OFF
        return wished or "stopped", None if wished else _FROM_OUTSIDE
    return "failed", f"expected {parts[0]}; {parts[1]}. {parts[2]}".strip()


def _answered(job: Job, said: dict[str, Any], status: int | None) -> tuple[State, str | None]:
    training = said.get("training") if job.training else None
    if not isinstance(training, dict):
        return "done", None
    if training.get("diverged"):
        return "failed", str(training["diverged"])
    if training.get("stopped") or status == _INTERRUPTED:
        wished = _wished(job)
        return wished or "stopped", None if wished else _FROM_OUTSIDE
    return "done", None
