"""An evaluation in shards: what is measured is what one command would have measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands import labelled_shard
from opsin.commands.test_set_usage import count_looks
from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.errors import RecipeError, SourceError, StorageError
from tests.conftest import Notes, write_shapes


@pytest.fixture
def run(tmp_path: Path, shapes: Path) -> opsin.Run:
    return opsin.train(shapes, model="logistic", runs=tmp_path / "runs", quiet=True)


def shards(model: Path, source: Path, out: Path, count: int) -> list[Path]:
    return [
        Path(opsin.evaluate_shard(model, source, out=out, shard=f"{number}/{count}").out)
        for number in range(1, count + 1)
    ]


def figures_in(file: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(file.read_text())
    return found


def near_copies(shapes: Path, folder: Path) -> Path:
    """Images of the run, a little darker, and some that it has not seen."""
    write_shapes(folder, count=20)
    for file in sorted(shapes.rglob("*.png"))[::3]:
        pixels = np.asarray(Image.open(file)).astype(np.float64) * 0.97
        copy = folder / file.relative_to(shapes).with_stem(f"{file.stem}-darker")
        Image.fromarray(pixels.astype(np.uint8)).save(copy)
    return folder


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_run_knows_of_the_images_is_known_of_shards(
    run: opsin.Run, shapes: Path, tmp_path: Path, count: int
) -> None:
    source = near_copies(shapes, tmp_path / "near")
    opsin.evaluate(run.path, source, out=tmp_path / "plain.json")
    out = tmp_path / "figures.json"
    shards(run.path, source, out, count)
    opsin.merge(out)
    plain, merged = figures_in(tmp_path / "plain.json"), figures_in(out)
    assert plain["seen_nearly"] and plain["own_test"]
    assert merged.pop("looks") == plain.pop("looks") + 1  # type: ignore[operator]
    assert merged == plain


def test_the_shards_of_an_evaluation_are_one_look(
    run: opsin.Run, shapes: Path, tmp_path: Path
) -> None:
    key = run.directory.read(DatasetRecord).test_set
    before = count_looks(run.directory, key)
    out = tmp_path / "figures.json"
    shards(run.path, shapes, out, 3)
    opsin.merge(out)
    assert count_looks(run.directory, key) == before + 1
    out.unlink()
    opsin.merge(out)
    assert count_looks(run.directory, key) == before + 1 == figures_in(out)["looks"]
    assert opsin.evaluate(run.path, shapes, out=tmp_path / "plain.json").looks == before + 2
    plain = figures_in(tmp_path / "plain.json")
    assert plain | {"looks": before + 1} == figures_in(out)


@pytest.mark.torch
def test_answers_of_a_network_do_not_depend_on_the_shard(
    run_of_network: Path, shapes: Path, tmp_path: Path
) -> None:
    opsin.evaluate(run_of_network, shapes, tta=True, out=tmp_path / "plain.json")
    out = tmp_path / "figures.json"
    for number in range(1, 6):
        opsin.evaluate_shard(run_of_network, shapes, tta=True, out=out, shard=f"{number}/5")
    opsin.merge(out)
    plain = figures_in(tmp_path / "plain.json")
    assert figures_in(out) == plain | {"looks": figures_in(out)["looks"]}


@pytest.fixture
def run_of_network(tmp_path: Path, shapes: Path) -> Path:
    return opsin.train(shapes, model="cnn", epochs=1, runs=tmp_path / "runs", quiet=True).path


def test_a_shard_that_was_stopped_goes_on(
    nearest_mean: Path, tmp_path: Path, digits: opsin.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "digits.npz"
    np.savez(source, images=digits.images[:200, :, :, 0], labels=digits.labels[:200],
             classes=np.array(digits.classes))  # fmt: skip
    out, asked = tmp_path / "figures.json", 0
    real = opsin.Classifier.iter_answers

    def stopped(self: opsin.Classifier, *args: object, **given: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise MemoryError
        return real(self, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(opsin.Classifier, "iter_answers", stopped)
    monkeypatch.setattr("opsin.data.decode._SAVED_EVERY", -1.0)
    monkeypatch.setattr("opsin.data.decode.THREADS", 1)
    with pytest.raises(MemoryError):
        opsin.evaluate_shard(nearest_mean, source, out=out, shard="1/1")
    assert not list(tmp_path.glob("figures*"))
    # Of seven batches; the thread may have begun more of them before it was stopped.
    before, notes = asked, Notes()
    opsin.evaluate_shard(nearest_mean, source, out=out, shard="1/1", watcher=notes)
    assert any("were read before" in note for note in notes.notes)
    assert asked - before < 7
    opsin.evaluate(nearest_mean, source, out=tmp_path / "plain.json")
    opsin.merge(out)
    assert out.read_bytes() == (tmp_path / "plain.json").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_no_shard_can_do_is_refused(
    run: opsin.Run, shapes: Path, tmp_path: Path, nearest_mean: Path
) -> None:
    out = tmp_path / "figures.json"
    with pytest.raises(RecipeError, match="a shard from 1/3 to 3/3"):
        opsin.evaluate_shard(run.path, shapes, out=out, shard="4/3")
    with pytest.raises(RecipeError, match=r"ends in \.json"):
        opsin.evaluate_shard(run.path, shapes, out=tmp_path / "figures.csv", shard="1/3")
    with pytest.raises(RecipeError, match="got corrections"):
        opsin.evaluate_shard(run.path, shapes, out=out, shard="1/3", labels="labels.csv")
    with pytest.raises(SourceError, match="also has"):
        opsin.evaluate_shard(nearest_mean, shapes, out=out, shard="1/3")
    opsin.evaluate_shard(run.path, shapes, out=out, shard="1/2")
    with pytest.raises(RecipeError, match="other than then: tta"):
        opsin.evaluate_shard(run.path, shapes, out=out, shard="1/2", tta=True)
    other = opsin.evaluate_shard(run.path, shapes, out=tmp_path / "o.json", shard="2/2", tta=True)
    with pytest.raises(RecipeError, match="another tta than"):
        opsin.merge([tmp_path / "figures-00001-of-00002.npz", other.out])
    out.write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        opsin.evaluate(run.path, shapes, out=out)


def test_the_classifier_is_needed_to_measure(run: opsin.Run, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    shards(run.path, shapes, out, 2)
    away = tmp_path / "away"
    shutil.move(run.path, away)
    with pytest.raises(RecipeError, match="it is not at"):
        opsin.merge(out)
    shutil.move(away, run.path)
    assert opsin.merge(out).verb == "evaluate"


def test_too_many_unreadable_files_are_said_of_the_whole(
    nearest_mean: Path, tmp_path: Path, digits: opsin.Dataset
) -> None:
    source, out = tmp_path / "source", tmp_path / "figures.json"
    for number in range(6):
        path = source / str(int(digits.labels[number])) / f"{number}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no image")
    shards(nearest_mean, source, out, 2)
    with pytest.raises(SourceError, match="none of the 6 can"):
        opsin.merge(out)
    for number in (0, 1):
        path = source / str(int(digits.labels[number])) / f"{number}.png"
        Image.fromarray(digits.images[number, :, :, 0]).save(path)
    for file in tmp_path.glob("figures-*"):
        file.unlink()
    shards(nearest_mean, source, out, 2)
    with pytest.raises(SourceError, match="4 of 6 are"):
        opsin.merge(out)


def test_what_another_option_left_is_removed(nearest_mean: Path, tmp_path: Path) -> None:
    left = tmp_path / ".figures-00001-of-00002.npz.0123456789abcdef.rows"
    left.mkdir()
    made = opsin.evaluate_shard(nearest_mean, "digits", out=tmp_path / "figures.json", shard="1/2")
    assert isinstance(made, labelled_shard.MadeShard)
    assert (made.shard, made.images, made.unreadable) == ("1/2", 898, 0)
    assert not left.exists()
