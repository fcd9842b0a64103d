"""Every photograph is compared; the likest come first."""

import numpy as np
from hypothesis import given, strategies as st

from opsin.labelling.search import most_similar
from tests.labelling.conftest import clouds

NOTHING = np.zeros((0, 32), np.float32)


@given(seed=st.integers(0, 99), like=st.integers(1, 4), count=st.integers(1, 400))
def test_it_is_the_exact_cosine_beyond_the_centre(seed: int, like: int, count: int) -> None:
    points, _ = clouds(300, seed=seed)
    rows, similarities = most_similar(points, points[:like], NOTHING, count)
    beyond = points - points.mean(axis=0)
    query = beyond[:like].mean(axis=0)
    cosines = beyond @ query / np.linalg.norm(beyond, axis=1) / np.linalg.norm(query)
    assert len(rows) == min(count, 300)
    assert np.allclose(similarities, np.sort(cosines)[::-1][:count], atol=1e-4)
    assert np.allclose(cosines[rows], similarities, atol=1e-4)


def test_what_to_avoid_moves_back_and_only_what_may_be_found_is() -> None:
    points, labels = clouds(300, spread=1.2)
    first, second = np.flatnonzero(labels == 0)[:3], np.flatnonzero(labels == 1)
    plain = most_similar(points, points[first], NOTHING, 300)[0].tolist()
    away = most_similar(points, points[first], points[second[:20]], 300)[0].tolist()
    assert np.mean([away.index(row) for row in second]) > np.mean(
        [plain.index(row) for row in second]
    )
    few, _ = most_similar(points, points[first], NOTHING, 5, among=second[:9])
    assert set(few) <= set(second[:9])
    assert len(few) == 5
