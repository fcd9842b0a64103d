"""A link to the file that a job wrote."""

from __future__ import annotations

from nicegui import ui

from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import output_of
from opsin.studio.words import safe


def download_link(job: Job) -> None:
    """Offer the file of a job that is done, where it wrote one."""
    file = output_of(job)
    if job.state == "done" and file is not None:
        address = f"/answers/{job.id}{file.suffix}"
        link = ui.link(f"Download {safe(file.name)}", address).props("download")
        link.classes("op-button op-download")
