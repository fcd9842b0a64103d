"""A heap is labelled: what is asked, guessed, grouped, doubted, measured, and taken back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.core.errors import RecipeError, SourceError
from opsin.labelling.label_file import LabelFile
from opsin.labelling.labelling import NONE, UNCLEAR, Labelling, usual_file
from opsin.labelling.learner import HeapLearner
from tests.labelling.conftest import clouds, heap_of

POINTS, TRUTH = clouds(300)
NAMES = ("cat", "dog", "owl")


def true_name(image: str) -> str:
    return NAMES[TRUTH[int(image)]]


@pytest.fixture
def heap(tmp_path: Path) -> Labelling:
    return Labelling(heap_of(POINTS), LabelFile(tmp_path / "labels.sqlite", NAMES))


def answer(heap: Labelling, count: int) -> None:
    while count > 0:
        asked = heap.next(min(10, count))
        heap.label({question.image: true_name(question.image) for question in asked})
        count -= len(asked)


def test_from_nothing_to_a_figure(heap: Labelling) -> None:
    first = heap.next(6)
    assert [question.guess for question in first] == [None] * 6
    assert (heap.progress().accuracy, heap.progress().sentences) == (None, [])
    answer(heap, 12)  # two at random
    (said,) = heap.progress().sentences
    assert said == "How much is right is known after 18 more random photographs."
    answer(heap, 108)
    progress = heap.progress()
    assert progress.labelled == 120
    assert sum(progress.counts.values()) == 120
    assert progress.judged >= 20
    assert "% right (" in progress.sentences[0]
    later = heap.next(20)
    right = [question.guess == true_name(question.image) for question in later]
    assert np.mean(right) > 0.8
    assert all(0 <= (question.probability or -1) <= 1 for question in later)
    open_rows = np.concatenate([heap.thought_to_be(name) for name in NAMES])
    assert len(open_rows) == len(set(open_rows.tolist())) == 300 - 120 or len(open_rows) < 180


def test_no_more_labels_are_promised_than_photographs_are_left(heap: Labelling) -> None:
    order = heap.heap.random_rows
    heap.label({str(row): NAMES[row % 5 % 3] for row in order[:60]})
    assert len(heap.progress().sentences) == 2
    heap.label({str(row): NAMES[row % 5 % 3] for row in order[60:]})
    assert len(heap.progress().sentences) == 1
    few = Labelling(heap_of(POINTS[:10]), heap.file)
    assert (few.progress().labelled, few.progress().sentences) == (10, [])


def test_a_group_is_named_at_once_and_taken_back(heap: Labelling) -> None:
    group = max(heap.groups(6), key=lambda group: len(group.rows))
    names = [heap.heap.names[row] for row in group.rows]
    assert heap.label(dict.fromkeys(names, "cat"), how="group") == len(names)
    assert len(heap.labels()) == len(names)
    assert not {row for group in heap.groups(6) for row in group.rows} & set(group.rows.tolist())
    assert heap.undo() == len(names)
    assert heap.labels() == {}


def test_two_people_look_at_the_same_groups(tmp_path: Path) -> None:
    heap = Labelling(heap_of(clouds(300, spread=3.0)[0]), LabelFile(tmp_path / "labels.sqlite"))
    heap.file.ask((heap.heap.digests[row].tobytes() for row in range(0, 300, 3)), "bob")
    mine = [set(group.rows.tolist()) for group in heap.groups(12)]
    assert sum(map(len, mine)) == 200
    heap.who = "bob"
    his = [set(group.rows.tolist()) for group in heap.groups(12)]
    assert all(any(group <= other for other in his) for group in mine)


def test_wrong_labels_are_doubted(heap: Labelling) -> None:
    answer(heap, 90)
    labelled = list(heap.labels())
    wrong = {image: NAMES[(TRUTH[int(image)] + 1) % 3] for image in labelled[:5]}
    heap.label(wrong)
    doubted = {heap.heap.names[doubt.row] for doubt in heap.doubts(10)}
    assert len(doubted & set(wrong)) >= 4


def test_no_class_unclear_and_new_classes(heap: Labelling) -> None:
    heap.label({"1": NONE, "2": UNCLEAR, "3": "Emu", "4": "CAT"})
    assert heap.labels() == {"3": "Emu", "4": "cat"}
    assert heap.file.classes == [*NAMES, "Emu"]
    assert not {"1", "2", "3", "4"} & {question.image for question in heap.next(296)}
    with pytest.raises(SourceError, match="no photograph"):
        heap.label({"5": "cat", "gone.jpg": "dog"})
    assert "5" not in heap.labels()  # all or none


def test_an_overlap_is_asked_of_both_without_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    ada, bob = (
        Labelling(heap_of(POINTS), LabelFile(path, NAMES), who=who, overlap=0.25)
        for who in ("ada", "bob")
    )
    answer(ada, 120)
    some = [one.guess is None for one in ada.next(40)]  # who is the first to be asked as well
    assert 0 < sum(some) < 40
    ada.file.release("ada")
    bob.reload()
    twice = []
    for _ in range(12):
        asked = bob.next(10)
        twice += [one.image for one in asked if one.why == "overlap"]
        assert all(one.guess is None for one in asked if one.why == "overlap")
        bob.label(
            {one.image: NAMES[0] if len(twice) % 5 == 0 else true_name(one.image) for one in asked}
        )
    assert 20 <= len(twice) == len(set(twice)) <= 31
    (found,) = bob.progress().agreements
    assert (found.who, found.photographs) == (("ada", "bob"), len(twice))
    assert found.kappa is not None
    assert 0 < found.kappa < 1
    bob.label({twice[0]: NAMES[1], twice[1]: NAMES[1]})  # whoever looks again is no judge
    assert bob.progress().agreements == (found,)
    with pytest.raises(RecipeError, match="--who"):
        Labelling(heap_of(POINTS), LabelFile(path), overlap=0.1)


def test_the_next_question_waits_for_no_fit(heap: Labelling, monkeypatch: Any) -> None:
    answer(heap, 60)
    heap.learn()
    monkeypatch.setattr(HeapLearner, "fit", lambda *_, **__: pytest.fail("it is fitted"))
    for _ in range(5):
        (asked,) = heap.next(1)
        assert asked.guess is not None
        assert [asked] == heap.next(1)  # until it is answered
        heap.label({asked.image: true_name(asked.image)})


def test_many_corrections_are_learnt_at_once(heap: Labelling) -> None:
    answer(heap, 60)
    before = heap.progress().accuracy, [one.guess for one in heap.next(10)]
    heap.label({image: "cat" for image, name in heap.labels().items() if name == "dog"})
    heap.learn()
    assert "dog" not in {one.guess for one in heap.next(10)}
    heap.undo()
    heap.learn()
    assert (heap.progress().accuracy, [one.guess for one in heap.next(10)]) == before


def test_five_hundred_classes(tmp_path: Path) -> None:
    points, _ = clouds(1_500, spread=2.0)
    names = [f"種 {number}" for number in range(500)]
    heap = Labelling(heap_of(points), LabelFile(tmp_path / "labels.sqlite", names))
    heap.label({str(row): names[row % 500] for row in range(1_000)})
    assert {one.guess for one in heap.next(20)} <= {*names}
    assert sum(heap.progress().counts.values()) == 1_000
    assert len(heap.doubts(5)) == 5


def test_copies_are_asked_about_once(tmp_path: Path) -> None:
    points, _ = clouds(20)
    heap = heap_of(np.concatenate([points, points]))
    heap.digests[20:] = heap.digests[:20]
    labelling = Labelling(heap, LabelFile(tmp_path / "labels.sqlite", NAMES))
    assert labelling.progress().images == 20
    assert len(labelling.next(40)) == 20
    assert labelling.label({"25": "cat"}) == 2
    assert labelling.labels() == {"5": "cat", "25": "cat"}


def test_the_file_of_a_heap_is_the_same_by_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_STATE", str(tmp_path / "state"))
    (tmp_path / "heap").mkdir()
    (tmp_path / "link").symlink_to("heap")
    monkeypatch.chdir(tmp_path)
    assert usual_file("heap") == usual_file(tmp_path / "link") == usual_file("./heap/")
    assert usual_file("heap").is_relative_to(tmp_path / "state")
