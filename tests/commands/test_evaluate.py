"""A file is judged on images it has not seen, or the answer says that it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import SourceError
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset, from_arrays
from opsin.evaluation.intervals import wilson
from opsin.report.terminal import images_in_words
from opsin.studio.runs.run_index import read_row
from tests.commands.export import shipped
from tests.conftest import Cli, Notes, Train, a_few, without_drawing, write_digits, write_shapes


def by_class(digits: Dataset) -> Callable[[int], str]:
    """Return what folder each digit goes into."""
    return lambda row: digits.classes[digits.labels[row]]


def test_other_images_are_all_judged(nearest_mean: Path, digits: Dataset, tmp_path: Path) -> None:
    rows = digits.split.test.tolist()
    folder = write_digits(tmp_path / "new", digits, rows, by_class(digits))
    figures = opsin.evaluate(nearest_mean, folder)
    assert (figures.part, figures.seen, figures.images) == ("all", None, len(rows))
    probabilities = opsin.Classifier(nearest_mean).probabilities(digits.images[rows])
    expected = np.mean(probabilities.argmax(axis=1) == digits.labels[rows])
    assert figures.accuracy == pytest.approx(float(expected))


@pytest.mark.torch
def test_a_run_that_cannot_be_written_loses_no_evaluation(run: opsin.Run, tmp_path: Path) -> None:
    own = shutil.copytree(run.path, tmp_path / "own")
    (own / "looks.jsonl").unlink(missing_ok=True)
    looks = opsin.evaluate(own, "digits").looks
    assert looks == 2
    (own / "looks.jsonl").unlink()
    (own / "looks.jsonl").mkdir()  # refuses to be written even to root
    notes = Notes()
    small = tmp_path / "small.onnx"
    assert opsin.evaluate(own, "digits", watcher=notes).looks == 2
    assert shipped(own, "fp16", out=small, watcher=notes).looks == 2
    told = [note for note in notes.notes if f"not counted in {own}" in note]
    assert len(told) == 2


def test_each_way_to_look_at_the_own_test_images_counts(tmp_path: Path, digits: Dataset) -> None:
    options: dict[str, Any] = {"model": "knn", "runs": tmp_path / "runs", "quiet": True}
    made = opsin.train("digits", **options)
    second, other = (opsin.train("digits", split_seed=seed, **options) for seed in (0, 5))
    assert [run.report.looks for run in (made, second, other)] == [1, 2, 1]  # by their images
    test = digits.split.test.tolist()
    own = by_class(digits)
    folder = write_digits(tmp_path / "tested", digits, test, own)
    whole = opsin.evaluate(made.path, folder)
    assert (whole.part, whole.seen, whole.own_test, whole.looks) == ("own-test", 0, 179, 3)
    assert whole.accuracy == made.accuracy
    some = opsin.evaluate(made.path, folder, classes=["3", "8"])
    assert (some.part, some.own_test, some.looks) == ("own-test", some.images, 4)
    file = folder / own(test[0]) / f"{test[0]}.png"
    file.rename(file.with_name("renamed.png"))
    file.with_name("copy.png").write_bytes(file.with_name("renamed.png").read_bytes())
    copied = opsin.evaluate(made.path, folder)
    assert (copied.images, copied.own_test, copied.looks) == (180, 180, 5)
    file.with_name("renamed.png").unlink()
    file.with_name("copy.png").unlink()
    fewer = opsin.evaluate(made.path, folder)
    assert (fewer.part, fewer.images, fewer.looks) == ("own-test", 178, 6)
    shutil.copytree(folder, tmp_path / "again")
    twice = opsin.evaluate(made.path, folder, tmp_path / "again")
    assert (twice.images, twice.accuracy, twice.looks) == (356, fewer.accuracy, 7)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save(folder / "3" / "noise.png")
    mixed = opsin.evaluate(made.path, folder)
    assert (mixed.part, mixed.own_test, mixed.looks) == ("all", 178, 8)
    notes = Notes()
    answers = list(opsin.predict_each(made.path, folder, watcher=notes))
    assert len(answers) == 179
    assert notes.notes[-1].startswith(
        "178 of these are the run's own test images, by now looked at 9 times"
    )
    opsin.classify(made.path, folder, out=tmp_path / "out.csv", watcher=notes)
    assert "looked at 10 times" in notes.notes[-1]
    # Whether anything else is seen changes nothing of it.
    trained = write_digits(tmp_path / "trained", digits, digits.split.train[:40].tolist(), own)
    assert opsin.evaluate(made.path, trained).looks is None
    both = opsin.evaluate(made.path, folder, trained)
    assert (both.part, both.own_test, both.images) == ("unseen", 178, 179)


@pytest.mark.torch
def test_training_images_among_the_judged_are_counted(
    run: opsin.Run, digits: Dataset, tmp_path: Path
) -> None:
    some = digits.split.train[:40].tolist() + digits.split.test[:30].tolist()
    part = write_digits(tmp_path / "some", digits, some, by_class(digits))
    figures = opsin.evaluate(run.path, part)
    assert (figures.part, figures.seen, figures.images) == ("own-test", 0, 30)
    named = write_digits(tmp_path / "named" / "test", digits, some, by_class(digits))
    write_digits(tmp_path / "named" / "train", digits, [0, 1], by_class(digits))
    figures = opsin.evaluate(run.path, named.parent)
    assert (figures.part, figures.seen, figures.images) == ("test", 40, 70)


def test_foreign_classes_are_named_and_can_be_left_out(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    folder = write_digits(tmp_path / "mixed", digits, range(30), by_class(digits))
    shutil.copytree(folder / "3", folder / "cat")
    with pytest.raises(SourceError, match="also has cat"):
        opsin.evaluate(nearest_mean, folder)
    assert opsin.evaluate(nearest_mean, folder, classes=["3", "1"]).images > 0


@pytest.mark.torch
def test_recoded_and_resized_training_images_are_known(tmp_path: Path, train: Train) -> None:
    random = np.random.default_rng(0)
    for number in range(80):
        file = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(file)
    made = train(tmp_path / "set", model="mlp", epochs=1)
    data = opsin.load(tmp_path / "set")
    for row in data.split.train[::3][:20]:
        name = Path(data.names[row])
        (tmp_path / "recoded" / name.parent).mkdir(parents=True, exist_ok=True)
        with Image.open(tmp_path / "set" / name) as image:
            large = image.resize((60, 60), Image.Resampling.BICUBIC)
            large.save(tmp_path / "recoded" / name.with_suffix(".jpg"), quality=97)
    figures = opsin.evaluate(made.path, tmp_path / "recoded")
    assert (figures.seen, figures.seen_nearly, figures.without_seen_nearly) == (0, 20, None)
    for number in range(10):
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        new = Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)
        new.save(tmp_path / "recoded" / "ab"[number % 2] / f"new-{number}.png")
    figures = opsin.evaluate(made.path, tmp_path / "recoded")
    assert (figures.images, figures.seen_nearly) == (30, 20)
    assert figures.without_seen_nearly and figures.without_seen_nearly.images == 10
    # Where the images of the training are gone, only exact copies are known.
    (tmp_path / "set").rename(tmp_path / "gone")
    assert opsin.evaluate(made.path, tmp_path / "recoded").seen_nearly is None


def corrections_of_mistakes(run: opsin.Run, digits: Dataset, file: Path) -> int:
    """Write corrections that bring every mistake to the classifier's own answer."""
    lines, count = ["digest,label"], 0
    kept = run.directory.load_arrays(run.directory.predictions)
    for part in ("val", "test"):
        answers, rows = kept[f"{part}_probabilities"].argmax(axis=1), kept[f"{part}_rows"]
        for row, answer in zip(rows, answers, strict=True):
            if answer != digits.labels[row]:
                digest = short_digest(digits.digests[row]).tobytes().hex()
                lines.append(f"{digest},{digits.classes[answer]}")
                count += part == "test"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return count


