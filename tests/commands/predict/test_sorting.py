"""Sorted images have one place each, nothing is overwritten, and all of it can be undone."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.commands.predict.answers_file import Answer, AnswersFile
from opsin.commands.predict.rows import RowFormat
from opsin.commands.predict.sorting import SORTED, By, Placement, Sorter, copy_file, move_file
from opsin.core import database
from opsin.core.files import ConfinedDir
from opsin.data.image_stream import ListedImage
from tests.commands.predict.conftest import write_source
from tests.conftest import Notes

ANSWERS = ("Bag", "T-shirt/top", "none of these", "unreadable")
WAYS: tuple[By, ...] = ("copy", "move")


def contents(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.png")):
        found.setdefault(path.read_text(), []).append(path.relative_to(root).as_posix())
    return found


def answer_of(text: str) -> str:
    return ANSWERS[int(text.rsplit(maxsplit=1)[-1]) // 3 % 3]


def work(
    source: Path, folder: Path, by: By, *, batch: int = 3, **begun: Any
) -> tuple[Sorter, Notes]:
    """Sort as `classify` does; the answer is in the file."""
    out, notes = folder / "results.jsonl", Notes()
    with (
        AnswersFile(folder / SORTED, out, {"source": str(source), **begun}) as answers,
        closing(Sorter(folder, by, ANSWERS, answers, notes)) as sorter,
    ):
        new = [
            path
            for path in sorted(source.rglob("*.png"))
            if answers.claim(path.relative_to(source).as_posix())
        ]
        for start in range(0, len(new), batch):
            images, entries = [], []
            for path in new[start : start + batch]:
                name, content = path.relative_to(source).as_posix(), path.read_bytes()
                images.append((ListedImage(name, str(path)), answer_of(content.decode())))
                entries.append(Answer(name, 0, json.dumps(name).encode()))
            sorter.place(images, entries)
        answers.finish(RowFormat(out, 1).write)
    return sorter, notes


def in_a_child(job: Callable[[], int]) -> int:
    """Do a job in a fork, whose exit status is what it returns, or 1."""
    child = os.fork()
    if child == 0:
        # What other tests left, such as a session of ONNX Runtime, would wait for threads at its
        # end that there are none of here.
        gc.disable()
        status = 1
        try:
            status = job()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


CHANGES = ["os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"]


def killed_at(step: int, job: Callable[[], object]) -> bool:
    """Do a job in a child that dies at that change of the disk; tell whether it did."""

    def counted() -> int:
        left = step

        def count() -> None:
            nonlocal left
            left -= 1
            if not left:
                os._exit(42)

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CHANGES or (event == "open" and "r" not in str(arguments[1])):
                count()

        fsync, connect = os.fsync, database._connect

        def counted_fsync(number: int) -> None:
            count()
            fsync(number)

        def traced(path: Path, how: str) -> sqlite3.Connection:
            db = connect(path, how)
            db.set_trace_callback(lambda _: count())
            return db

        os.fsync, database._connect = counted_fsync, traced  # type: ignore[assignment]
        sys.addaudithook(on_event)
        job()
        return 0

    status = in_a_child(counted)
    assert status in (0, 42)
    return status == 42


def on_a_full_disk(job: Callable[[], object], limit: int = 6 * 4096) -> None:
    """Do a job in a child that can write only small files, and must say so."""

    def limited() -> int:
        connect = database._connect

        def checkpointed(path: Path, how: str) -> sqlite3.Connection:
            db = connect(path, how)
            db.execute("PRAGMA wal_autocheckpoint = 1")
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return db

        database._connect = checkpointed
        try:
            job()
        except opsin.StorageError as error:
            return int("or a quota is reached" not in str(error))
        return 1

    assert in_a_child(limited) == 0


def is_torn(file: Path) -> bool:
    """Whether a database is shorter than it says."""
    content = file.read_bytes()
    return len(content) + 4095 < 4096 * int.from_bytes(content[28:32], "big")


def check_sorted(source: Path, folder: Path, before: dict[str, list[str]], by: str) -> None:
    """Every image is in the folder of its answer, once; its row is there, once."""
    placed = contents(folder)
    assert {text: len(names) for text, names in placed.items()} == dict.fromkeys(before, 1)
    legal = {"T-shirt/top": "T-shirt-top"}
    for text, [name] in placed.items():
        answer = answer_of(text)
        assert name.split("/")[0] == legal.get(answer, answer)
    rows = (folder / "results.jsonl").read_text().splitlines()
    assert sorted(map(json.loads, rows)) == sorted(
        name for names in before.values() for name in names
    )
    assert contents(source) == ({} if by == "move" else before)
    assert not (folder / ".sorting").exists()


@pytest.mark.parametrize(
    ("by", "stride"),
    [
        ("move", 9),
        pytest.param("move", 1, marks=pytest.mark.slow),
        pytest.param("copy", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_step_each_image_is_placed_once(tmp_path: Path, by: Any, stride: int) -> None:
    step, killed = 1 - stride, True
    while killed:
        step += stride
        root = tmp_path / str(step)
        source, folder = write_source(root / "source", 3), root / "sorted"
        before = contents(source)
        killed = killed_at(step, lambda: work(source, folder, by, batch=2))  # noqa: B023
        work(source, folder, by)
        check_sorted(source, folder, before, by)
    assert step > 20


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("go_on", [True, False])
def test_what_a_full_disk_left_is_gone_on_from_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: By, go_on: bool
) -> None:
    # Without what other tests sorted, whose record would be a large file.
    monkeypatch.setenv("OPSIN_STATE", str(tmp_path / "state"))
    source, folder = write_source(tmp_path / "source", 90), tmp_path / "sorted"
    before = contents(source)
    on_a_full_disk(lambda: work(source, folder, by))
    assert is_torn(folder / SORTED)
    assert 0 < len(contents(folder)) < 90
    if go_on:
        work(source, folder, by)
        check_sorted(source, folder, before, by)
        on_a_full_disk(lambda: opsin.undo(folder), limit=4000)
    assert opsin.undo(folder).left == ()
    assert (contents(source), folder.exists()) == (before, False)


@pytest.mark.slow
def test_a_copy_whose_original_went_after_a_kill_is_kept(tmp_path: Path) -> None:
    for step in range(20, 120):
        root = tmp_path / str(step)
        source, folder = write_source(root / "source", 2), root / "sorted"
        killed_at(step, lambda: work(source, folder, "copy"))  # noqa: B023
        if len(contents(folder)) == 2:  # made, and not done yet
            break
    assert not (folder / "results.jsonl").exists()
    (source / "0" / "0.png").unlink()
    work(source, folder, "copy")
    assert set(contents(folder)) == {"image 0", "image 1"}
    done = opsin.undo(folder)
    assert (done.removed, contents(folder)) == (1, {"image 0": ["Bag/0.png"]})


def test_nothing_is_overwritten(source: Path, folder: Path) -> None:
    (folder / "Bag").mkdir(parents=True)
    (folder / "Bag" / "0.png").write_text("mine")
    sorter, notes = work(source, folder, "copy", batch=1)
    assert (sorter.placed, sorter.unplaced, notes.notes) == (5, 0, [])
    found = contents(folder)
    assert found["mine"] == ["Bag/0.png"]
    assert found["image 0"] == ["Bag/0-2.png"]
    done = opsin.undo(folder)
    assert (done.removed, done.left) == (5, ())
    assert contents(folder) == {"mine": ["Bag/0.png"]}


def test_additions_are_placed_and_the_rest_is_left(source: Path, folder: Path) -> None:
    work(source, folder, "copy")
    moved = folder / "none of these" / "corrected.png"  # the user sorts a mistake by hand
    moved.parent.mkdir(exist_ok=True)
    (folder / "Bag" / "0.png").rename(moved)
    (source / "new.png").write_text("image 8")
    before = contents(folder)
    sorter, _ = work(source, folder, "copy")
    assert sorter.placed == 1
    assert contents(folder) == before | {"image 8": ["none of these/new.png"]}


def test_a_folder_of_another_command_is_refused(tmp_path: Path, source: Path, folder: Path) -> None:
    work(source, folder, "copy")
    with pytest.raises(opsin.RecipeError, match="top was None and is 5"):
        work(source, folder, "copy", top=5)
    (folder / "results.jsonl").unlink()  # the moves are kept, so it is written again
    assert work(source, folder, "copy")[0].placed == 0
    (folder / SORTED).rename(tmp_path / SORTED)
    with pytest.raises(opsin.RecipeError, match="sorted nothing into"):
        opsin.undo(folder)
    (folder / SORTED).write_text("no database")
    with pytest.raises(opsin.RecipeError, match="it is unknown which images are done"):
        opsin.undo(folder)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_the_place_of_a_folder_is_refused_before_the_work(
    tmp_path: Path, source: Path, folder: Path, kind: str
) -> None:
    folder.mkdir()
    (folder / "Bag").write_text("mine") if kind == "file" else (folder / "Bag").symlink_to(tmp_path)
    with pytest.raises(opsin.RecipeError, match="Bag is a link or a file"):
        work(source, folder, "copy")
    assert not contents(folder)
    (folder / "Bag").unlink()
    assert work(source, folder, "copy")[0].placed == 5


def test_what_cannot_be_placed_is_told_and_the_rest_goes_on(
    tmp_path: Path, source: Path, folder: Path
) -> None:
    (tmp_path / "elsewhere").write_text("image 7")
    (source / "alias.png").symlink_to(tmp_path / "elsewhere")
    sorter, notes = work(source, folder, "move")
    assert (sorter.placed, sorter.unplaced) == (5, 1)
    assert "alias.png was not placed: is a symbolic link" in notes.notes[0]
    assert (source / "alias.png").is_symlink()


def test_across_file_systems(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    away = other / f"opsin-test-{os.getpid()}"
    try:
        source = write_source(away / "source")
        before = contents(source)
        folder = tmp_path / "sorted"
        work(source, folder, "move")
        check_sorted(source, folder, before, "move")
        times = {path.read_text(): path.stat().st_mtime for path in folder.rglob("*.png")}
        assert times["image 3"] == 1_000_003
        assert opsin.undo(folder).moved_back == 5
        assert contents(source) == before
    finally:
        shutil.rmtree(away, ignore_errors=True)


def test_a_move_without_hard_links_still_replaces_nothing(
    tmp_path: Path, source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on FAT, which this machine has none of."""

    def link(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    one, other = tmp_path / "1.png", tmp_path / "2.png"
    with ConfinedDir(tmp_path) as own:
        places = Placement(own, "1.png"), Placement(own, "2.png"), Placement(own, "scratch")
        one.write_text("one")
        move_file(*places)
        assert (other.read_text(), one.exists()) == ("one", False)
        one.write_text("new")
        with pytest.raises(FileExistsError):
            move_file(*places)
    assert (one.read_text(), other.read_text()) == ("new", "one")
    before = contents(source)
    work(source, folder, "copy")
    check_sorted(source, folder, before, "copy")


def test_a_scratch_file_that_is_an_image_already_is_not_written_into(tmp_path: Path) -> None:
    """As it is where the process was killed between a copy's two names."""
    one, two, scratch = tmp_path / "1.png", tmp_path / "2.png", tmp_path / ".sorting"
    one.write_text("one")
    os.link(one, scratch)
    source = write_source(tmp_path / "source", 1) / "0" / "0.png"
    with ConfinedDir(tmp_path) as own, source.open("rb") as content:
        copy_file(content, Placement(own, "2.png"), Placement(own, ".sorting"))
    assert (one.read_text(), two.read_text(), scratch.exists()) == ("one", "image 0", False)
