"""`classify` answers each image once, keeps what it is told to, and goes on where it was."""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from tests.conftest import Notes, write_digits
from tests.made_classifier import write_refusing

Answer = Callable[..., opsin.Classified]


@pytest.fixture
def images(tmp_path: Path, digits: opsin.Dataset) -> Path:
    folder = write_digits(tmp_path / "images", digits, range(20), lambda _: "")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def answer(nearest_mean: Path, images: Path) -> Answer:
    return functools.partial(opsin.classify, nearest_mean, images)


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_each_image_is_a_row_and_answered_once(
    tmp_path: Path, nearest_mean: Path, images: Path, answer: Answer, digits: opsin.Dataset
) -> None:
    out, watch = tmp_path / "answers.jsonl", Notes()
    done = answer(out=out, top=3, watcher=watch)
    found = {row["image"]: row for row in rows(out)}
    assert len(found) == 21
    classifier = opsin.Classifier(nearest_mean, threads=1)
    for number in range(20):
        wanted = classifier.predict(images / f"{number}.png")
        row = found[f"{number}.png"]
        assert (row["answer"], row["error"], row["ood_score"]) == (wanted.label, None, None)
        assert [(best["label"], np.float32(best["probability"])) for best in row["top"]] == [
            (label, np.float32(share)) for label, share in wanted.top(3)
        ]
    assert found["broken.png"]["error"] == "no image of a known format"
    assert found["broken.png"]["answer"] is None
    assert watch.done[-1] == 21
    assert (done.images, done.answered, done.unreadable, done.refused) == (21, 20, 1, 0)
    assert (done.resumed, done.left_out, sum(done.answers.values())) == (0, 0, 21)

    before = out.read_bytes()
    write_digits(images, digits, range(20, 25), lambda _: "")
    watch = Notes()
    again = answer(out=out, top=3, watcher=watch)
    assert (again.resumed, again.images, again.unreadable) == (21, 26, 1)
    assert watch.facts["Resumed"] == "21 images were done before"
    assert out.read_bytes()[: len(before)] == before
    assert [row["image"] for row in rows(out)[21:]] == [f"{number}.png" for number in range(20, 25)]


def test_ctrl_c_keeps_what_is_done(
    tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsin.commands.predict.stream._BATCH", 8)
    whole, out = tmp_path / "whole.csv", tmp_path / "answers.csv"
    answer(out=whole)
    watch = Notes(interrupt_at=1)
    with pytest.raises(KeyboardInterrupt):
        answer(out=out, watcher=watch)
    assert watch.notes[-1] == "8 images are done and kept; the same command goes on there"
    assert answer(out=out).resumed == 8
    assert out.read_bytes() == whole.read_bytes()


def test_only_sure_answers_are_kept(tmp_path: Path, answer: Answer) -> None:
    every, some = tmp_path / "every.jsonl", tmp_path / "some.jsonl"
    answer(out=every)
    least = sorted(row["confidence"] for row in rows(every) if row["label"])[10]
    wanted = [row["image"] for row in rows(every) if not row["label"] or row["confidence"] >= least]
    assert len(wanted) == 11
    done = answer(out=some, min_confidence=least)
    assert [row["image"] for row in rows(some)] == wanted
    assert (done.images, done.left_out) == (21, 21 - len(wanted))
    again = answer(out=some, min_confidence=least)
    assert (again.resumed, again.left_out) == (21, done.left_out)
    with pytest.raises(opsin.RecipeError, match=f"min_confidence was {least} and is 0.0") as caught:
        answer(out=some)
    assert "top" not in caught.value.message


def test_strange_images_are_refused_or_not(
    tmp_path: Path, nearest_mean: Path, images: Path
) -> None:
    model = write_refusing(tmp_path / "refuses.onnx", nearest_mean, most=0.6)
    done = opsin.classify(model, images, out=tmp_path / "r.jsonl")
    strange = [row for row in rows(tmp_path / "r.jsonl") if row["rejected"]]
    assert 0 < len(strange) == done.refused == done.answers["none of these"] < 20
    assert {row["answer"] for row in strange} == {"none of these"}
    assert all(row["ood_score"] > 0.6 for row in strange)
    anyway = opsin.classify(model, images, out=tmp_path / "a.jsonl", reject=False)
    assert (anyway.refused, anyway.answered) == (0, 20)


@pytest.mark.parametrize("by", ["copy", "move"])
def test_images_are_sorted_and_taken_back(
    tmp_path: Path, answer: Answer, images: Path, by: str, digits: opsin.Dataset
) -> None:
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    folder = tmp_path / "sorted"
    done = answer(sort_into=folder, sort_by=by)
    assert (done.out, done.placed, done.unplaced) == (folder / "results.jsonl", 20, 0)
    for row in rows(done.out):
        place = folder / str(row["answer"]) / row["image"]
        assert place.exists() == (row["error"] is None)
    assert (images / "broken.png").exists()  # it has no class, and may be repaired
    assert len(list(images.iterdir())) == (1 if by == "move" else 21)
    if by == "move":
        (images / "broken.png").unlink()
    again = answer(sort_into=folder, sort_by=by)
    assert (again.resumed, again.placed) == (21, 0)
    (images / "broken.png").write_bytes(before["broken.png"])
    write_digits(images, digits, range(30, 31), lambda _: "")
    assert answer(sort_into=folder, sort_by=by).placed == 1
    (images / "30.png").unlink(missing_ok=True)
    back = opsin.undo(folder)
    if by == "move":
        (images / "30.png").unlink()
        assert back.moved_back == 21
        assert not folder.exists()
    else:  # the copy of the image that is gone may be the only one
        assert (back.removed, back.left_count) == (20, 1)
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_sorted_images_are_not_found_again(
    tmp_path: Path, nearest_mean: Path, images: Path, answer: Answer
) -> None:
    folder, names, watch = tmp_path / "sorted", tmp_path / "names.csv", Notes()
    (images / "back").symlink_to(folder)
    done = answer(sort_into=folder, follow_links=True)
    again = answer(sort_into=folder, follow_links=True, watcher=watch)
    assert (done.images, again.images, again.placed) == (21, 21, 0)
    assert f"20 images lie in {folder}, where sorted ones go; passed over" in watch.notes
    other = tmp_path / "other"
    names.write_text("path\n" + "".join(f"{path}\n" for path in sorted(images.glob("*.png"))))
    assert opsin.classify(nearest_mean, names, sort_into=other, outside=True).placed == 20
    with names.open("a") as table:
        table.write("".join(f"{path}\n" for path in other.glob("*/*.png")))
    assert opsin.classify(nearest_mean, names, sort_into=other, outside=True).images == 21


def test_names_that_are_no_unicode_go_all_the_way(
    tmp_path: Path, images: Path, answer: Answer
) -> None:
    name = os.fsdecode(b"caf\xe9 \n1.png")
    shutil.copy(images / "1.png", images / name)
    out = tmp_path / "r.csv"
    answer(out=out, sort_into=tmp_path / "sorted")
    assert os.fsencode(name) in out.read_bytes()
    assert len(list((tmp_path / "sorted").rglob(name))) == 1
    assert opsin.undo(tmp_path / "sorted").removed == 21


def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, nearest_mean: Path, images: Path, answer: Answer
) -> None:
    def refused(told: str, **options: Any) -> None:
        with pytest.raises(opsin.RecipeError, match=told):
            answer(**options)

    out = tmp_path / "below" / "r.jsonl"
    refused("neither a file for the answers")
    refused(r"\.jsonl, \.csv, \.parquet", out=tmp_path / "a.json")
    refused("copy", out=out, sort_by="steal")
    refused("no folder to move", out=out, sort_by="move")
    refused("at least 1", out=out, top=0)
    refused("must be 0 to 1", out=out, min_confidence=2)
    for folder in (images, images / "below", tmp_path):
        refused("lie in one another", sort_into=folder)
    with zipfile.ZipFile(images / "a.zip", "w") as file:
        file.write(images / "1.png")
    for source in (images / "a.zip", [images / "1.png", images / "a.zip"]):
        with pytest.raises(opsin.RecipeError, match="is one file"):
            opsin.classify(nearest_mean, source, sort_into=tmp_path / "sorted")
    (images / "a.zip").unlink()
    with pytest.raises(opsin.SourceError):
        opsin.classify(nearest_mean, tmp_path / "nowhere", out=out)
    assert {path.name for path in tmp_path.iterdir()} == {"images"}
    assert len(list(images.iterdir())) == 21


