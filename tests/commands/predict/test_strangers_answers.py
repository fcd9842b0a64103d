"""A sorted folder, or an answers file, that somebody else made: nothing outside changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import opsin
from opsin.commands.predict.answers_file import Answer, AnswersFile, Sorting, database_beside
from opsin.commands.predict.sorting import SORTED, Origins
from tests.commands.predict.test_sorting import contents, work


def seal(root: Path) -> dict[str, tuple[int, str]]:
    """Return what a tree holds: each name with its kind and rights, and its content or its goal."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = str(path.readlink())
        elif stat.S_ISREG(mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = ""
        found[str(path.relative_to(root))] = (mode, what)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must stay as it is: an image, a text, an empty folder, a link and a pipe."""
    root = tmp_path / "outside"
    (root / "empty").mkdir(parents=True)
    (root / "0.png").write_text("image 0")
    os.utime(root / "0.png", (1_000_000, 1_000_000))
    (root / "mine.txt").write_text("mine\n")
    (root / "link").symlink_to("mine.txt")
    os.mkfifo(root / "pipe")
    return root


def move(source: object, target: object = "Bag/0.png", by: object = "move", **other: Any) -> Any:
    places = {"image": "0.png", "source": source, "target": target, "by": by}
    about = {"size": 7, "mtime_ns": 1_000_000 * 10**9, "identity": "0 0", "done": 1}
    return places | about | other


def forge(folder: Path, *moves: dict[str, Any], known: object = None, **about: Any) -> Path:
    """Write a sorted folder as a stranger may have made it; this account sorted from `known`."""
    folder.mkdir(exist_ok=True)
    for old in (SORTED, "results.jsonl"):
        (folder / old).unlink(missing_ok=True)
    with AnswersFile(folder / SORTED, folder / "results.jsonl", {"source": "s"}) as answers:
        answers.append([Answer("0.png", 0, b"{}")])
        Origins(answers.about.key).add([] if known is None else [f"{known}/0.png"])
        sorting = Sorting(folders=["Bag"], results=True)
        answers.note(**{"sorting": sorting, "written": 3} | about)
        for row in moves:
            values = [
                v.encode() if isinstance(v, str) and n in ("image", "source", "target") else v
                for n, v in row.items()
            ]
            marks = ", ".join("?" * len(row))
            answers.db.execute(f"INSERT INTO moves ({', '.join(row)}) VALUES ({marks})", values)
    return folder


def refuses(folder: Path, outside: Path, why: str | None = None) -> None:
    """With its image in place, nothing of a folder is taken back."""
    (folder / "Bag").mkdir()
    (folder / "Bag" / "0.png").write_text("image 0")
    os.utime(folder / "Bag" / "0.png", (1_000_000, 1_000_000))
    before = seal(outside), contents(folder)
    with pytest.raises(opsin.RecipeError, match=why):
        opsin.undo(folder)
    assert (seal(outside), contents(folder)) == before


@pytest.mark.parametrize("by", ["move", "copy"])
@pytest.mark.parametrize(
    "name", ["new.png", "0.png", "empty/new.png", "pipe", "link", "no/new.png"]
)
def test_images_go_nowhere_that_this_account_sorted_nothing_from(
    folder: Path, outside: Path, by: str, name: str
) -> None:
    forge(folder, move(str(outside / name), by=by))
    refuses(folder, outside, "from where this account sorted nothing")


@pytest.mark.parametrize(
    "row",
    [
        *map(move, ["new.png", "../outside/new.png", "/", "/a/\0", 5, b"\xff", None, ""]),
        *(move("/no/0.png", target=target) for target in
          ["../mine.png", "Bag/../../mine.png", "/tmp/mine.png", "mine", 5, "Bag/", "../Bag"]),
        move("/no/0.png", by="link"), move("/no/0.png", by=b"copy"), move("/no/0.png", size="x"),
        move("/no/0.png", mtime_ns=1.5), move("/no/0.png", identity=b"0"), move(None, by="copy"),
        move("/no/0.png", image=5), move("/no/0.png", done="yes"),
    ],
)  # fmt: skip
def test_a_row_of_wrong_values_is_refused(folder: Path, outside: Path, row: dict[str, Any]) -> None:
    forge(folder, row, known="/no")
    refuses(folder, outside)


@pytest.mark.parametrize("by", ["move", "copy"])
@pytest.mark.parametrize("link", ["Bag", "Bag/0.png"])
def test_neither_the_folder_of_an_answer_nor_its_image_is_a_link(
    tmp_path: Path, outside: Path, by: str, link: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    folder = forge(tmp_path / "sorted", move(str(mine / "new.png"), by=by), known=mine)
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(outside if link == "Bag" else outside / "mine.txt")
    before = seal(outside)
    assert opsin.undo(folder).left_count == 1
    assert (seal(outside), list(mine.iterdir())) == (before, [])


@pytest.mark.parametrize("name", ["../outside/empty", "..", ""])
def test_folders_that_are_removed_are_plain_names(folder: Path, outside: Path, name: str) -> None:
    forge(folder, sorting=Sorting(folders=[name], results=True))
    before = seal(outside)
    with pytest.raises(opsin.RecipeError, match="damaged"):
        opsin.undo(folder)
    assert seal(outside) == before


PLANTS: tuple[Callable[[Path, Path], None], ...] = (
    lambda place, outside: place.symlink_to(outside / "mine.txt"),
    lambda place, outside: place.symlink_to(outside / "pipe"),
    lambda place, outside: place.symlink_to(outside / "new.txt"),
    lambda place, outside: os.link(outside / "mine.txt", place),
    lambda place, outside: os.mkfifo(place),
    lambda place, outside: place.mkdir(),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    "name",
    [SORTED, f"{SORTED}-wal", f"{SORTED}-shm", f"{SORTED}-journal", f"{SORTED}.lock", ".sorting",
     "results.jsonl", "Bag"],
)  # fmt: skip
def test_no_file_of_a_sorted_folder_is_a_link_or_a_pipe(
    tmp_path: Path, source: Path, outside: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    for undoing in (True, False):
        folder = tmp_path / f"sorted-{undoing}"
        if undoing:
            work(source, folder, "copy")
        else:
            folder.mkdir()
        place = folder / name
        if place.is_dir():
            place.rename(folder / "elsewhere")
        place.unlink() if place.is_file() else None
        plant(place, outside)
        before, images = seal(outside), contents(source)
        with contextlib.suppress(opsin.OpsinError):
            if undoing:
                opsin.undo(folder)
            work(source, folder, "move" if undoing else "copy")
        assert seal(outside) == before
        assert set(contents(source)) | set(contents(folder)) >= set(images)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("by", ["move", "copy"])
def test_what_a_strangers_killed_sorting_names_is_not_touched(
    tmp_path: Path, outside: Path, by: Any, made: bool
) -> None:
    folder = tmp_path / "sorted"
    found = (outside / "0.png").stat()
    identity = f"{found.st_dev} {found.st_ino}"
    more = {"by": by, "identity": identity, "done": 0, "mtime_ns": found.st_mtime_ns}
    forge(folder, move(str(outside / "0.png"), **more))
    if made:
        (folder / "Bag").mkdir()
        os.link(outside / "0.png", folder / "Bag" / "0.png")
    before = seal(outside)
    with pytest.raises(opsin.RecipeError, match="from where this account sorted nothing"):
        work(Path("s"), folder, by)
    assert seal(outside) == before


SCHEMAS = [
    "CREATE TRIGGER t AFTER DELETE ON moves BEGIN DELETE FROM answers; END",
    "CREATE VIEW v AS SELECT 1", "CREATE TABLE more (id)",
    "DROP TABLE moves; CREATE VIEW moves AS SELECT *, 1 AS done FROM answers",
    "DROP TABLE moves; CREATE TABLE moves (id INTEGER PRIMARY KEY, image AS (x'00'), target)",
    "DROP TABLE moves", "PRAGMA application_id = 1", "PRAGMA journal_mode = DELETE",
    "UPDATE about SET content = '[]'", "UPDATE about SET content = x'00'", "DELETE FROM about",
    "UPDATE answers SET answer = 'Bag'", "UPDATE answers SET answer = 1 << 40",
    "UPDATE answers SET image = 5",
]  # fmt: skip


@pytest.mark.parametrize("in_log", [False, True])
@pytest.mark.parametrize("change", SCHEMAS)
def test_a_database_that_is_not_ours_to_the_letter_is_refused(
    tmp_path: Path, change: str, in_log: bool
) -> None:
    """Whether the change lies in the file itself or in its write-ahead log."""
    out = tmp_path / "results.jsonl"
    with AnswersFile(database_beside(out), out, {}) as answers:
        answers.append([Answer("1", 0, b"{}")])
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(database_beside(out), isolation_level=None)) as db:
        db.executescript(change)
        if in_log:
            for file in tmp_path.glob("*results.jsonl*"):
                (other / file.name).write_bytes(file.read_bytes())
    out = other / out.name if in_log else out
    with pytest.raises(opsin.RecipeError):
        AnswersFile(database_beside(out), out, {}).close()


def test_a_rollback_journal_is_never_replayed(source: Path, folder: Path, outside: Path) -> None:
    """Replayed, it would remove the file that it names as its super-journal, wherever that is."""
    work(source, folder, "copy")
    name = str(outside / "mine.txt").encode()
    tail = name + len(name).to_bytes(4) + sum(name).to_bytes(4)
    magic = bytes([0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7])
    (folder / f"{SORTED}-journal").write_bytes(magic + bytes(504) + bytes(4) + tail + magic)
    before = seal(outside)
    for attempt in (lambda: opsin.undo(folder), lambda: work(source, folder, "copy")):
        with pytest.raises(opsin.RecipeError):
            attempt()
    assert seal(outside) == before


def test_huge_files_cost_little(source: Path, folder: Path) -> None:
    """Sparse files of 5 GB, and a value of a gigabyte."""
    work(source, folder, "copy")
    for name in ("results.jsonl", SORTED, f"{SORTED}-wal"):
        content = (folder / name).read_bytes() if (folder / name).exists() else b""
        (folder / name).write_bytes(content)
        os.truncate(folder / name, 5 << 30)
        with contextlib.suppress(opsin.RecipeError):
            work(source, folder, "copy")
        (folder / name).write_bytes(content)
    with closing(sqlite3.connect(folder / SORTED)) as db, db:
        db.execute("UPDATE about SET content = zeroblob(1 << 26)")
    with pytest.raises(opsin.RecipeError):
        opsin.undo(folder)


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    out = tmp_path / "results.jsonl"
    with AnswersFile(database_beside(out), out, {}, kinds=3) as answers:
        answers.append([Answer(f"{number}.png", 0, b"{}" * number) for number in range(300)])
    return database_beside(out).read_bytes()


@settings(max_examples=60)
@given(place=st.integers(0, 1 << 20), junk=st.binary(min_size=1, max_size=1000))
def test_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, written: bytes, place: int, junk: bytes
) -> None:
    """An answers file with some bytes changed is refused, or read as far as it is sound."""
    out = tmp_path_factory.mktemp("any") / "results.jsonl"
    place %= len(written)
    database_beside(out).write_bytes(written[:place] + junk + written[place + len(junk) :])
    with (
        contextlib.suppress(opsin.OpsinError),
        AnswersFile(database_beside(out), out, {}, kinds=3) as found,
    ):
        list(found.rows())
