"""Similar names: two spellings of one, or suggestions for a misspelled one."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from opsin.core.errors import OpsinError, RecipeError

# Names that an error lists, the closest first.
_NAMED: Final = 30


def alike_names(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of names that differ in case, spaces, marks, a plural or a single letter."""
    plain = [_plain(name) for name in names]
    pairs: set[tuple[int, int]] = set()
    # Indexed by all variants of each name, so that many names cost little.
    by_variant: dict[str, set[int]] = {}
    for index, name in enumerate(plain):
        for variant in _variants(name, names[index]):
            by_variant.setdefault(variant, set()).add(index)
    for variant, members in by_variant.items():
        if len(members) == 2 or (len(members) > 2 and variant in plain):
            pairs |= {
                (one, other)
                for one in members
                for other in members
                if one < other and _digits(plain[one]) == _digits(plain[other])
            }
    return sorted(pairs)


def nfc(name: str) -> str:
    """Normalise a name for comparison: Macs write é as two characters."""
    return unicodedata.normalize("NFC", name)


def places_among(names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Return each name's index among known ones, compared in NFC; -1 if unknown."""
    indices = {nfc(name): index for index, name in enumerate(known)}
    return [indices.get(nfc(name), -1) for name in names]


def closest_first(names: Sequence[str], wanted: str) -> str:
    """List names by similarity to a wanted one, at most thirty."""
    alike = difflib.SequenceMatcher(b=wanted.lower())

    def likeness(name: str) -> float:
        alike.set_seq1(name.lower())
        return -alike.ratio()

    ranked = sorted(names, key=likeness)
    more = len(ranked) - _NAMED
    return ", ".join(ranked[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_choices(
    what: str,
    names: Iterable[str],
    known: Sequence[str],
    error: type[OpsinError] = RecipeError,
) -> None:
    """Refuse names that are not among the known ones."""
    for name in names:
        if name not in known:
            raise error(f"There is no {what} {name!r} among {closest_first(known, name)}")


def _plain(name: str) -> str:
    """Return a name without case, accents, spaces and punctuation."""
    text = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(c for c in text if c.isalnum())
    return letters or name


def _variants(name: str, written: str) -> set[str]:
    """Return texts that nearly equal names share."""
    variants = {name, name.removesuffix("s"), name.removesuffix("es")} - {""}
    words = re.split(r"[\W\d_]+", written)
    if len(name) >= 6 and min(map(len, filter(None, words)), default=0) >= 6:
        # Names one letter apart are equal once that letter is removed.
        variants |= {name[:index] + name[index + 1 :] for index in range(1, len(name))}
    return variants


def _digits(name: str) -> list[str]:
    return re.findall(r"\d+", name)
