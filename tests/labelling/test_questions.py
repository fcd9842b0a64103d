"""What is asked teaches: typical photographs first, then doubtful ones, always some at random."""

import numpy as np
from hypothesis import given, strategies as st

from opsin.core.arrays import Ints
from opsin.labelling.learner import HeapLearner, margins
from opsin.labelling.questions import RANDOM_EVERY, Asked, next_rows
from tests.labelling.conftest import clouds

POINTS, TRUTH = clouds(240)
ORDER = np.random.default_rng(1).permutation(240)


def ask(labelled: Ints, count: int) -> list[Asked]:
    learner, fitted = HeapLearner(POINTS), None
    if len(np.unique(TRUTH[labelled])) > 1:
        fitted = learner.fit(labelled, TRUTH[labelled], 3)
    rows = {"open_rows": np.setdiff1d(np.arange(240), labelled), "random_rows": ORDER}
    return next_rows(learner, fitted, labelled=labelled, count=count, **rows)


@given(labelled=st.integers(0, 240), count=st.integers(0, 60))
def test_each_question_is_open_and_asked_once(labelled: int, count: int) -> None:
    known = ORDER[::-1][:labelled]
    asked = [question.row for question in ask(known, count)]
    assert len(asked) == len(set(asked)) == min(count, 240 - labelled)
    assert not set(asked) & set(known.tolist())


def test_first_questions_show_every_class_and_later_ones_are_doubtful() -> None:
    first = ask(np.zeros(0, np.int64), 10)
    assert {question.why for question in first} == {"typical", "random"}
    assert len(set(TRUTH[[question.row for question in first]])) == 3
    known = np.array([question.row for question in first])
    asked = [q.row for q in ask(np.concatenate([known, ORDER[:30]]), 10) if q.why == "doubtful"]
    learner = HeapLearner(POINTS)
    labelled = np.unique(np.concatenate([known, ORDER[:30]]))
    sure = margins(learner.fit(labelled, TRUTH[labelled], 3).of(np.arange(240)))
    assert sure[asked].mean() < np.delete(sure, labelled).mean()


def test_one_in_five_is_random_in_any_order_of_asking() -> None:
    known, whys = np.zeros(0, np.int64), list[str]()
    for count in (3, 1, 4, 7, 2, 3):
        asked = ask(known, count)
        known = np.concatenate([known, [question.row for question in asked]]).astype(np.int64)
        whys += [question.why for question in asked]
    assert whys.count("random") == len(whys) // RANDOM_EVERY
    drawn = [row for row, why in zip(known.tolist(), whys, strict=True) if why == "random"]
    assert drawn == [row for row in ORDER.tolist() if row in drawn]


def test_questions_ask_about_each_cloud_and_not_twice_the_same() -> None:
    random = np.random.default_rng(0)
    twins = np.repeat(clouds(30)[0], 8, axis=0)  # eight of each, all but the same
    twins += random.normal(0, 1e-3, twins.shape).astype(np.float32)
    rows = np.arange(len(twins))
    asked = next_rows(
        HeapLearner(twins), None, labelled=rows[:8], open_rows=rows[8:], random_rows=rows, count=20
    )
    covering = [one.row // 8 for one in asked if one.why != "random"]
    assert len(covering) == len(set(covering)) == 16
    assert 0 not in covering  # its twin has a label
