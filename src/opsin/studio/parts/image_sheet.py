"""A plain table, quick to build however long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nicegui.element import Element

from opsin.core.glossary import term_of_layer
from opsin.studio.parts import terms
from opsin.studio.words import safe

CSS: Final = """
.op-sheet { overflow-x: auto; max-width: 100%; margin: 0 0 1rem; }
.op-page .op-sheet th:first-child, .op-page .op-sheet td:first-child { white-space: nowrap;
  max-width: 16rem; overflow: hidden; text-overflow: ellipsis; font-weight: 500; }
.op-page .op-sheet .op-text { text-align: left; }
.op-sheet tfoot td { border-top: 1px solid var(--line); font-weight: 600; }
"""


class ImageSheet(Element, component="sheet.js"):
    """Rows of text: the first columns say what a row is about, the others are quantities.

    One element, however many cells: hundreds of elements would hold up all windows.

    Args:
        columns: The headings.
        rows: The cells, as many in each row as there are headings.
        label: What the table is about, for those who cannot see it.
        total: A last row that sums the others up.
        texts: How many columns, from the first, are words.
        kinds: The column that holds kinds of layers, which the glossary explains.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        label: str,
        *,
        total: Sequence[str] = (),
        texts: int = 1,
        kinds: int | None = None,
    ) -> None:
        super().__init__()
        self._props["columns"] = list(columns)
        self._props["rows"] = [[safe(cell) for cell in row] for row in rows]
        self._props["terms"] = terms.keys(columns)
        self._props["kinds"] = kinds
        self._props["explained"] = [] if kinds is None else [_key(row[kinds]) for row in rows]
        self._props["total"] = [safe(cell) for cell in total]
        self._props["texts"] = texts
        self._props["label"] = safe(label)


def _key(kind: str) -> str:
    term = term_of_layer(kind)
    return term.key if term else ""
