"""What is wrong with a set, worst first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nicegui import ui

from opsin.core.format import count
from opsin.data.audit import Finding
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.parts.gallery import GalleryImage, ImageGallery
from opsin.studio.words import safe

# Images of each finding that are shown beside it, and files that are named.
_IMAGES: Final = 5
_FILES: Final = 10

CSS: Final = """
.op-finding { border-top: 1px solid var(--line); padding: .6rem 0 .2rem; }
.op-finding:first-of-type { border-top: 0; padding-top: 0; }
.op-finding p { margin: 0 0 .3rem; font-size: .9rem; }
.op-finding .op-gallery { margin: .2rem 0 .3rem; gap: 2px; }
.op-finding .op-gallery li { padding: 0; border-width: 1px; }
.op-finding ul.op-files { margin: 0 0 .4rem; padding-left: 1.1rem; font-size: .82rem;
  overflow-wrap: anywhere; color: var(--muted); }
"""


def findings_list(opened: DecodedDataset, address: Callable[[str], str]) -> None:
    """Show each finding with its count, what becomes of it, and some of its images.

    Args:
        opened: The images, their findings known.
        address: Returns where all images of a kind of finding are shown.
    """
    if not opened.findings:
        ui.label("No problems were found.").classes("op-muted")
    for finding in (opened.findings or {}).values():
        with ui.element("div").classes("op-finding"):
            _finding(opened, finding, address(finding.kind))


def _finding(opened: DecodedDataset, finding: Finding, address: str) -> None:
    with ui.element("p"):
        if len(finding.rows):
            ui.link(f"{safe(finding.title)} ({count(finding.count)})", address)
        else:
            ui.label(f"{safe(finding.title)} ({count(finding.count)})")
    with ui.element("p").classes("op-muted"):
        ui.label(f"Opsin {safe(finding.opsin)}. You can: {safe(finding.yours)}.")
    rows = finding.rows[:_IMAGES].tolist()
    if rows:
        names = opened.classes
        ImageGallery(
            [
                GalleryImage(
                    str(row),
                    opened.address(row),
                    f"{names[opened.label(row)]}, {opened.name(row)}: {finding.notes[row]}",
                    "",
                )
                for row in rows
            ],
            f"Some of: {finding.title}",
            side=40,
        )
    if files := finding.elsewhere:
        with ui.element("ul").classes("op-files"):
            for note in files[:_FILES]:
                with ui.element("li"):
                    ui.label(safe(note, 160))
            if len(files) > _FILES:
                with ui.element("li"):
                    ui.label(f"… and {count(len(files) - _FILES)} more")
