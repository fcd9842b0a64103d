"""Jobs: what runs, what waits, what is finished."""

from __future__ import annotations

from typing import Final

from nicegui import ui

from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page
from opsin.studio.ui.training_cards import JobCard

# Finished jobs that are shown.
_SHOWN: Final = 50
# Short work for a page: of no interest here once it is over.
_PASSING: Final = ("look", "plan", "compare")
# By the rank of a job.
_SECTIONS: Final = ("Running", "Waiting", "Finished")


@Page("/jobs", more="Jobs")
def jobs(studio: Studio) -> None:
    """Build the page of all jobs, kept up to date in every window."""
    cards: dict[tuple[str, int], JobCard] = {}

    def show() -> None:
        known = [job for job in studio.jobs.jobs() if not (job.over and job.kind in _PASSING)]
        ongoing = sum(not job.over for job in known)
        now = known[: ongoing + _SHOWN]
        if [(job.id, job.rank[0]) for job in now] != list(cards) or not now:
            content.clear()
            cards.clear()
            with content:
                if not now:
                    kit.empty("Trainings and other long work appear here.", "Your projects", "/")
                for job in now:
                    if job.rank[0] not in (rank for _, rank in cards):
                        kit.heading(_SECTIONS[job.rank[0]])
                    cards[job.id, job.rank[0]] = JobCard(studio, job)
        for job, card in zip(now, cards.values(), strict=True):
            card.show(job)

    with page(studio, "Jobs"):
        content = ui.element("div").classes("stack")
        show()
        studio.changed.subscribe(show, "jobs", "runs")
