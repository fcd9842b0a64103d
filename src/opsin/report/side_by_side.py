"""The table of a comparison, as terminal and page both show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from opsin.core.format import clock, file_size, speed, with_interval


class Column(NamedTuple):
    """One column of the table.

    Args:
        heading: What it holds.
        cells: Text for each run, ``""`` where it is not known, and whether to make it stand out.
    """

    heading: str
    cells: list[tuple[str, bool]]


#: What it means that a figure stands out.
BOLD: Final = (
    "Bold: the best of its column, and shown to be: accuracy by tests of all pairs, size by "
    "counting, speed where its slowest round beats the fastest of the others."
)
# Field of a row, heading, and how the field is shown.
_COLUMNS: Final[tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...]] = (
    ("letter", "", lambda row: row["letter"]),
    ("model", "Model", lambda row: row["model"]),
    ("accuracy", "Accuracy", lambda row: with_interval(row["accuracy"], row["low"], row["high"])),
    ("log_loss", "Log loss", lambda row: f"{row['log_loss']:.3f}"),
    ("calibration_error", "Calib. error", lambda row: f"{row['calibration_error']:.3f}"),
    ("bytes", "File", lambda row: file_size(row["bytes"])),
    ("parameters", "Para- meters", lambda row: f"{row['parameters']:,}"),
    ("seconds", "Training", lambda row: clock(row["seconds"])),
    ("images_per_second", "Images /s", lambda row: speed(row["images_per_second"])),
    ("parity", "Parity", lambda row: f"{row['parity']:.0e}"),
)


def columns_of(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of which at least one run knows something.

    Args:
        rows: As in `opsin.commands.compare.Comparison`.

    Example:
        >>> row = dict.fromkeys(("calibration_error", "bytes", "parameters", "seconds", "parity",
        ...                      "images_per_second"))
        >>> row |= {"letter": "A", "model": "mlp", "accuracy": 0.9, "low": 0.88, "high": 0.92,
        ...         "log_loss": 0.31, "best": []}
        >>> [(column.heading, column.cells[0][0]) for column in columns_of([row])][2:]
        [('Accuracy', '0.9000 ± 0.0200'), ('Log loss', '0.310')]
    """
    return [
        Column(
            heading,
            [("" if row[key] is None else show(row), key in row["best"]) for row in rows],
        )
        for key, heading, show in _COLUMNS
        if any(row[key] is not None for row in rows)
    ]
