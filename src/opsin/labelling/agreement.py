"""How far two people agree about the photographs that both were asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Final

from pydantic import BaseModel

from opsin.evaluation.intervals import Interval, wilson

# Photographs that both have answered, below which no kappa is stated.
_FEWEST: Final = 20


class Agreement(BaseModel, frozen=True):
    """Two people's answers about the same photographs."""

    who: tuple[str, str]
    photographs: int
    same: int
    # Cohen's; ``None`` with too few photographs, or where chance alone would agree on all.
    kappa: float | None = None
    interval: Interval | None = None


def agreements(said: Mapping[str, Mapping[bytes, str]]) -> tuple[Agreement, ...]:
    """How far each two people agree who have answered about the same photographs.

    Kappa is the agreement beyond that of chance (J. Cohen, "A coefficient of agreement for nominal
    scales", 1960). As there, the interval takes the agreement of chance as known; that of the
    agreement itself is Wilson's, which says something where all answers are the same, too.
    """
    found = []
    for first, second in combinations(sorted(said), 2):
        pairs = [
            (said[first][image], said[second][image])
            for image in said[first].keys() & said[second].keys()
        ]
        if not pairs:
            continue
        count, same = len(pairs), sum(one == other for one, other in pairs)
        found.append(Agreement(who=(first, second), photographs=count, same=same))
        ones, others = (Counter(side) for side in zip(*pairs, strict=True))
        chance = sum(ones[answer] * others[answer] for answer in ones) / count**2
        if count >= _FEWEST and chance < 1:
            kappa, low, high = (
                (share - chance) / (1 - chance) for share in (same / count, *wilson(same, count))
            )
            found[-1] = found[-1].model_copy(update={"kappa": kappa, "interval": (low, high)})
    return tuple(found)
