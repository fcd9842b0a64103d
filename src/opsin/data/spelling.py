"""Names that are alike: two spellings of one, or the one that was meant."""

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
    # Each name is looked up by all that it might be taken for, so that many names cost little.
    places: dict[str, set[int]] = {}
    for place, name in enumerate(plain):
        for variant in _variants(name, names[place]):
            places.setdefault(variant, set()).add(place)
    for variant, members in places.items():
        if len(members) == 2 or (len(members) > 2 and variant in plain):
            pairs |= {
                (one, other)
                for one in members
                for other in members
                if one < other and _digits(plain[one]) == _digits(plain[other])
            }
    return sorted(pairs)


def nfc(name: str) -> str:
    """Return a name in the form in which names are compared: Macs write é as two characters."""
    return unicodedata.normalize("NFC", name)


def places_among(names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Return where each name stands among known ones, compared in NFC; -1 for none of them."""
    places = {nfc(name): place for place, name in enumerate(known)}
    return [places.get(nfc(name), -1) for name in names]


def closest_first(names: Sequence[str], given: str) -> str:
    """Return names in one line, the most like the given one first; of very many only those."""
    alike = difflib.SequenceMatcher(b=given.lower())

    def likeness(name: str) -> float:
        alike.set_seq1(name.lower())
        return -alike.ratio()

    ranked = sorted(names, key=likeness)
    more = len(ranked) - _NAMED
    return ", ".join(ranked[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_choices(
    what: str,
    given: Iterable[str],
    known: Sequence[str],
    error: type[OpsinError] = RecipeError,
) -> None:
    """Refuse names that are not among the known ones."""
    for name in given:
        if name not in known:
            raise error(f"There is no {what} {name!r} among {closest_first(known, name)}")


def _plain(name: str) -> str:
    """Return a name without case, accents, spaces and punctuation."""
    text = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(c for c in text if c.isalnum())
    return letters or name


def _variants(name: str, written: str) -> set[str]:
    """Return texts that two names share when they are nearly the same."""
    variants = {name, name.removesuffix("s"), name.removesuffix("es")} - {""}
    words = re.split(r"[\W\d_]+", written)
    if len(name) >= 6 and min(map(len, filter(None, words)), default=0) >= 6:
        # Two names that are one letter apart are the same once the right letter is gone.
        variants |= {name[:place] + name[place + 1 :] for place in range(1, len(name))}
    return variants


def _digits(name: str) -> list[str]:
    return re.findall(r"\d+", name)
