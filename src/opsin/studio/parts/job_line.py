"""One job: state, progress, log, what to do."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import ago, clock
from opsin.data.run_images import recipe_of_run
from opsin.studio.jobs.job import Job
from opsin.studio.parts.progress_bar import ProgressBar
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.words import progress_in_words, safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

CSS: Final = """
.op-job { border-top: 1px solid var(--line); padding: .7rem 0; }
.op-jobs > .op-job:first-child { border-top: 0; padding-top: 0; }
.op-job-head { display: flex; flex-wrap: wrap; gap: .1rem .9rem; align-items: baseline; }
.op-job-title { font-weight: 600; overflow-wrap: anywhere; min-width: 0; }
.op-job .op-actions { margin: .4rem 0 0; }
.op-job .q-btn { min-height: 1.9rem; }
.op-job .q-expansion-item .q-item { min-height: 2rem; padding: 0; width: max-content; }
.op-job .q-expansion-item__content { padding: 0; }
.op-log { background: var(--panel); border-radius: .5rem; padding: .6rem .8rem; max-height: 22rem;
  overflow: auto; max-width: 100%; display: flex; flex-direction: column-reverse; }
.op-log > .op-mono { white-space: pre; overflow-wrap: normal; width: max-content; }
"""

#: Lines of a log that are shown.
LINES: Final = 60


class JobLine:
    """A job as the queue, the first page and its own page show it, kept up to date.

    Args:
        studio: What all windows share.
        job: The job.
        controls: Whether it can be changed here.
        titled: Whether to show its title.
        log: Whether the log is there: folded, or open from the start.
    """

    def __init__(
        self,
        studio: Studio,
        job: Job,
        *,
        controls: bool = True,
        titled: bool = True,
        log: Literal["folded", "open"] | None = "folded",
    ) -> None:
        self._studio, self.job, self._controls = studio, job, controls
        self._offered: tuple[object, ...] = ()
        self._log: ui.label | None = None
        self.element = ui.element("article").classes("op-job")
        self.element._props["aria-label"] = safe(job.title, 120)
        with self.element:
            with ui.element("div").classes("op-job-head"):
                self._title = ui.link(safe(job.title, 120), "").classes("op-job-title")
                self._title.set_visibility(titled)
                self._state = ui.label()
                self._when = ui.label().classes("op-muted")
            self._bar = ProgressBar(job.title)
            self._words = ui.label().classes("op-muted")
            self._cause = ui.label().classes("op-muted")
            self._status = StatusLine()
            self._actions = ui.element("div").classes("op-actions")
            if log is not None:
                self._fold = ui.expansion("Log", value=log == "open", on_value_change=self.read_log)
                self._fold.props("dense")
                # Its end is what is seen, however much is added.
                with self._fold, ui.element("div").classes("op-log").props('tabindex="0"') as place:
                    place.props('role="log" aria-live="off"')
                    place._props["aria-label"] = "Log"
                    self._log = ui.label().classes("op-mono")
        self.show(job)

    def show(self, job: Job) -> None:
        """Show the job as it is now."""
        self.job = job
        target = run_address(self._studio, job) or f"/jobs/{job.id}"
        if self._title._props.get("href") != target:
            self._title._props["href"] = target
            self._title.update()
        self._state.set_text(state_in_words(self._studio, job))
        self._state.classes(replace=f"op-state op-state-{job.state}")
        self._when.set_text(_when(job))
        self._tell_progress()
        self._cause.set_text(safe(job.cause or "", 600))
        self._cause.set_visibility(bool(job.cause))
        self._cause.classes(replace="op-wrong" if job.state == "failed" else "op-muted")
        if self._controls:
            offered = tuple(offers(self._studio, job))
            if offered != self._offered:
                self._offered = offered
                self._offer(offered)
        self._actions.set_visibility(bool(self._offered))
        if self._log is not None:
            self._fold.set_visibility(not job.pending or job.goes_on)

    def _tell_progress(self) -> None:
        row = self._studio.runs.find(self.job.run) if self.job.run and self.job.active else None
        progress = row.progress if row else None
        self._bar.show(progress.share if progress else None)
        self._bar.element.set_visibility(self.job.active)
        words = progress_in_words(progress) if progress else "Starting" * self.job.active
        self._words.set_text(words)
        self._words.set_visibility(bool(words))

    async def read_log(self) -> None:
        """Show the log's end as it is now, where it is unfolded."""
        if self._log is None or not self._fold.value:
            return
        try:
            lines = await asyncio.to_thread(self._studio.jobs.log_tail, self.job.id, LINES)
        except OpsinError:  # removed meanwhile, in another window
            return
        self._log.set_text(log_text(lines) or "No messages yet.")

    def _offer(self, offered: tuple[object, ...]) -> None:
        self._actions.clear()
        asks: dict[str, Callable[[], object]] = {
            "Pause": lambda: self._studio.jobs.pause(self.job.id),
            "Stop": lambda: self._studio.jobs.stop(self.job.id),
            "Stop at once": lambda: self._studio.jobs.stop_at_once(self.job.id),
            "Resume": self._resume,
            "Try again": lambda: self._studio.jobs.resume(self.job.id),
            "Remove": lambda: self._studio.jobs.remove(self.job.id),
        }
        with self._actions:
            for word in map(str, offered):
                button = ui.button(word, on_click=lambda word=word: self._do(asks[word]))
                button.props("outline dense padding='0 .7rem'")
                button._props["aria-label"] = f"{word}: {safe(self.job.title, 80)}"

    def _resume(self) -> None:
        row = self._studio.runs.find(self.job.run) if self.job.run else None
        if row is not None:
            recipe_of_run(self._studio.runs.get(row.id))  # or it is asked where its images are
        self._studio.jobs.resume(self.job.id)

    async def _do(self, ask: Callable[[], object]) -> None:
        """Change something in the queue, and show an error here."""
        with self._status.errors():
            await asyncio.to_thread(ask)
        self._studio.changed.emit("jobs")


