"""The tour: eight steps through the studio, from images to an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opsin.studio.runs.run_index import RunRow
    from opsin.studio.state import Studio

#: Cookie with a browser's step: every visitor has their own tour.
COOKIE: Final = "opsin-tour"
#: Its lifetime in seconds.
KEPT: Final = 365 * 24 * 3600


@dataclass(frozen=True)
class TourStep:
    """A step of the tour."""

    title: str
    text: str
    points_at: str
    page: str
    address: Callable[[Studio], str | None]
    missing: str = ""
    missing_at: str = "/data"

    def is_at(self, address: str) -> bool:
        """Whether a URL, with its query, is that of its page."""
        return re.fullmatch(self.page, address) is not None


@dataclass(frozen=True)
class TourState:
    """A visitor's progress."""

    step: int = 0
    is_open: bool = False

    @classmethod
    def of(cls, cookie: str) -> TourState:
        """Parse the cookie; an invalid one means a tour not begun."""
        left, step = cookie.startswith("left-"), cookie.removeprefix("left-")
        if step not in map(str, range(1, len(STEPS) + 1)):
            return cls()
        return cls(int(step), not left)


def _of_set(studio: Studio) -> str | None:
    sets = studio.sets.all()
    return f"/data/{sets[0].id}" if sets else None


def _of_run(end: str, fits: Callable[[RunRow], bool]) -> Callable[[Studio], str | None]:
    """Return a finder of the page of the newest matching run, networks first."""

    def address(studio: Studio) -> str | None:
        studio.runs.scan()
        able = sorted(filter(fits, studio.runs.rows()), key=lambda row: not row.has_layers)
        return end.format(able[0].id) if able else None

    return address


def _answers(row: RunRow) -> bool:
    return row.accuracy is not None and row.state != "running"


_NO_SET: Final = "There is no dataset yet. Add one here, digits under Built-in for example."
_NO_RUN: Final = "There is no finished run yet. Start a training here, and wait until it is done."

STEPS: Final = (
    TourStep(
        "Bring images",
        "Upload images, choose a folder, or take a set that Opsin knows: digits, under Built-in, "
        "is there at once. Each folder becomes a class.",
        "#add",
        r"/data(\?.*)?",
        lambda _: "/data",
    ),
    TourStep(
        "Look at your images",
        "A line for each class, a column for each part: images to train on, to validate with and "
        "to test with. Each number opens its images.",
        ".op-class-table",
        r"/data/[^/?]+(\?.*)?",
        _of_set,
        missing=_NO_SET,
    ),
    TourStep(
        "See what is wrong with them",
        "Opsin looks for duplicates, odd images and doubtful classes. It changes nothing by "
        "itself: open a finding, and relabel images or leave them out.",
        "#findings",
        r"/data/[^/?]+(\?.*)?",
        _of_set,
        missing=_NO_SET,
    ),
    TourStep(
        "Train",
        "Choose images and press Start. Everything else can stay automatic; the estimate beside "
        "the form says what the training would take.",
        "#settings",
        r"/train(\?.*)?",
        lambda _: "/train",
    ),
    TourStep(
        "Watch it learn",
        "Loss should fall and accuracy rise, epoch by epoch. When the validation loss turns up "
        "again, the network begins to learn its training images by heart.",
        ".op-curves",
        r"/runs/[^/?]+\?tab=live.*",
        _of_run("/runs/{}?tab=live", lambda row: row.in_steps),
        missing="There is no run yet. Press Start here; the tour goes on when it trains.",
        missing_at="/train",
    ),
    TourStep(
        "Read the results",
        "The verdict comes first: how many of the test images it got right, and how sure that "
        "figure is. Below, each number of the confusion matrix opens its images.",
        ".op-verdict",
        r"/runs/[^/?]+\?tab=report.*",
        _of_run("/runs/{}?tab=report", _answers),
        missing=_NO_RUN,
        missing_at="/train",
    ),
    TourStep(
        "Look inside",
        "The network, layer by layer. Choose one to see what it makes of an image, or ask why it "
        "gave an answer.",
        ".op-graph",
        r"/runs/[^/?]+/inside(\?.*)?",
        _of_run("/runs/{}/inside", lambda row: _answers(row) and row.has_layers),
        missing=_NO_RUN,
        missing_at="/train",
    ),
    TourStep(
        "Use it",
        "Give the classifier an image of your own. It answers with a label and how sure it is; "
        'where it has a threshold, also with "none of these".',
        ".op-intake",
        r"/try(\?.*)?",
        _of_run("/try?run={}", _answers),
        missing=_NO_RUN,
        missing_at="/train",
    ),
)


def address_of(studio: Studio, step: int) -> str:
    """Return a step's URL, or where its prerequisite is made."""
    chosen = STEPS[step - 1]
    return chosen.address(studio) or chosen.missing_at
