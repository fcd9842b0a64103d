"""Labels survive kills, are undone and shared; a stranger's file is refused."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given, strategies as st

from opsin.core.database import write_database
from opsin.core.errors import RecipeError
from opsin.labelling import label_file
from opsin.labelling.label_file import FOLDERS, LabelFile


def image(number: int) -> bytes:
    return number.to_bytes(32)


def said(file: LabelFile) -> dict[int, str | None]:
    return {
        int.from_bytes(key): label.label if label.answer == "label" else label.answer
        for key, label in file.now().items()
    }


@given(
    steps=st.lists(
        st.dictionaries(
            st.integers(0, 5), st.sampled_from(["a", "b", None]), min_size=1, max_size=4
        ),
        max_size=8,
    )
)
def test_undo_takes_back_each_step_in_turn(
    steps: list[dict[int, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = LabelFile(tmp_path_factory.mktemp("labels") / "labels.sqlite", ["a", "b"])
    states = [said(file)]
    for step in steps:
        file.put(
            (image(number), str(number), "label" if label else "none", label)
            for number, label in step.items()
        )
        states.append(said(file))
    for step, before in zip(reversed(steps), reversed(states[:-1]), strict=True):
        assert file.undo() == len(step)
        assert said(file) == before
    assert file.undo() == 0
    file.close()


def test_each_undoes_their_own(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    ada, bob = LabelFile(path, ["x"]), LabelFile(path)
    ada.put([(image(1), "1", "label", "x")], who="ada")
    bob.put([(image(2), "2", "unclear", None)], who="bob")
    assert bob.classes == ["x"]
    assert ada.undo("ada") == 1
    assert said(bob) == {2: "unclear"}
    assert bob.undo("ada") == 0
    ada.put([(image(1), "1", "label", "x"), (image(3), "3", "label", "x")], who="ada")
    bob.put([(image(1), "1", "none", None)], who="bob")
    assert ada.undo("ada") == 1  # what somebody else has answered since stays
    assert said(bob) == {1: "none", 2: "unclear"}
    assert bob.undo("bob") == 1  # and what was taken back comes not again
    assert said(bob) == {2: "unclear"}


def test_what_stood_before_stands_again_with_its_mark(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "labels.sqlite", ["x", "y"])
    file.put([(image(1), "1", "label", "x")], how=FOLDERS)
    file.put([(image(2), "2", "label", "x")], how="random")
    marks = {image(1): FOLDERS, image(2): "group", image(3): "group"}
    file.put([(image(number), str(number), "label", "y") for number in (1, 2, 3)], how=marks)
    assert file.undo() == 3
    assert {label.name: label.how for label in file.now().values()} == {"1": FOLDERS, "2": "random"}
    file.close()


def test_what_others_have_answered_since_hides_no_earlier_step(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "labels.sqlite", ["x"])
    for who, number in (("ada", 1), ("ada", 2), ("bob", 2)):
        file.put([(image(number), str(number), "label", "x")], who=who)
    assert [file.undo("ada"), file.undo("ada"), file.undo("ada")] == [0, 1, 0]
    assert said(file) == {2: "x"}
    assert file.undo("bob") == 1
    assert said(file) == {}
    file.close()


def test_names_of_classes_in_any_script_once(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "labels.sqlite", ["Metall", "紙", "Straße"])
    assert file.add_class("metall") == "Metall"
    assert file.add_class("STRASSE") == "Straße"
    assert file.add_class("  Glas ") == "Glas"
    assert file.classes == ["Metall", "紙", "Straße", "Glas"]
    for name in ("", "  ", "a\nb", "x" * 300):
        with pytest.raises(RecipeError):
            file.add_class(name)


_WRITER = """
import sys
from pathlib import Path
from opsin.labelling.label_file import LabelFile
file = LabelFile(Path(sys.argv[1]), ["a"])
for number in range(10_000):
    file.put([(number.to_bytes(32), str(number), "label", "a")])
    print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_what_is_shown_as_saved_survives_a_kill(kills: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    saved = 0
    for number in range(kills):
        command = [sys.executable, "-c", _WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(1 + number * 7 % 11):
                saved = max(saved, int(writer.stdout.readline()))
            os.kill(writer.pid, signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                saved = max(saved, int(line) if line.isdigit() else 0)
        file = LabelFile(path)
        assert set(range(saved + 1)) <= said(file).keys()
        file.close()


_TWO = """
import resource, signal, sys
from pathlib import Path
from opsin.core.errors import StorageError
from opsin.labelling.label_file import LabelFile
first, most = map(int, sys.argv[2:])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    file = LabelFile(Path(sys.argv[1]), ["a"])
    for number in range(first, first + 60):
        file.put([(number.to_bytes(32), "x" * 5_000, "label", "a")])
        print(number, flush=True)
except StorageError as error:
    sys.exit(error.message)
"""


def _write(path: Path, first: int, most: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _TWO, str(path), str(first), str(most)]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True)


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with _write(path, 0, 1 << 30) as one, _write(path, 100, 1 << 30) as other:
        assert [one.wait(), other.wait()] == [0, 0]
    assert said(LabelFile(path)).keys() == {*range(60), *range(100, 160)}


def test_a_full_disk_is_said_and_what_was_saved_stays(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with _write(path, 0, 1_000) as writer:  # before there is a file
        assert (str(path) in writer.communicate()[1], path.exists()) == (True, False)
    with _write(path, 0, 200_000) as writer:
        saved, why = writer.communicate()
    assert (writer.returncode, str(path) in why, 0 < len(saved.split()) < 60) == (1, True, True)
    assert said(LabelFile(path)).keys() == set(map(int, saved.split()))


def _trigger(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON labels BEGIN DELETE FROM classes; END")


def _link(path: Path) -> None:
    shutil.move(path, path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _row(step: object, image: bytes, name: bytes) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            values = (9, step, image, name, "label", "a", "", "", 1.0, None)
            db.execute("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    return harm


@pytest.mark.parametrize(
    "harm", [
        _trigger, _link, _row(9, b"no digest", b"x"), _row(9, image(9), b"\xff"),
        _row("last", image(9), b"x"), lambda path: path.write_bytes(b"SQLite format 3\0" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.with_name(path.name + "-journal").write_bytes(b"replay me"),
    ]
)  # fmt: skip
def test_a_strangers_file_is_refused_whole(harm: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    file = LabelFile(path, ["a"])
    file.put([(image(1), "1", "label", "a")])
    file.close()
    harm(path)
    before = path.read_bytes()
    with pytest.raises(RecipeError, match=r"damaged|link"):
        LabelFile(path).now()
    assert path.read_bytes() == before


def test_two_who_begin_one_file_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun, go = tmp_path / "labels.sqlite", Event(), Event()

    def write_late(*args: Any) -> None:
        if not begun.is_set():
            begun.set()
            go.wait(60)
        write_database(*args)

    def answer(number: int) -> None:
        with closing(LabelFile(path)) as file:
            file.put([(image(number), "name", "unclear", None)])

    monkeypatch.setattr(label_file, "write_database", write_late)
    first, second = (Thread(target=answer, args=(number,)) for number in range(2))
    first.start()
    assert begun.wait(60)
    second.start()
    second.join(0.5)  # it has finished by now only if nothing holds it back
    go.set()
    for one in (first, second):
        one.join()
    with closing(LabelFile(path)) as file:
        assert said(file) == {0: "unclear", 1: "unclear"}
