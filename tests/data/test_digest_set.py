"""A DigestSet is a set, whatever was added at once and what one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opsin.data.digest_set import DigestSet


@given(st.lists(st.integers(0, 2**64 - 1)), st.lists(st.integers(0, 2**64 - 1)), st.data())
def test_digests_are_a_set(before: list[int], after: list[int], data: st.DataObject) -> None:
    digests = DigestSet()
    for start in range(0, len(before), 3):
        digests.extend(np.array(before[start : start + 3], np.uint64))
    digests.sort()
    known = set(before)
    assert len(digests) == len(known)
    for digest in [*after, *data.draw(st.lists(st.sampled_from([*before, *after, 0])))]:
        assert digests.add(digest) == (digest not in known)
        known.add(digest)
        assert digest in digests
    assert len(digests) == len(known)
    assert (2**63 in digests) == (2**63 in known)