def test_a_file_is_judged_by_corrected_labels(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    before = opsin.evaluate(nearest_mean, "digits")
    answers = opsin.Classifier(nearest_mean).probabilities(digits.images).argmax(axis=1)
    lines = [f"{name},{answer}" for name, answer in zip(digits.names, answers, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label", *lines]), encoding="utf-8")
    after = opsin.evaluate(nearest_mean, "digits", labels=tmp_path / "labels.csv")
    assert before.accuracy < after.accuracy == 1.0
    assert after.corrected and after.corrected.labels == (answers != digits.labels).sum()
    assert after.corrected.earlier.accuracy == before.accuracy


@pytest.mark.drawn
def test_corrections_of_the_measure_are_told_apart_from_progress(
    cli: Cli, digits: Dataset, tmp_path: Path, train: Train
) -> None:
    with without_drawing():
        before = train("digits", model="logistic")
    assert before.figures.corrected is None
    wrong = corrections_of_mistakes(before, digits, tmp_path / "labels.csv")
    assert wrong
    said = cli(
        "train", "digits", "--model", "logistic", "--labels", "labels.csv", "--name", "B", status=0
    )
    (after,) = [each for each in opsin.list_runs(tmp_path / "runs") if each.path != before.path]
    corrected = after.figures.corrected
    assert corrected is not None
    count = len(digits.split.test)
    assert (corrected.labels, corrected.images, corrected.left_out) == (wrong, count, 0)
    assert after.accuracy > corrected.earlier.accuracy
    words = f"{wrong} of {count} test labels corrected"
    page, card = after.directory.page.read_text("utf-8"), after.directory.card.read_text("utf-8")
    for told in (said.stderr, page, card, cli("runs").stdout):
        assert words in " ".join(told.split())
    assert after.row()["corrected"] == corrected.model_dump(mode="json", exclude_unset=True)
    assert read_row(after.path).corrected == corrected
    opsin.write_report(after.path, deep=False)
    assert after.figures.corrected == corrected
    figures = opsin.evaluate(before.path, "digits", labels=tmp_path / "labels.csv")
    assert figures.corrected and figures.accuracy > figures.corrected.earlier.accuracy


def in_groups(digits: Dataset) -> Dataset:
    """Group scans by class, ten to a group, as if ten of a class were by one hand."""
    groups = [""] * len(digits)
    for label in range(len(digits.classes)):
        for place, row in enumerate(np.flatnonzero(digits.labels == label)):
            groups[row] = f"hand-{label}-{place // 10}"
    return from_arrays(
        np.array(digits.images)[..., 0], digits.labels, digits.classes, groups=groups
    )


def test_images_of_one_group_are_one_observation(
    digits: Dataset, tmp_path: Path, train: Train
) -> None:
    data = in_groups(digits)
    made = train(data, model="logistic")
    figures, rows = made.figures, data.split.test
    groups = len(np.unique(data.units[rows]))
    assert (figures.images, figures.groups, figures.few_groups) == (len(rows), groups, groups < 20)
    assert groups < figures.images / 5
    kept = RunPredictions.read(made.directory).of("test")
    assert kept.groups is not None and np.array_equal(kept.groups, data.units[rows])
    low, high = wilson(int(kept.right.sum()), len(rows))
    assert figures.high - figures.low > 1.1 * (high - low)
    assert f"{figures.images} images in {groups} groups" in images_in_words(figures)

    folder = tmp_path / "tested"
    for row in rows:
        own = folder / data.classes[data.labels[row]]
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[row, :, :, 0]).save(own / f"{data.groups[row]}_{row}.png")
    # The run knows the groups of its own images; of others, an option or a table says them.
    judged = opsin.evaluate(made.path, folder)
    assert (judged.part, judged.groups) == ("own-test", groups)
    assert (judged.low, judged.high) == (figures.low, figures.high)
    alone = shutil.copy(made.directory.classifier, tmp_path / "alone.onnx")
    named = opsin.evaluate(alone, folder, group_by="(hand-.*)_")
    assert (named.groups, named.low, named.high) == (groups, figures.low, figures.high)
    plain = opsin.evaluate(alone, folder)
    assert (plain.groups, plain.low, plain.high) == (None, low, high)


def write_textures(folder: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for number in range(40):
        low = 0 if number % 2 else 100
        coarse = random.integers(low, low + 156, (8, 8, 3), np.uint8)
        file = folder / ("dark" if number % 2 else "light") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse.repeat(4, axis=0).repeat(4, axis=1)).save(file)
    return folder


def test_near_copies_among_the_images_judged_are_one_observation(
    tmp_path: Path, train: Train
) -> None:
    old, new = write_textures(tmp_path / "train", 1), write_textures(tmp_path / "new", 2)
    made = train(old, model="logistic")
    alone = shutil.copy(made.directory.classifier, tmp_path / "alone.onnx")
    before = opsin.evaluate(alone, new)
    assert (before.images, before.groups) == (40, None)
    for file in list(new.rglob("*.png")):
        Image.open(file).save(file.with_suffix(".jpg"), quality=92)
    after = opsin.evaluate(alone, new)
    assert (after.images, after.groups) == (80, 40)
    assert after.high - after.low > 0.9 * (before.high - before.low)
    assert opsin.evaluate(alone, new, near_duplicates="apart").groups is None


@pytest.mark.parametrize("split", a_few(["", "test"], 1))
def test_an_image_counts_once_however_many_rows_name_it(
    tmp_path: Path, train: Train, split: str
) -> None:
    write_shapes(tmp_path / "images", count=30)
    names = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png"))
    table = tmp_path / "table.csv"

    def rows(names: list[str], prefix: str = "") -> list[str]:
        parts = [split and ("train", "train", split)[n % 3] for n in range(len(names))]
        return [
            f"{prefix}{name},{name.split('/')[1]},{part}"
            for name, part in zip(names, parts, strict=True)
        ]

    once = rows(names)
    table.write_text("\n".join(["path,label,split", *once]))
    plain = opsin.load(table)
    run = train(table, model="knn")
    figures = opsin.evaluate(run, table)
    # The same images by other paths, too.
    again = rows(names, "images/../") + rows(names, f"{tmp_path}/")
    table.write_text("\n".join(["path,label,split", *(once * 4 + again)]))
    data = opsin.load(table, outside=True)
    assert (data.names, data.fingerprint) == (plain.names, plain.fingerprint)
    assert all(
        np.array_equal(data.split.rows(part), plain.split.rows(part))
        for part in ("train", "val", "test")
    )
    assert opsin.audit(data).counts()["repeated-rows"] == data.repeated == 5 * len(names)
    other = train(data, model="knn")
    assert other.report.repeated_rows == data.repeated
    assert other.report.judged.images == run.report.judged.images == figures.images
    judged = opsin.evaluate(run, table, outside=True)
    assert (judged.images, judged.low, judged.high) == (figures.images, figures.low, figures.high)
    assert judged.repeated_rows == data.repeated


def test_one_image_of_two_classes_or_parts_stays_for_the_audit_and_of_two_groups_is_refused(
    tmp_path: Path,
) -> None:
    write_shapes(tmp_path / "images", count=12)
    table = tmp_path / "table.csv"
    rows = [
        f"images/{kind}/{n}.png,{kind},train,{n}" for kind in ("disc", "square") for n in range(12)
    ]
    rows += ["images/disc/0.png,square,train,0", "images/disc/1.png,disc,test,1"]
    table.write_text("\n".join(["path,label,split,group", *rows]))
    data = opsin.look_at(table)
    found = opsin.audit(data).counts()
    assert (len(data), data.repeated) == (26, 0)
    assert (found["conflicting-labels"], found["test-copies"]) == (2, 1)
    table.write_text("\n".join(["path,label,split,group", *rows, "images/disc/2.png,disc,train,7"]))
    with pytest.raises(SourceError, match=r"images/disc/2\.png is in two groups"):
        opsin.load(table)
