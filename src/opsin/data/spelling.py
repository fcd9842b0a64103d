"""Similar names: two spellings of one, or suggestions for a misspelled one."""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Iterable, Sequence

from opsin.core.errors import OpsinError, RecipeError


def alike_names(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of names that differ in case, spaces, marks or a plural."""
    by_plain: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        text = unicodedata.normalize("NFKD", name).casefold()
        plain = "".join(filter(str.isalnum, text))
        by_plain.setdefault(plain or name, []).append(index)
    pairs = list[tuple[int, ...]]()
    for plain, members in by_plain.items():
        pairs += itertools.combinations(members, 2)
        for plural in (f"{plain}s", f"{plain}es"):
            pairs += itertools.product(members, by_plain.get(plural, []))
    return sorted((min(pair), max(pair)) for pair in pairs)


def nfc(name: str) -> str:
    """Normalise a name for comparison: Macs write é as two characters."""
    return unicodedata.normalize("NFC", name)


def places_among(names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Return each name's index among known ones, compared in NFC; -1 if unknown."""
    indices = {nfc(name): index for index, name in enumerate(known)}
    return [indices.get(nfc(name), -1) for name in names]


def check_choices(
    what: str, names: Iterable[str], known: Sequence[str], error: type[OpsinError] = RecipeError
) -> None:
    """Refuse names that are not among the known ones; list thirty of these, the closest first."""
    for name in names:
        if name not in known:
            wanted = name.lower()
            ranked = sorted(
                known, key=lambda k: -difflib.SequenceMatcher(None, k.lower(), wanted).ratio()
            )
            listed = ", ".join(ranked[:30])
            more = f" and {len(known) - 30} more" if len(known) > 30 else ""
            raise error(f"There is no {what} {name!r} among {listed}{more}")
