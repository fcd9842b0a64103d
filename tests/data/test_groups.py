"""What belongs together is found, by name and by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import RecipeError, SourceError
from opsin.data import split as groups_module


def test_an_expression_that_is_none_or_finds_nothing_is_told() -> None:
    with pytest.raises(RecipeError, match="regular expression"):
        groups_module.groups_by_name(["a"], "(")
    with pytest.raises(SourceError, match=r"none of the 2 names, such as a\.png, b\.png"):
        groups_module.groups_by_name(["a.png", "b.png"], "x+")


@given(
    contents=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    groups=st.lists(st.sampled_from(["", "anna", "bert", "cem"]), min_size=30, max_size=30),
    pairs=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=8),
)
def test_units_are_the_connected_parts(
    contents: list[int], groups: list[str], pairs: list[tuple[int, int]]
) -> None:
    count = len(contents)
    groups = groups[:count]
    edges = [pair for pair in pairs if max(pair) < count]
    digests = np.array(contents, np.uint8)[:, None].repeat(32, axis=1)
    units = groups_module.split_groups(digests, groups, np.array(edges, np.int64).reshape(-1, 2))
    # The slow way: spread until nothing changes.
    together = [{row} for row in range(count)]
    changed = True
    while changed:
        changed = False
        for one in range(count):
            for other in range(count):
                linked = (
                    contents[one] == contents[other]
                    or (groups[one] and groups[one] == groups[other])
                    or (one, other) in edges
                )
                if linked and together[one] != together[other]:
                    together[one] = together[other] = together[one] | together[other]
                    changed = True
        for members in list(together):
            for row in members:
                if together[row] != members:
                    together[row] = together[row] | members
                    changed = True
    assert units.tolist() == [min(members) for members in together]
