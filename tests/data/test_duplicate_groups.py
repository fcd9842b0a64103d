"""What belongs together is found, by name and by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import SILENT
from opsin.data import duplicate_groups
from opsin.data.cache import digest_rows
from opsin.data.near_duplicates.find import find_near_duplicates


def test_names_are_grouped_by_the_first_group_or_the_whole_match() -> None:
    names = ["a/anna_1.png", "b/anna_2.png", "b/bert_1.png"]
    assert duplicate_groups.groups_by_name(names, r"/([a-z]+)_") == ["anna", "anna", "bert"]
    assert duplicate_groups.groups_by_name(names, r"[a-z]+_") == ["anna_", "anna_", "bert_"]


def test_an_expression_that_is_none_or_finds_nothing_is_told() -> None:
    with pytest.raises(RecipeError, match="regular expression"):
        duplicate_groups.groups_by_name(["a"], "(")
    with pytest.raises(SourceError, match=r"nothing in any of 2, such as a\.png, b\.png"):
        duplicate_groups.groups_by_name(["a.png", "b.png"], "x+")


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
    units = duplicate_groups.split_groups(digests, groups, np.array(edges, np.int64).reshape(-1, 2))
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


def test_a_search_is_kept_and_found_again_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (60, 24, 24, 1), np.uint8)
    images[41] = images[3] // 2 + 30
    images[50] = images[3]  # an exact copy, for which one of the two stands
    first = duplicate_groups.near_duplicates(
        images, digest_rows(images), mirrored=True, watcher=SILENT
    )
    assert first.pairs.tolist() == [[3, 41]]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(duplicate_groups, "find_near_duplicates", refuse)
    order = np.random.default_rng(1).permutation(60)
    again = duplicate_groups.near_duplicates(
        images[order], digest_rows(images[order]), mirrored=True, watcher=SILENT
    )
    ((one, other),) = again.pairs
    assert {int(order[one]), int(order[other])} in ({3, 41}, {50, 41})
    monkeypatch.setattr(duplicate_groups, "find_near_duplicates", find_near_duplicates)
    for file in (tmp_path / "near").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    after = duplicate_groups.near_duplicates(
        images, digest_rows(images), mirrored=True, watcher=SILENT
    )
    assert after.pairs.tolist() == [[3, 41]]
