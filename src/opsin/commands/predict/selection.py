"""Which answers are kept: ``--where label=Bag`` and ``--min-confidence``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsin.commands.predict.rows import UNREADABLE, ResultRow
from opsin.core.errors import RecipeError
from opsin.data.spelling import closest_first
from opsin.runtime.prediction import NONE_OF_THESE

_KEYS: Final = ("label", "answer")


class Selection:
    """The conditions on rows: those on one key are ORed, those on different keys ANDed."""

    def __init__(
        self,
        where: Sequence[str],
        min_confidence: float,
        classes: Sequence[str],
        *,
        rejects: bool = True,
    ) -> None:
        where = (where,) if isinstance(where, str) else where
        if not 0 <= min_confidence <= 1:
            raise RecipeError(
                "a least confidence between 0 and 1", f"got {min_confidence}", "Give 0.9, say."
            )
        self.min_confidence = min_confidence
        self._wanted: dict[str, set[str]] = {}
        for condition in where:
            key, equals, value = condition.partition("=")
            if not equals or key not in _KEYS:
                raise RecipeError(
                    "a condition label=CLASS or answer=CLASS",
                    f"got {condition!r}",
                    f"Write it like label={classes[0]}.",
                )
            known = [*classes]
            if key == "answer":
                known += ([NONE_OF_THESE] if rejects else []) + [UNREADABLE]
            if value not in known:
                raise RecipeError(
                    f"{key}= and one of: {closest_first(known, value)}",
                    f"got {value!r}",
                    "Choose there.",
                )
            self._wanted.setdefault(key, set()).add(value)
        #: The conditions in one order, however they were given.
        self.where = sorted(
            f"{key}={value}" for key, values in self._wanted.items() for value in values
        )

    def keeps(self, row: ResultRow) -> bool:
        """Whether a row is wanted."""
        if row.confidence is not None and row.confidence < self.min_confidence:
            return False
        answer = UNREADABLE if row.error is not None else row.answer
        has = {"label": row.label, "answer": answer}
        return all(has[key] in values for key, values in self._wanted.items())
