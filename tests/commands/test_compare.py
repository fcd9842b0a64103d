"""Runs are compared by the same images only, however these are called and ordered."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import RecipeError, RunError
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.split import Split
from tests.conftest import Cli, Notes, only_json, write_shapes
from tests.made_runs import answers_right, write_run

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, digits: Dataset) -> Make:
    """Write a run: its name, how much is right, and what else `write_run` takes."""

    def written(name: str, right: float, data: Dataset = digits, **more: Any) -> Path:
        answers = answers_right(data, right, seed=sum(map(ord, name)))
        return write_run(tmp_path / "runs", name, data, answers, **more)

    return written


def as_arrays(data: Dataset, order: NDArray[np.int64], **options: Any) -> Dataset:
    """Return the same training and test images in another order and under other names."""
    seen = np.concatenate([data.split.train, data.split.val])[order]
    test = data.split.test[::-1]
    learnt, tested = ((np.asarray(data.images[rows]), data.labels[rows]) for rows in (seen, test))
    return opsin.from_arrays(*learnt, data.classes, test=tested, **options)


def test_a_table_and_a_sentence(make: Make, digits: Dataset) -> None:
    poor, good = make("poor", 0.5), make("good", 0.9)
    found = opsin.compare(poor, good)
    assert (found.part, found.images) == ("test", len(digits.split.test))
    assert [row.letter for row in found.runs] == ["A", "B"]
    first, second = found.runs
    figures = opsin.Run(good).figures
    for key in ("accuracy", "low", "high", "log_loss", "calibration_error"):
        assert getattr(second, key) == getattr(figures, key)
    assert (second.bytes, second.parameters, second.seconds) == (5000, 1234, 12.0)
    assert second.parity == 2e-6
    assert (first.best, second.best) == ([], ["accuracy"])
    (pair,) = found.pairs
    assert pair.difference == pytest.approx(second.accuracy - first.accuracy)
    assert pair.better == "B"
    assert pair.sentence.startswith("B is better than A by ")
    assert len(pair.disagreements) >= pair.only_first + pair.only_second
    plain = found.model_dump(mode="json", exclude_unset=True)
    json.dumps(plain, allow_nan=False)
    assert plain["pairs"][0] == pair.model_dump(mode="json", exclude_unset=True)
    assert "B is better" in repr(found)
    (same,) = opsin.compare(good, good).pairs
    assert (same.p, same.difference, same.better, same.disagreements) == (1, 0, None, [])
    assert same.sentence.startswith("No difference between A and B can be shown")


def test_order_names_and_the_order_of_classes_do_not_matter(
    make: Make, digits: Dataset, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    order = random.permutation(len(digits.split.train) + len(digits.split.val))
    own = as_arrays(digits, np.arange(len(order)))
    other = as_arrays(digits, order)
    assert own.names == other.names and (own.labels != other.labels).any()
    turned = opsin.load("digits", classes=digits.classes[::-1])
    first = make("first", 0.7, own)
    # The same answers, brought into the other orders by hand.
    keys = {digest.tobytes(): row for row, digest in enumerate(own.digests[own.split.test])}
    with np.load(first / "predictions.npz") as kept:
        answers = kept["test_probabilities"]
    for name, data, columns in (
        ("moved", other, slice(None)),
        ("turned", turned, slice(None, None, -1)),
    ):
        rows = [keys[digest.tobytes()] for digest in data.digests[data.split.test]]
        given = answers_right(data, 0.5) | {"test": answers[rows][:, columns]}
        run = write_run(tmp_path / "runs", name, data, given)
        (pair,) = opsin.compare(first, run).pairs
        assert pair.disagreements == [], name
        assert pair.both_right == pytest.approx(0.7 * pair.images, rel=0.2)


def test_copies_in_the_test_set_pair_one_to_one(tmp_path: Path, digits: Dataset) -> None:
    seen = digits.split.train[:100]
    test = digits.split.test[:8]
    rows = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    # Two of the copies are labelled otherwise: the same pixels, a class more.
    labels = digits.labels[test][rows] + np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    labels %= 10

    def run(name: str, order: NDArray[np.int64]) -> Path:
        images = np.asarray(digits.images[test])[rows][order]
        learnt = np.asarray(digits.images[seen]), digits.labels[seen], digits.classes
        tested = images, labels[order]
        data = opsin.from_arrays(*learnt, test=tested, near_duplicates="apart")
        # The answer is what the image shows, so copies get equal ones.
        right = np.full((len(order), 10), 0.01, np.float32)
        right[np.arange(len(order)), digits.labels[test][rows][order]] = 0.91
        return write_run(tmp_path, name, data, answers_right(data, 0.5) | {"test": right})

    one, other = run("one", np.arange(11)), run("other", np.arange(11)[::-1])
    (pair,) = opsin.compare(one, other).pairs
    assert pair.disagreements == []
    assert (pair.both_right, pair.both_wrong) == (9, 2)
    fewer = run("fewer", np.arange(1, 11))
    shared = opsin.compare(one, fewer)
    assert (shared.images, [row.tested for row in shared.runs]) == (10, [11, 10])
    assert "on the 10 test images that these runs share" in shared.notes[0]
    # Copies of one image are one observation.
    assert shared.pairs[0].groups == 8


def test_runs_are_compared_on_the_images_that_both_tested(make: Make) -> None:
    data = [opsin.load("digits"), opsin.load("digits", split_seed=1)]
    tested = [
        {digest.tobytes(): row for row in each.split.test for digest in [each.digests[row]]}
        for each in data
    ]
    shared = tested[0].keys() & tested[1].keys()
    assert 5 < len(shared) < 60
    one, other = make("one", 0.8, data[0]), make("other", 0.8, data[1])
    found = opsin.compare(one, other)
    assert found.images == found.pairs[0].images == len(shared)
    assert f"the {len(shared)} test images that these runs share" in found.notes[0]
    for row, each, own, run in zip(found.runs, data, tested, (one, other), strict=True):
        kept = RunPredictions.read(RunDirectory(run)).of("test")
        right = dict(zip(kept.rows.tolist(), kept.right.tolist(), strict=True))
        assert row.accuracy == np.mean([right[own[digest]] for digest in shared])
        assert (row.tested, row.reported) == (len(each.split.test), None)


def test_runs_that_share_no_test_images_are_refused_with_the_reason(
    make: Make, digits: Dataset
) -> None:
    test, runs = digits.split.test, []
    for name, part in (("one", test[:90]), ("other", test[90:])):
        train = np.concatenate([digits.split.train, np.setdiff1d(test, part)])
        data = replace(digits, split=replace(digits.split, train=train, test=part))
        runs.append(make(name, 0.8, data))
    with pytest.raises(RunError) as refused:
        opsin.compare(*runs)
    assert "None of the 90 test images" in str(refused.value)


def test_images_of_one_group_are_compared_as_one(tmp_path: Path, digits: Dataset) -> None:
    count = len(digits.split.test)
    by_hand = np.arange(count) // 20
    runs = []
    for name, wrong in (("one", by_hand < 1), ("other", by_hand < 0)):
        answers = answers_right(digits, 1.0)
        answers["test"][wrong] = (1 - answers["test"][wrong]) / 9
        runs.append(write_run(tmp_path, name, digits, answers))
    alone = opsin.compare(*runs)
    assert alone.pairs[0].better == "B"
    for run in runs:
        directory = RunDirectory(run)
        kept = directory.load_arrays(directory.predictions)
        directory.save_arrays(directory.predictions, **{**kept, "test_groups": by_hand})
    grouped = opsin.compare(*runs)
    groups = int(by_hand[-1]) + 1
    (pair,) = grouped.pairs
    assert (pair.groups, pair.p, pair.better) == (groups, 1.0, None)
    assert any("which are few" in remark for remark in grouped.remarks)


def test_without_test_images_the_words_are_validation_optimistic(make: Make) -> None:
    data = opsin.load("digits", test_fraction=0)
    one, other = make("one", 0.5, data), make("other", 0.95, data)
    found = opsin.compare(one, other)
    assert found.part == "val"
    assert found.pairs[0].sentence.startswith("Validation, optimistic: B is better")
    assert "Validation, optimistic" in found.headline
    assert "optimistic" in found.remarks[0]
    assert "validation, optimistic" in opsin.compare(one, one, one).headline
    with pytest.raises(RunError, match=r"one is judged by validation"):
        opsin.compare(make("with", 0.5), one)


def test_a_run_judged_by_all_is_compared_on_the_test_images_of_another(
    make: Make, digits: Dataset, tmp_path: Path
) -> None:
    tested = make("tested", 0.5)
    labels = digits.labels
    answers = np.full((len(labels), 10), 0.01, np.float32)
    answers[np.arange(len(labels)), labels] = 0.91
    none = np.zeros(0, np.int64)
    every = replace(digits, split=Split(np.arange(len(labels)), none, none))
    judged = write_run(tmp_path / "runs", "judged", every, {"out_of_fold": answers})
    for runs in ((tested, judged), (judged, tested)):
        found = opsin.compare(*runs)
        assert (found.part, found.images) == ("out_of_fold", len(digits.split.test))
        (pair,) = found.pairs
        assert pair.better == "AB"[runs.index(judged)]
        accuracies = {row.run: row.accuracy for row in found.runs}
        assert accuracies == {str(judged): 1, str(tested): opsin.Run(tested).figures.accuracy}
        assert "held-out images that these runs share" in found.notes[0]
        assert not any("flatters" in note for note in found.notes)
    assert opsin.compare(judged, judged).images == len(labels)
    optimistic = make("val", 0.5, opsin.load("digits", test_fraction=0))
    with pytest.raises(RunError, match=r"val is judged by val"):
        opsin.compare(judged, optimistic)


def test_sizes_are_compared_by_name_where_the_source_names_its_test_part(
    make: Make, tmp_path: Path
) -> None:
    for part, count in (("train", 20), ("test", 8)):
        write_shapes(tmp_path / "photos" / part, count)
    small, large = (opsin.load(tmp_path / "photos", size=size) for size in (8, 16))
    runs = [make("small", 0.9, small), make("large", 0.6, large)]
    found = opsin.compare(*runs)
    assert found.images == 16
    assert "by name" in found.notes[0]
    # Names from another place prove nothing.
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    copied = make("copied", 0.9, opsin.load(tmp_path / "copy", size=16))
    with pytest.raises(RunError, match="come from different places"):
        opsin.compare(runs[0], copied)
    assert opsin.compare(runs[1], copied).images == 16
    # Without a test part, files decide the split, whatever the size.
    train = tmp_path / "photos" / "train"
    cut = [opsin.load(train, size=size) for size in (8, 16)]
    assert opsin.compare(make("s", 0.9, cut[0]), make("l", 0.9, cut[1])).images


def test_several_runs_are_set_against_one_and_p_is_adjusted(make: Make) -> None:
    runs = [make(name, right) for name, right in (("a", 0.6), ("b", 0.9), ("c", 0.62))]
    found = opsin.compare(*runs)
    assert [pair.letters for pair in found.pairs] == [["A", "B"], ["A", "C"]]
    assert [pair.better for pair in found.pairs] == ["B", None]
    assert found.headline == "Against A: B is better, C not shown to differ"
    assert all("adjusted for 2 comparisons" in pair.sentence for pair in found.pairs)
    assert "2 comparisons" in found.remarks[0]
    turned = opsin.compare(runs[1], runs[0], runs[2])
    assert turned.pairs[0].difference == -found.pairs[0].difference
    assert turned.pairs[0].better == "A"


def test_one_run_or_too_many_and_unfinished_ones_are_refused(make: Make, tmp_path: Path) -> None:
    run = make("one", 0.8)
    for runs in ([run], [run] * 11):
        with pytest.raises(RecipeError, match=f"Two to 10 runs .*not {len(runs)}"):
            opsin.compare(*runs)
    with pytest.raises(RunError, match="does not exist"):
        opsin.compare(run, tmp_path / "nowhere")
    other = make("other", 0.8)
    (other / "report.json").unlink()
    with pytest.raises(RunError, match=r"has no report\.json"):
        opsin.compare(run, other)
    np.savez(make("old", 0.8) / "predictions.npz", nothing=np.zeros(1))
    with pytest.raises(RunError, match="its answers to its test images"):
        opsin.compare(run, run.parent / "old")


def test_other_labels_are_refused_and_copies_among_the_training_images_told(
    make: Make, digits: Dataset
) -> None:
    everything = np.arange(len(digits.split.train) + len(digits.split.val))
    one = make("one", 0.8, as_arrays(digits, everything))
    other = make("other", 0.8, as_arrays(digits, everything))
    with np.load(other / "split.npz") as kept:
        split = dict(kept)
    split["digests"][split["train"][:4]] = split["digests"][split["test"][:4]]
    np.savez(other / "split.npz", **split)
    found = opsin.compare(one, other)
    (note,) = found.notes
    assert "other was trained on, or chosen by, exact copies of 4 of the " in note
    with np.load(other / "predictions.npz") as kept:
        content = dict(kept)
    content["test_labels"][:3] = (content["test_labels"][:3] + 1) % 10
    np.savez(other / "predictions.npz", **content)
    with pytest.raises(RunError, match=r"3 of the .* have another label .*no corrections tell"):
        opsin.compare(one, other)


def test_everything_is_written_where_it_was_asked_for(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    found = opsin.compare(make("poor", 0.5), make("good", 0.9), out=out)
    figures = {f"{name}.png" for name in ("curves", "accuracy")}
    names = {"compare.html", "compare.json"} | figures
    assert {path.name for path in out.iterdir()} == names == {path.name for path in found.files}
    content = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(found.model_dump(mode="json", exclude_unset=True)))
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert html.escape(found.pairs[0].sentence) in page
    assert page.count('<img src="data:image/') >= 24
    assert page.count("<img") == page.count(' alt="')
    for foreign in ("<script", 'src="http', 'href="http'):
        assert foreign not in page, foreign


def test_images_that_are_gone_are_named_and_that_is_said(make: Make, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for part in ("train", "test"):
        write_shapes(photos / part, 12)
    data = opsin.load(photos)
    runs = [make("one", 0.5, data), make("two", 0.9, data)]
    shutil.rmtree(photos)
    told = Notes()
    found = opsin.compare(*runs, out=tmp_path / "look", watcher=told)
    assert "cannot be shown, only named" in told.notes[-1]
    page = (tmp_path / "look" / "compare.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert (found.pairs[0].disagreements[0].name or "?") in page


def test_the_command_prints_a_table_a_sentence_and_where_the_page_is(
    cli: Cli, make: Make, nearest_mean: Path, tmp_path: Path
) -> None:
    runs = [make(name, right, classifier=nearest_mean) for name, right in (("a", 0.5), ("b", 0.9))]
    done = cli("compare", *runs, "--out", "look", status=0)
    for words in ("5.0 kB", "1,234", "0:12", "B is better than A by", "look/compare.html"):
        assert words in done.stdout, words
    assert max(len(line) for line in done.stdout.splitlines() if "±" in line) <= 100
    before = set(tmp_path.rglob("*"))
    done = cli("compare", *runs[::-1], "--json", "--quiet")
    content = only_json(done)
    assert (done.stderr, content["pairs"][0]["better"], content["files"]) == ("", "A", [])
    assert set(tmp_path.rglob("*")) == before


@pytest.fixture
def relabelled(tmp_path: Path, digits: Dataset) -> tuple[Dataset, list[int]]:
    """Return the digits with 13 labels of the test part corrected, and which rows these are."""
    rows = [int(row) for row in digits.split.test[:13]]
    file = tmp_path / "labels.csv"
    lines = [
        f"{short_digest(digits.digests[row]).tobytes().hex()},"
        f"{digits.classes[(digits.labels[row] + 1) % 10]}"
        for row in rows
    ]
    file.write_text("digest,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return opsin.load("digits", labels=file), rows


def test_both_are_judged_by_the_corrected_labels(
    make: Make, digits: Dataset, relabelled: tuple[Dataset, list[int]]
) -> None:
    corrected, _ = relabelled
    assert (corrected.split.test == digits.split.test).all()
    answers = answers_right(digits, 1.0)
    answers["test"][:13] = np.roll(answers["test"][:13], 1, axis=1)
    root = make("old", 1.0).parent
    for name, data in (("before", digits), ("after", corrected)):
        write_run(root, name, data, answers)
    for order in (("before", "after"), ("after", "before")):
        found = opsin.compare(*(root / name for name in order))
        assert [row.accuracy for row in found.runs] == [1.0, 1.0]
        by_name = {Path(row.run).name: row for row in found.runs}
        count = len(digits.split.test)
        assert by_name["before"].rescored == 13
        assert by_name["before"].reported
        assert by_name["before"].reported.accuracy == pytest.approx(1 - 13 / count)
        assert (by_name["after"].rescored, by_name["after"].reported) == (0, None)
        (note,) = found.notes
        assert f"before is judged by the corrected labels: 13 of the {count:,} test labels" in note
        assert found.pairs[0].better is None
