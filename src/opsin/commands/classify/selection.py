"""Which answers are kept: ``--where label=Bag`` and ``--min-confidence``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsin.commands.classify.results import UNREADABLE, ResultRow
from opsin.core.errors import RecipeError
from opsin.data.spelling import closest_first
from opsin.runtime.prediction import NONE_OF_THESE

_KEYS: Final = ("label", "answer")


class Selection:
    """Selects the rows that are wanted.

    Args:
        where: Conditions ``label=CLASS`` (the most probable class) and ``answer=CLASS`` (which may
            also be ``none of these`` or ``unreadable``). Of several with the same key one must
            hold, of different keys each.
        min_confidence: Least probability of the most probable class, 0 to 1. A file that cannot be
            read has none and stays.
        classes: The classifier's classes.
        rejects: Whether the answer may be ``none of these``.

    Raises:
        RecipeError: A condition names no key or no class, or the probability is none.

    Example:
        >>> wanted = Selection(["label=Bag", "label=Coat"], 0.5, ["Bag", "Coat", "Shirt"])
        >>> wanted.keeps(ResultRow("a.png", "none of these", "Coat", 0.7))
        True
        >>> wanted.keeps(ResultRow("b.png", "Shirt", "Shirt", 0.9))
        False
    """

    def __init__(
        self,
        where: Sequence[str],
        min_confidence: float,
        classes: Sequence[str],
        *,
        rejects: bool = True,
    ) -> None:
        if isinstance(where, str):
            where = (where,)
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
            further = ([NONE_OF_THESE] if rejects else []) + [UNREADABLE]
            known = [*classes, *(further if key == "answer" else [])]
            if value not in known:
                raise RecipeError(
                    f"{key}= and one of: {closest_first(known, value)}",
                    f"got {value!r}",
                    "Choose there.",
                )
            self._wanted.setdefault(key, set()).add(value)

    @property
    def where(self) -> list[str]:
        """The conditions, in an order of their own: the same conditions, the same list."""
        return sorted(f"{key}={value}" for key, values in self._wanted.items() for value in values)

    def keeps(self, row: ResultRow) -> bool:
        """Return whether a row is wanted."""
        if row.confidence is not None and row.confidence < self.min_confidence:
            return False
        answer = UNREADABLE if row.error is not None else row.answer
        has = {"label": row.label, "answer": answer}
        return all(has[key] in values for key, values in self._wanted.items())
