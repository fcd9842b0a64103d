"""A sorted folder, or results with a journal, that somebody else made: nothing outside changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.commands.classify.journal import Journal, JournalEntry
from opsin.commands.classify.unsort import unsort
from opsin.core.errors import OpsinError, RecipeError
from tests.commands.classify.test_sorting import contents, work, write_source

KEY = "00" * 16
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


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


def forge(folder: Path, *lines: dict[str, Any], **head: Any) -> Path:
    """Write a sorted folder as a stranger may have made it."""
    folder.mkdir(exist_ok=True)
    begin = {"format": 1, "journal": KEY, "results": "results.jsonl", "by": "move", "made": True,
             "folders": ["Bag"]} | head  # fmt: skip
    content = [begin, *lines, {"placed": 0, "not": []}]
    (folder / "sorted.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    return folder


def line(source: object, target: object = "Bag/0.png", by: object = "move") -> dict[str, Any]:
    return {"image": "0.png", "source": source, "target": target, "by": by, "size": 9,
            "mtime_ns": 1_000_000 * 10**9, "device": 0, "inode": 0}  # fmt: skip


def put(folder: Path, text: str = "image 0") -> None:
    """Put an image where the lines say that one was sorted to."""
    (folder / "Bag").mkdir(parents=True, exist_ok=True)
    (folder / "Bag" / "0.png").write_text(text)
    os.utime(folder / "Bag" / "0.png", (1_000_000, 1_000_000))


@pytest.mark.parametrize("by", ["move", "copy", "link"])
@pytest.mark.parametrize(
    "name", ["new.png", "0.png", "empty/new.png", "pipe", "link", "no/new.png"]
)
def test_images_go_nowhere_that_this_account_sorted_nothing_from(
    tmp_path: Path, outside: Path, by: str, name: str
) -> None:
    folder = forge(tmp_path / "sorted", line(str(outside / name), by=by))
    put(folder)
    before, within = seal(outside), contents(folder)
    with pytest.raises(RecipeError, match="from where it sorted nothing") as refused:
        unsort(folder)
    assert f"opsin unsort {folder} --source {outside}" in str(refused.value)
    assert (seal(outside), contents(folder)) == (before, within)


@pytest.mark.parametrize("source", ["new.png", "../outside/new.png", "/", "/a/\0", 5, ["/a"], None])
def test_a_source_is_a_whole_path(tmp_path: Path, outside: Path, source: object) -> None:
    folder = forge(tmp_path / "sorted", line(source))
    put(folder)
    before = seal(outside)
    with pytest.raises(RecipeError):
        unsort(folder)
    assert seal(outside) == before


def test_below_a_source_that_is_named_no_link_is_followed(tmp_path: Path, outside: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "away").symlink_to(outside)
    folder = forge(
        tmp_path / "sorted", line(str(mine / "away" / "new.png")),
        line(str(mine / "below" / "0.png"), target="Bag/1.png"),
    )  # fmt: skip
    put(folder)
    (folder / "Bag" / "1.png").write_text("image 1")
    before = seal(outside)
    done = unsort(folder, source=mine)
    assert (done.moved_back, [name for name, _ in done.left]) == (1, ["Bag/0.png"])
    assert (mine / "below" / "0.png").read_text() == "image 1"
    assert seal(outside) == before
    with pytest.raises(RecipeError, match="from where it sorted nothing"):
        unsort(forge(folder, line(f"{mine}/../outside/new.png")), source=mine)


def test_a_named_source_takes_back_what_an_earlier_version_sorted(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    before = contents(source)
    work(source, folder, "move")
    for known in Path(os.environ["OPSIN_STATE"]).rglob("*.jsonl"):
        known.unlink()
    with pytest.raises(RecipeError, match="from where it sorted nothing"):
        unsort(folder)
    assert unsort(folder, source=source).moved_back == 5
    assert (contents(source), folder.exists()) == (before, False)


@pytest.mark.parametrize("by", ["move", "copy"])
def test_the_folder_of_an_answer_is_no_link(tmp_path: Path, outside: Path, by: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    folder = forge(tmp_path / "sorted", line(str(mine / "new.png"), by=by))
    (folder / "Bag").symlink_to(outside)
    before = seal(outside)
    assert unsort(folder, source=mine).left_count == 1
    assert (seal(outside), list(mine.iterdir())) == (before, [])


def test_a_link_in_the_folder_of_an_answer_is_no_image(tmp_path: Path, outside: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    folder = forge(tmp_path / "sorted", line(str(mine / "new.png")))
    (folder / "Bag").mkdir()
    (folder / "Bag" / "0.png").symlink_to(outside / "mine.txt")
    before = seal(outside)
    unsort(folder, source=mine)
    assert seal(outside) == before
    assert not (mine / "new.png").exists()


@pytest.mark.parametrize(
    "head",
    [
        {"folders": ["{}/empty"]},
        {"folders": ["../outside/empty"]},
        {"folders": [".."]},
        {"folders": [""]},
        {"folders": [5]},
        {"folders": "Bag"},
        {"folders": {"a": 1}},
        {"folders": None},
        {"journal": 5},
        {"journal": "../" * 10},
        {"journal": "00" * 99},
        {"results": 5},
        {"results": None},
        {"made": "yes", "format": "1"},
        {"format": [1]},
    ],
)
def test_a_head_of_wrong_values_is_refused(
    tmp_path: Path, outside: Path, head: dict[str, Any]
) -> None:
    if head.get("folders") == ["{}/empty"]:
        head = {"folders": [str(outside / "empty")]}
    folder = forge(tmp_path / "sorted", **head)
    before = seal(outside)
    with pytest.raises(RecipeError, match="cannot be read"):
        unsort(folder)
    assert seal(outside) == before


PLANTS: tuple[Callable[[Path, Path], None], ...] = (
    lambda place, outside: place.symlink_to(outside / "mine.txt"),
    lambda place, outside: place.symlink_to(outside / "pipe"),
    lambda place, outside: place.symlink_to(outside / "new.txt"),
    lambda place, outside: os.mkfifo(place),
    lambda place, outside: place.mkdir(),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    "name",
    ["sorted.jsonl", ".sorted.jsonl.rest", ".sorting", ".sorted.jsonl.lock", "results.jsonl",
     ".results.jsonl.journal", ".results.jsonl.lock", "Bag"],
)  # fmt: skip
def test_no_file_of_a_sorted_folder_is_a_link_or_a_pipe(
    tmp_path: Path, outside: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    source = write_source(tmp_path / "source")
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
        with contextlib.suppress(OpsinError):
            if undoing:
                unsort(folder)
            work(source, folder, "move" if undoing else "copy")
        assert seal(outside) == before
        assert set(contents(source)) | set(contents(folder)) >= set(images)


def killed_in_a_batch(folder: Path, *lines: dict[str, Any], by: str = "move") -> None:
    """Forge a sorting that was killed, whose journal is done with everything."""
    folder.mkdir()
    out = folder / "results.jsonl"
    with Journal(out, out, {"source": "s"}) as journal:
        journal.append([JournalEntry("0.png", 0, b"0.png\n")])
        key = journal.key.hex()
    forge(folder, *lines, journal=key, by=by)
    undo = folder / "sorted.jsonl"
    undo.write_text("".join(undo.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("by", ["move", "copy", "link"])
def test_what_a_strangers_killed_sorting_names_is_not_touched(
    tmp_path: Path, outside: Path, by: Any, made: bool
) -> None:
    folder, empty = tmp_path / "sorted", tmp_path / "s"
    empty.mkdir()
    found = (outside / "0.png").stat()
    attack = line(str(outside / "0.png"), by=by) | {
        "device": found.st_dev, "inode": found.st_ino, "mtime_ns": found.st_mtime_ns
    }  # fmt: skip
    killed_in_a_batch(folder, attack, by=by)
    if made:
        (folder / "Bag").mkdir()
        os.link(outside / "0.png", folder / "Bag" / "0.png")
    before = seal(outside)
    with pytest.raises(RecipeError, match="from where this account sorted nothing"):
        work(Path("s"), folder, by)
    assert seal(outside) == before
    if made:
        (folder / "Bag").rename(folder / "other")
    (folder / "Bag").symlink_to(outside)
    with pytest.raises(RecipeError, match="is a link or a file"):
        work(Path("s"), folder, by)
    assert seal(outside) == before


@pytest.mark.parametrize("records", [b"\xff" * 24, b"\0" * 24, b"\0" * 24_000_000, b"\x01" * 25])
def test_records_that_are_nobodys_are_refused(tmp_path: Path, records: bytes) -> None:
    out = tmp_path / "results.jsonl"
    with Journal(out, out, {}) as journal:
        journal.append([JournalEntry("a", 0, b"a\n")])
    with journal.path.open("ab") as file:
        file.write(records)
    try:
        journal = Journal(out, out, {})
    except RecipeError as refused:
        assert "was changed since" in str(refused)
    else:  # as after a power cut
        journal.close()
        assert (journal.resumed, out.read_bytes()) == (1, b"a\n")


def test_huge_files_cost_little(tmp_path: Path) -> None:
    """Sparse files of 5 GB, without a line's end."""
    folder = tmp_path / "sorted"
    work(write_source(tmp_path / "source"), folder, "copy")
    for name in ("results.jsonl", ".results.jsonl.journal", "sorted.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        os.truncate(folder / name, 5 << 30)
        with pytest.raises(RecipeError):
            work(tmp_path / "source", folder, "copy")
        if name == "sorted.jsonl":
            with pytest.raises(RecipeError, match="cannot be read"):
                unsort(folder)
        (tmp_path / name).replace(folder / name)


def read_forged(folder: Path, content: bytes) -> None:
    (folder / "sorted.jsonl").write_bytes(content)
    with contextlib.suppress(OpsinError):
        unsort(folder)


HEAD = json.dumps({"format": 1, "journal": KEY, "results": "r", "by": "move", "made": False,
                   "folders": []})  # fmt: skip
LINE = {"image": JSON, "source": JSON, "target": JSON, "by": JSON, "size": JSON,
        "mtime_ns": JSON}  # fmt: skip
ANY_LINE = (
    JSON
    | st.fixed_dictionaries({}, optional=LINE)
    | st.fixed_dictionaries({"placed": JSON}, optional={"not": JSON})
    | st.just(line("/no/0.png"))
)


def check_any_lines(folder: Path, lines: list[Any], sound: bool) -> None:
    text = "\n".join([*([HEAD] if sound else []), *map(json.dumps, lines)])
    read_forged(folder, text.encode() + b"\n")


def check_any_head(folder: Path, head: dict[str, Any]) -> None:
    read_forged(folder, json.dumps(json.loads(HEAD) | head).encode() + b"\n")


def check_any_journal(folder: Path, head: Any, records: bytes) -> None:
    out = folder / "results.jsonl"
    with Journal(out, out, {"top": 5}) as journal:
        journal.append([JournalEntry("a", 0, b"a\n")])
    own = json.loads(journal.path.read_bytes().split(b"\n")[0])
    new = own | head if isinstance(head, dict) else head
    journal.path.write_bytes(json.dumps(new).encode() + b"\n" + records)
    with contextlib.suppress(OpsinError):
        Journal(out, out, {"top": 5}, answers=3, stamps=True).close()


HEADS = st.fixed_dictionaries({}, optional={"format": JSON, "journal": JSON, "results": JSON,
                                            "made": JSON, "folders": JSON})  # fmt: skip
JOURNAL_HEADS = JSON | st.fixed_dictionaries(
    {}, optional={"begun": JSON, "key": JSON, "opsin": JSON, "format": JSON, "tidied": JSON}
)
FEW, MANY = settings(max_examples=50), settings(max_examples=1_000)


@FEW
@given(st.lists(ANY_LINE, max_size=4), st.booleans())
def test_any_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[Any], sound: bool) -> None:
    check_any_lines(tmp_path_factory.mktemp("any"), lines, sound)


@FEW
@given(HEADS)
def test_any_head(tmp_path_factory: pytest.TempPathFactory, head: dict[str, Any]) -> None:
    check_any_head(tmp_path_factory.mktemp("any"), head)


@FEW
@given(JOURNAL_HEADS, st.binary(max_size=100))
def test_any_journal(tmp_path_factory: pytest.TempPathFactory, head: Any, records: bytes) -> None:
    check_any_journal(tmp_path_factory.mktemp("any"), head, records)


@pytest.mark.slow
@MANY
@given(st.lists(ANY_LINE, max_size=4), st.booleans(), HEADS, JOURNAL_HEADS, st.binary(max_size=100))
def test_any_of_all(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[Any], sound: bool, head: dict[str, Any], other: Any, records: bytes,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("any")
    check_any_lines(folder, lines, sound)
    check_any_head(folder, head)
    check_any_journal(tmp_path_factory.mktemp("journal"), other, records)