def log_text(lines: Sequence[str]) -> str:
    r"""Return lines of a log with their columns as they stood, and nothing that hides in them.

    Example:
        >>> log_text(["epoch   loss", "    1  0.431"])
        'epoch   loss\n    1  0.431'
    """
    return "\n".join(
        "".join(part if part.isspace() else safe(part, 1000) for part in re.split("( +)", line))
        for line in lines
    )


def run_address(studio: Studio, job: Job) -> str | None:
    """Return the address of the run that a job writes, once its directory is there."""
    if job.run is None:
        return None
    row = studio.runs.find(job.run)
    return f"/runs/{row.id}" if row else None


def state_in_words(studio: Studio, job: Job) -> str:
    """Return a job's state as people read it."""
    if job.state == "waiting" and job.training and studio.jobs.paused:
        return "waiting for the queue to resume"
    words = {
        "pausing": "pausing: saving its state",
        "stopping": "stopping" if job.signals < 2 else "stopping at once",
    }
    return words.get(job.state, job.state)


def offers(studio: Studio, job: Job) -> list[str]:
    """Return what can be asked for a job as it is, as the buttons call it."""
    if job.state == "running":
        return ["Pause"] * _in_steps(studio, job) + ["Stop"]
    if job.active:
        return ["Stop at once"]
    if job.pending:
        return ["Remove"]
    nothing = job.state == "done" or not job.argv
    again = [] if nothing else ["Resume" if _in_steps(studio, job) else "Try again"]
    return [*again, "Remove"]


def _in_steps(studio: Studio, job: Job) -> bool:
    """Tell whether a job trains something that can be gone on with."""
    if not (job.training and job.run):
        return False
    row = studio.runs.find(job.run)
    return row is not None and row.in_steps


def _when(job: Job) -> str:
    if job.ended is not None:
        took = f", took {clock(job.ended - job.started)}" if job.started else ""
        return f"{ago(job.ended)}{took}"
    if job.started is not None:
        return f"{clock(time.time() - job.started)} so far" if job.active else ""
    return f"asked {ago(job.created)}"
