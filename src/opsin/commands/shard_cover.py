"""Which of the shards there are make up the whole, or a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from opsin.core.errors import RecipeError
from opsin.core.format import counted
from opsin.data.shard import Shard

# Shards that an error names.
_NAMED: Final = 5
_Piece = TypeVar("_Piece")


def covering(found: Mapping[Shard, _Piece], target: Shard | None) -> list[_Piece]:
    """Return shards that follow each other from end to end: few and large ones where there are.

    Args:
        found: Shards, some perhaps parts of others.
        target: What they make; ``None``: the whole.

    Raises:
        RecipeError: Some are missing; they are named.
    """
    target = target or Shard(1, 1)
    counts = {shard.count for shard in found} or {target.count}
    finest = max(counts)
    if any(finest % count for count in counts):
        raise RecipeError(
            "shards of one number, or parts that were merged of these",
            f"got some of {' and '.join(map(str, sorted(counts)))}",
            "Leave out those of another number.",
        )
    if finest % target.count:
        raise RecipeError(
            f"a number of parts that divides {finest:,}, the number of shards",
            f"got {target.count:,}",
            "Give another.",
        )
    wanted = target.rows(finest)
    # How far one gets, and by which shard; the largest comes first.
    reached: dict[int, Shard | None] = {wanted.start: None}
    for shard in sorted(found, key=lambda each: (each.rows(finest).start, each.count)):
        place = shard.rows(finest)
        if place.start in reached and place.stop <= wanted.stop:
            reached.setdefault(place.stop, shard)
    if wanted.stop not in reached:
        raise _missing(found, wanted, finest, max(reached))
    pieces: list[_Piece] = []
    end = wanted.stop
    while (last := reached[end]) is not None:
        pieces.append(found[last])
        end = last.rows(finest).start
    return pieces[::-1]


def _missing(
    found: Mapping[Shard, object], wanted: range, finest: int, reached: int
) -> RecipeError:
    there = {number for shard in found for number in shard.rows(finest)}
    missing = [number for number in wanted if number not in there] or [reached]
    named = ", ".join(f"{number + 1}/{finest}" for number in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    return RecipeError(
        f"all {len(wanted):,} shards",
        f"{counted(len(missing), 'is', 'are')} missing: {named}{more}",
        "Make them with --shard; nothing was written.",
    )
