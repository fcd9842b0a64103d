"""Images of a comparison, found again among those of the first run."""

from __future__ import annotations

from typing import Any

from opsin.report.side_by_side import DifferentAnswers
from opsin.studio.pages.compare import rows_of
from tests.studio.datasets.test_corrections import opened


def image(here: Any, row: int, name: str | None = None) -> DifferentAnswers:
    return DifferentAnswers(
        digest=here.digest(row),
        name=here.name(row) if name is None else name,
        actual=here.classes[here.label(row)],
        answers=[],
    )


def test_of_exact_copies_each_is_shown_as_its_own() -> None:
    here = opened([7, 7, 7, 3], [0, 1, 1, 0], ["a", "b", "c", "d"])
    shown = [image(here, row) for row in (2, 0, 1)]
    assert rows_of(shown, here) == [2, 0, 1]
    # Files renamed since: classes tell, and no row is shown for two images.
    renamed = [image(here, row, f"old {row}") for row in (0, 1, 2)]
    assert rows_of(renamed, here) == [0, 1, 2]
    assert rows_of([*shown, image(here, 0)], here) == [2, 0, 1, None]
