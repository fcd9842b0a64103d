"""A run keeps its own images, rows and parts, whatever their names and however Opsin cuts now."""

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import opsin
from opsin.commands.known_images import known_images
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.run_images import pair_up, read_images, rows_of_run, write_images
from opsin.data.split import Split, make_split
from tests.made_runs import answers_right, write_run


@pytest.fixture
def another_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut splits otherwise from here on, as a later Opsin may."""

    def cut(subjects: Any, recipe: Any) -> Split:
        return make_split(subjects, recipe.model_copy(update={"split_seed": 7}))

    monkeypatch.setattr("opsin.data.dataset.make_split", cut)


@pytest.mark.torch
def test_a_stopped_run_keeps_its_parts(stopped: opsin.Run, request: pytest.FixtureRequest) -> None:
    kept = stopped.directory.load_arrays(stopped.directory.split)
    request.getfixturevalue("another_rule")
    assert not np.array_equal(opsin.load("digits").split.test, kept["test"])
    again = opsin.resume(stopped, quiet=True)
    answers = again.directory.load_arrays(again.directory.predictions)
    assert np.array_equal(answers["test_rows"], kept["test"])
    known = known_images(opsin.Classifier(again.path))
    assert np.array_equal(known.train, kept["train"])
    assert np.array_equal(known.test, kept["test"])


def doubles() -> opsin.Dataset:
    """Twenty images of two classes, each there twice; one of each class under both labels."""
    pixels = np.arange(20, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    labels = np.tile(np.arange(20) % 2, 2)
    labels[20], labels[21] = 1, 0
    return opsin.from_arrays(np.tile(pixels, (2, 1, 1)), labels, ["cat", "dog"])


def test_copies_are_matched_one_to_one_by_their_class_and_others_not(tmp_path: Path) -> None:
    data = doubles()
    directory = RunDirectory(write_run(tmp_path, "run", data, answers_right(data, 0.9)))
    order = np.random.default_rng(0).permutation(len(data))
    other = replace(
        data,
        images=np.asarray(data.images)[order],
        labels=data.labels[order],
        digests=data.digests[order],
        names=[f"other/{place}" for place in range(len(order))],
        split=Split(*(np.zeros(0, np.int64),) * 3),
    )
    place = rows_of_run(directory, other)
    assert place is not None
    assert sorted(place.tolist()) == list(range(len(data)))
    assert np.array_equal(other.digests[place], data.digests)
    assert np.array_equal(other.labels[place], data.labels)
    assert rows_of_run(directory, replace(data, labels=1 - data.labels)) is None
    assert rows_of_run(directory, replace(data, digests=data.digests + 1)) is None


@given(st.lists(st.sampled_from(("a1", "a2", "b1"))), st.lists(st.sampled_from(("a1", "a2", "b2"))))
def test_as_many_are_paired_as_can_be_and_each_once(then: list[str], now: list[str]) -> None:
    pairs = pair_up(then, now, (str, lambda text: text[0]))
    assert max(Counter(one for one, _ in pairs).values(), default=1) == 1
    assert max(Counter(other for _, other in pairs).values(), default=1) == 1
    assert all(then[one][0] == now[other][0] for one, other in pairs)
    first = Counter(text[0] for text in then) & Counter(text[0] for text in now)
    assert len(pairs) == first.total()
    whole = [one for one, other in pairs if then[one] == now[other]]
    assert len(whole) == (Counter(then) & Counter(now)).total()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_the_table_of_images(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [b'"a, b".png', b"caf\xe9.png", b"two\nlines\r.png", "円.png".encode()]
    for number, name in enumerate(odd):
        (shapes / "disc" / f"{number}.png").rename(shapes / "disc" / os.fsdecode(name))
    data, run = opsin.load(shapes), RunDirectory(tmp_path / "run")
    write_images(run, data)
    content = run.images.read_bytes()
    assert content.startswith(b"name,label,part,digest\r\n")
    assert b"disc/caf\xe9.png" in content
    assert [image.name for image in read_images(run)] == data.names
    for damaged in (
        b"",
        content[:-20],
        content.replace(b"digest", b"hash", 1),
        content + b"a,b\n",
        b'name,label,part,digest\r\n"',
    ):
        run.images.write_bytes(damaged)
        with pytest.raises(opsin.RunError, match=r"pictures\.csv is damaged"):
            read_images(run)
    run.images.unlink()
    with pytest.raises(opsin.RunError, match=r"has no pictures\.csv"):
        read_images(run)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(opsin.StorageError, match="no space left"):
        write_images(run, data)
    assert not list(run.path.iterdir())
