"""Shards, merged, are the bytes of one command."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import opsin
from opsin.commands.predict import answers_file
from opsin.commands.test_set_usage import count_looks
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.errors import RecipeError, StorageError
from tests.backbones.small_networks import network
from tests.conftest import Train, a_few, write_digits

Make = Callable[..., Path]
FORMS = [("predict", "csv"), ("predict", "jsonl"), ("predict", "parquet"), ("embed", "npz")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, digits: opsin.Dataset) -> Path:
    """Ten digits, one of them as good as none, in two folders with names that are hard to write."""
    folder, names = tmp_path_factory.mktemp("images"), ('a"b', "éins, zwei")
    write_digits(folder, digits, range(10), lambda row: names[row % 2])
    (folder / 'a"b' / "2.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def make(nearest_mean: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    backbone = tmp_path_factory.mktemp("backbone") / "small.onnx"
    backbone.write_bytes(network())

    def made(verb: str, out: Path, shard: str | None = None, source: Path = images) -> Path:
        if "parquet" in out.name:
            pytest.importorskip("pyarrow")
        if verb == "predict":
            return Path(opsin.classify(nearest_mean, source, out=out, shard=shard).out)
        options: dict[str, Any] = {"backbone": backbone, "prepare": "0..1", "shard": shard}
        return Path(opsin.embed(source, out=out, **options).out)

    return made


@pytest.mark.parametrize(("verb", "form"), a_few(FORMS, 2))
@given(data=st.data(), count=st.integers(1, 13))
@settings(max_examples=4)
def test_shards_made_in_any_order_are_the_file_of_one_command(
    tmp_path: Path, make: Make, verb: str, form: str, data: st.DataObject, count: int
) -> None:
    pq = pytest.importorskip("pyarrow.parquet") if form == "parquet" else None
    plain = tmp_path / f"plain/{verb}.{form}"
    if not plain.exists():
        plain.parent.mkdir(exist_ok=True)
        make(verb, plain)
    out = tmp_path / f"{count}" / plain.name
    shutil.rmtree(out.parent, ignore_errors=True)
    order = data.draw(st.permutations(range(1, count + 1)))
    files = [make(verb, out, f"{number}/{count}") for number in order]
    other = out.with_stem("joined")
    assert opsin.merge(out, out=other).out == other
    merged = opsin.merge(files[0])  # as a shell completes the name
    assert merged.out == out
    if pq is not None:
        tables = [pq.read_table(file) for file in (plain, out, other)]
        assert tables[0] == tables[1] == tables[2]
    else:
        assert plain.read_bytes() == out.read_bytes() == other.read_bytes()
    assert (merged.verb, merged.shards, merged.images) == (verb, count, 10)
    left = {path.name for path in out.parent.glob("[!.]*")} - {out.name, other.name}
    assert left == {file.name for file in files}


@pytest.fixture(scope="module", params=["csv", "npz"])
def made_once(
    request: pytest.FixtureRequest, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    out = tmp_path_factory.mktemp("shards") / f"out.{request.param}"
    verb = "predict" if request.param == "csv" else "embed"
    return [make(verb, out, f"{number}/3") for number in (1, 2, 3)]


@pytest.fixture
def shards(made_once: list[Path], tmp_path: Path) -> list[Path]:
    folder = shutil.copytree(made_once[0].parent, tmp_path / "shards")
    return [folder / shard.name for shard in made_once]


def whole(shard: Path) -> Path:
    return shard.with_name(f"out{Path(shard.stem).suffix}")


def verb_of(shard: Path) -> str:
    return "embed" if ".npz" in shard.name else "predict"


def test_what_is_missing_is_named_and_made_alone(shards: list[Path], make: Make) -> None:
    out, before = whole(shards[0]), [file.read_bytes() for file in shards]
    with closing(sqlite3.connect(shards[1])) as db, db:
        (content,) = db.execute("SELECT content FROM about").fetchone()
        killed = json.dumps({**json.loads(content), "sha256": None})
        db.execute("UPDATE about SET content = ?", (killed,))
    with pytest.raises(RecipeError, match="1 is missing or unfinished: 2/3"):
        opsin.merge(out)
    shards[0].rename(shards[0].with_name("elsewhere"))
    with pytest.raises(RecipeError, match="2 are missing or unfinished: 1/3, 2/3"):
        opsin.merge(out)
    assert not out.exists()
    shards[0].with_name("elsewhere").rename(shards[0])
    for number, file in enumerate(shards, start=1):
        assert make(verb_of(out), out, f"{number}/3") == file
    assert [file.read_bytes() for file in (shards[0], shards[2])] == [before[0], before[2]]
    assert opsin.merge(out).shards == 3


@pytest.mark.parametrize("how", ["a name", "empty", "no database", "cut"])
def test_a_shard_that_was_changed_is_refused(shards: list[Path], make: Make, how: str) -> None:
    content = shards[1].read_bytes()
    name = content.rindex(b".png")
    changed = {
        "a name": content[:name] + b",png" + content[name + 4 :],
        "empty": b"",
        "no database": b"{}",
        "cut": content[: len(content) // 2],
    }[how]
    shards[1].write_bytes(changed)
    with pytest.raises(StorageError, match="was changed since") as caught:
        opsin.merge(whole(shards[0]))
    assert not whole(shards[0]).exists()
    # What it advises works.
    assert caught.value.advice == f"Remove {shards[1].name}, and make it again."
    shards[1].unlink()
    make(verb_of(shards[1]), whole(shards[1]), "2/3")
    assert opsin.merge(whole(shards[0])).shards == 3


def test_shards_that_are_sound_are_never_called_changed(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = whole(shards[0])
    for error in (PermissionError(13, "Permission denied"), sqlite3.OperationalError("disk I/O")):

        def failing(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(answers_file, "open_database", failing)
            with pytest.raises(StorageError, match=r"^Cannot read .*sqlite: (permission|disk)"):
                opsin.merge(out)
    log = shards[1].with_name(f"{shards[1].name}-wal")
    log.write_bytes(b"")
    shards[1].write_bytes((content := shards[1].read_bytes())[:4096])  # killed in a checkpoint
    with pytest.raises(RecipeError, match="1 is missing or unfinished: 2/3"):
        opsin.merge(out)
    log.unlink()
    shards[1].unlink()
    elsewhere = out.parent.parent / "elsewhere"
    elsewhere.write_bytes(content)
    for link in (shards[1].symlink_to, shards[1].hardlink_to):
        link(elsewhere)
        with pytest.raises(RecipeError, match=r"sqlite is a link") as caught:
            opsin.merge(out)
        assert caught.value.advice == "Copy the shard itself here."
        shards[1].unlink()
    shards[1].write_bytes(content)
    assert opsin.merge(out).shards == 3


@pytest.mark.parametrize("top", [float("inf"), 10**40])
def test_a_strangers_numbers_are_refused_or_limited(
    tmp_path: Path, nearest_mean: Path, images: Path, top: float
) -> None:
    out = tmp_path / "a.csv"
    shard = opsin.classify(nearest_mean, images, out=out, shard="1/1").out
    with closing(sqlite3.connect(shard)) as db, db:
        (content,) = db.execute("SELECT content FROM about").fetchone()
        about = json.loads(content)
        about["begun"]["top"] = top
        db.execute("UPDATE about SET content = ?", (json.dumps(about),))
    if top == float("inf"):
        with pytest.raises(StorageError, match="was changed since"):
            opsin.merge(out)
    else:
        assert opsin.merge(out).rows == 10


def test_shards_of_other_images_are_refused(
    shards: list[Path], make: Make, images: Path, tmp_path: Path
) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(images, fewer)
    (fewer / 'a"b' / "8.png").unlink()
    verb, out = verb_of(shards[0]), whole(shards[0])
    other = make(verb, tmp_path / "other" / out.name, "2/3", fewer)
    own = shards[1].read_bytes()
    other.replace(shards[1])
    with pytest.raises(RecipeError, match="another list of images"):
        opsin.merge(out)
    shards[1].write_bytes(own)
    with pytest.raises(RecipeError, match="begun otherwise: the list of images"):
        make(verb, out, "2/3", fewer)


def test_shards_of_another_model_or_option_are_refused(
    tmp_path: Path, nearest_mean: Path, images: Path
) -> None:
    out = tmp_path / "a.csv"
    opsin.classify(nearest_mean, images, out=out, shard="1/2")
    opsin.classify(nearest_mean, images, out=out, top=2, shard="2/2")
    with pytest.raises(RecipeError, match="another top than"):
        opsin.merge(out)
    with pytest.raises(RecipeError, match="begun otherwise: top"):
        opsin.classify(nearest_mean, images, out=out, top=2, shard="1/2")


def test_places_that_cannot_be_are_refused(shards: list[Path], tmp_path: Path) -> None:
    out = whole(shards[0])
    with pytest.raises(RecipeError, match="does not end in"):
        opsin.merge(out, out=tmp_path / "out.txt")
    with pytest.raises(RecipeError, match="has no shards"):
        opsin.merge(tmp_path / "nothing.csv")
    out.write_bytes(b"mine")
    with pytest.raises(StorageError, match="is there already"):
        opsin.merge(out)
    assert out.read_bytes() == b"mine"


def test_the_shards_of_a_source_are_one_look_at_its_test_images(
    tmp_path: Path, train: Train, shapes: Path
) -> None:
    run = train(shapes, model="logistic")
    key = run.directory.read(DatasetRecord).test_set
    before = count_looks(run.directory, key)
    for number in (1, 2, 3):
        opsin.classify(run.path, shapes, out=tmp_path / "a.csv", shard=f"{number}/3")
    assert count_looks(run.directory, key) == before + 1
    opsin.classify(run.path, shapes, out=tmp_path / "b.csv")
    opsin.classify(run.path, shapes, out=tmp_path / "c.csv")
    assert count_looks(run.directory, key) == before + 3
