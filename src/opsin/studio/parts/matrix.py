"""A confusion matrix with links in its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypedDict

from nicegui.element import Element

from opsin.core.format import count, percent
from opsin.studio.parts import terms
from opsin.studio.words import safe

#: Classes up to which a whole matrix can be read; of more, the pairs most often confused.
MOST: Final = 50

CSS: Final = """
.op-matrix { overflow: auto; max-width: 100%; max-height: 80vh; margin: 0 0 .6rem; }
.op-matrix table { border-collapse: separate; border-spacing: 1px; font-size: .82rem; }
.op-matrix th { font-weight: 500; color: var(--muted); padding: 0 .4rem; white-space: nowrap;
  max-width: 11rem; overflow: hidden; text-overflow: ellipsis; }
.op-matrix thead th { vertical-align: bottom; padding: .2rem 0; }
.op-matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 9rem; overflow: hidden; text-overflow: ellipsis; display: inline-block; }
.op-matrix tbody th { text-align: right; position: sticky; left: 0; z-index: 1;
  background: var(--paper); }
.op-matrix .op-axes .op-term:last-of-type { margin-left: .5rem; }
.op-matrix td { padding: 0; min-width: 2.5rem; height: 2rem; text-align: center; }
.op-matrix td > * { display: flex; align-items: center; justify-content: center;
  width: 100%; height: 100%; min-height: 2rem; padding: 0 .3rem; text-decoration: none;
  color: var(--ink); border-radius: .2rem; box-sizing: border-box; }
.op-matrix td > .op-cell-right { background: var(--right-soft); color: var(--right); }
.op-matrix td > .op-cell-wrong {
  background: color-mix(in srgb, var(--wrong) calc(var(--depth) * 72% + 8%), var(--paper)); }
.op-matrix td > .op-cell-deep { color: var(--paper); }
.op-matrix td > .op-cell-none { color: var(--muted); opacity: .45; }
.op-matrix a:hover { outline: 2px solid var(--accent); }
.op-matrix a[aria-current] { outline: 2px solid var(--ink); }
"""


class MatrixCell(TypedDict):
    """A cell as the page shows it: its count, what it is, how red, and what it says."""

    text: str
    kind: Literal["right", "wrong", "none"]
    depth: float
    said: str


class Matrix(Element, component="matrix.js"):
    """A row for each right class, a column for each answer; mistakes are red, by their share.

    Args:
        confusion: Counts, ``[K][K]``, right class by answer.
        classes: Names of the K classes.
        address: Where a cell's images are: its row and column are added, as ``3-5``; without it
            cells lead nowhere.
        chosen: Row and column of the cell that is open.
    """

    def __init__(
        self,
        confusion: Sequence[Sequence[int]],
        classes: Sequence[str],
        *,
        address: str | None = None,
        chosen: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._names_of = [safe(name) for name in classes]
        self._props["names"] = [safe(name, 28) for name in classes]
        self._props["whole"] = self._names_of
        self._props["axes"] = ["Class", "Answer"]
        self._props["terms"] = terms.keys(self._props["axes"])
        self._props["address"] = address or ""
        self._props["chosen"] = "-".join(map(str, chosen)) if chosen else ""
        self.show(confusion)

    def show(self, confusion: Sequence[Sequence[int]]) -> None:
        """Show other counts of the same classes."""
        self._props["cells"] = cells_of(confusion, self._names_of)
        self.update()


def cells_of(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[list[MatrixCell]]:
    """Return the cells of counts, ``[K][K]``, right class by answer.

    Example:
        >>> cell = cells_of([[8, 2], [0, 5]], ["cat", "dog"])[0][1]
        >>> cell["text"], cell["kind"], cell["said"]
        ('2', 'wrong', 'cat classified as dog: 2 of 10 (20.0%)')
    """
    totals = [sum(row) for row in confusion]
    shares = [
        [number / total if total else 0.0 for number in row]
        for row, total in zip(confusion, totals, strict=True)
    ]
    mistakes = [x for i, row in enumerate(shares) for j, x in enumerate(row) if i != j]
    deepest = max(mistakes, default=0.0) or 1.0
    found = []
    for i, row in enumerate(confusion):
        line: list[MatrixCell] = []
        for j, number in enumerate(row):
            right, depth = i == j, shares[i][j] / deepest
            what = f"{classes[i]} known" if right else f"{classes[i]} classified as {classes[j]}"
            line.append(
                {
                    "text": count(number) if number or right else "·",
                    "kind": "right" if right else "wrong" if number else "none",
                    "depth": 0.0 if right else round(depth, 3),
                    "said": f"{what}: {count(number)} of {count(totals[i])} "
                    f"({percent(shares[i][j])})",
                }
            )
        found.append(line)
    return found
