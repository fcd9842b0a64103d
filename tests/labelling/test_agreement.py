"""Agreement of two people is what goes beyond chance, and says when it cannot tell."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from opsin.labelling.agreement import agreements


def said_by(answers: np.ndarray) -> dict[bytes, str]:
    return {number.to_bytes(32): f"class {answer}" for number, answer in enumerate(answers)}


def test_kappa_is_cohens_and_its_interval_covers_that_of_all() -> None:
    random = np.random.default_rng(0)
    ada = random.choice(3, 100_000, p=[0.6, 0.3, 0.1])
    bob = np.where(random.random(len(ada)) < 0.8, ada, random.integers(0, 3, len(ada)))
    truth, covered = cohen_kappa_score(ada, bob), 0
    for at in range(0, 40_000, 100):
        part = slice(at, at + 100)
        (found,) = agreements({"bob": said_by(bob[part]), "ada": said_by(ada[part])})
        assert (found.who, found.photographs) == (("ada", "bob"), 100)
        assert found.kappa == pytest.approx(cohen_kappa_score(ada[part], bob[part]))
        assert found.interval is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.92 <= covered / 400 <= 0.98


def test_little_is_said_of_few_and_of_answers_that_are_all_the_same() -> None:
    few, same = said_by(np.arange(19) % 2), said_by(np.zeros(60, int))
    assert [one.kappa for one in agreements({"ada": few, "bob": few})] == [None]
    assert [one.kappa for one in agreements({"ada": same, "bob": same})] == [None]
    assert agreements({"ada": few, "bob": {b"other": "class 1"}}) == ()
    agreed = said_by(np.arange(60) % 2)
    (found,) = agreements({"ada": agreed, "bob": agreed})
    assert found.kappa == 1
    assert found.interval is not None
    assert found.interval[0] < 0.95  # 60 that agree do not prove that all would