def test_other_models_and_sources_do_not_mix(
    tmp_path: Path, nearest_mean: Path, images: Path, answer: Answer
) -> None:
    out = tmp_path / "r.jsonl"
    answer(out=out)
    other = write_refusing(tmp_path / "other.onnx", nearest_mean)
    with pytest.raises(opsin.RecipeError, match=r"the classifier was .* and is"):
        opsin.classify(other, images, out=out)
    moved = images.rename(tmp_path / "moved")
    with pytest.raises(opsin.RecipeError, match=r"the source was .*images and is .*moved"):
        opsin.classify(nearest_mean, moved, out=out)
    copied = shutil.copy(nearest_mean, tmp_path / "copied.onnx")
    moved.rename(images)
    assert opsin.classify(copied, images, out=out).resumed == 21  # the same file by another name


@pytest.mark.parametrize("limit", [2_000, 25_000, 33_000])
def test_a_full_disk_is_told_and_gone_on_from(
    tmp_path: Path, nearest_mean: Path, images: Path, answer: Answer, limit: int
) -> None:
    script = (
        "import sys; from opsin.core.errors import StorageError\n"
        "from opsin.commands.predict import predict, stream; stream._BATCH = 4\n"
        "try: predict.classify(sys.argv[1], sys.argv[2], out=sys.argv[3])\n"
        "except StorageError as error: print(error)"
    )

    whole, out = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
    answer(out=whole)
    command = [sys.executable, "-W", "error", "-c", script, *map(str, (nearest_mean, images, out))]
    small = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    told = subprocess.run(command, preexec_fn=small, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"Cannot write {out}: ")
    done = answer(out=out)
    assert done.resumed < 21
    assert out.read_bytes() == whole.read_bytes()


def test_answers_one_by_one_need_no_file(tmp_path: Path, nearest_mean: Path, images: Path) -> None:
    answers = list(opsin.predict_each(nearest_mean, images))
    assert sum(isinstance(answer, opsin.Prediction) for answer in answers) == 20
    assert sum(isinstance(answer, opsin.ImageError) for answer in answers) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    (tmp_path / "twice.csv").write_text("path\n" + 2 * "images/1.png\nimages/2.png\n")
    done = opsin.classify(nearest_mean, tmp_path / "twice.csv", out=tmp_path / "r.csv")
    assert done.images == 2  # a table may name an image twice; it is one row
    with pytest.raises(opsin.SourceError, match="no source"):
        opsin.classify(nearest_mean, [], out=tmp_path / "n.jsonl")
