"""Counts by class and part, with bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from nicegui.element import Element
from numpy.typing import NDArray

from opsin.core.format import count
from opsin.studio.datasets.decoded_dataset import PARTS
from opsin.studio.parts import terms
from opsin.studio.words import safe

CSS: Final = """
.op-class-table { max-height: 26rem; overflow: auto; margin: 0 0 .6rem; }
.op-class-table table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.op-class-table th, .op-class-table td { padding: .22rem .4rem; text-align: right;
  font-weight: 400; vertical-align: top; white-space: nowrap; }
.op-class-table th:first-child { text-align: left; padding-left: 0; white-space: normal;
  overflow-wrap: anywhere; width: 99%; }
.op-class-table thead th { color: var(--muted); position: sticky; top: 0; z-index: 1;
  background: var(--paper); border-bottom: 1px solid var(--line); }
.op-class-table tfoot > tr > * { border-top: 1px solid var(--line); }
.op-class-table td a { color: var(--ink); text-decoration: none; }
.op-class-table td a:hover { text-decoration: underline; }
.op-class-table tr.op-here th a { font-weight: 650; }
.op-bar { display: flex; height: 4px; margin: 1px 0 3px; }
.op-bar i { display: block; background: var(--bar); }
.op-bar .op-part-1 { background: var(--accent); opacity: .75; }
.op-bar .op-part-2 { background: #56b4e9; } .op-bar .op-part-3 { background: #e69f00; }
"""


class ClassTable(Element, component="class_table.js"):
    """How many images each class has in each part; every number leads to its images.

    Args:
        classes: Their names.
        counts: ``int64[K, 4]`` by class and by part, as
            `opsin.studio.datasets.decoded_dataset.PARTS` has
            them.
        address: Returns where the images of a class and a part are shown; ``None`` is all.
        here: The class that is shown now.
    """

    def __init__(
        self,
        classes: Sequence[str],
        counts: NDArray[np.int64],
        address: Callable[[int | None, str | None], str],
        *,
        here: int | None = None,
    ) -> None:
        super().__init__()
        used = [code for code in PARTS if counts[:, code].any()]
        # Where nothing is parted yet, the sum says it all.
        shown = used if used != [0] else []
        most = max(1, int(counts.sum(axis=1).max(initial=0)))

        def cells(label: int | None, numbers: NDArray[np.int64]) -> list[dict[str, str]]:
            parts = [(int(numbers[code]), PARTS[code]) for code in shown]
            return [
                _cell(number, address(label, part))
                for number, part in [*parts, (int(numbers.sum()), None)]
            ]

        self._props["label"] = "Images by class and part"
        self._props["all"] = address(None, None)
        self._props["columns"] = [*(PARTS[code] for code in shown), "all"]
        self._props["terms"] = terms.keys(["Class", *self._props["columns"]])
        self._props["rows"] = [
            {
                "name": safe(name, 60),
                "title": safe(name),
                "href": address(label, None),
                "here": label == here,
                "cells": cells(label, counts[label]),
                "shares": [round(100 * float(number) / most, 2) for number in counts[label]],
            }
            for label, name in enumerate(classes)
        ]
        self._props["totals"] = cells(None, counts.sum(axis=0))


def _cell(number: int, address: str) -> dict[str, str]:
    return {"text": count(number), "href": address if number else ""}
