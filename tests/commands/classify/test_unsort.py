"""What was sorted can be taken back, whatever became of it, and no image is lost by that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from opsin.commands.classify.sorting import By
from opsin.commands.classify.unsort import unsort
from opsin.core.errors import RecipeError
from opsin.core.state_folder import state_root
from tests.commands.classify.test_sorting import (
    WAYS,
    contents,
    killed_at,
    work,
    write_source,
)


@pytest.mark.parametrize(
    "by", [*(pytest.param(way, marks=pytest.mark.slow) for way in WAYS if way != "move"), "move"]
)
@pytest.mark.slow
def test_killed_at_any_step_all_is_taken_back(tmp_path: Path, by: By) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / str(step)
        source, folder = write_source(root / "source", 3), root / "sorted"
        before = contents(source)
        work(source, folder, by)
        killed = killed_at(step, lambda: unsort(folder))  # noqa: B023
        if killed and (folder / "sorted.jsonl").exists():
            assert unsort(folder).left_count == 0
        assert contents(source) == before
        leftover = [path.name for path in folder.glob("*")] if folder.exists() else []
        assert set(leftover) <= {".sorted.jsonl.lock"}  # killed after the last image
    assert step > 8
    assert not folder.exists()


@pytest.mark.parametrize("by", WAYS)
def test_what_was_half_sorted_can_be_taken_back(tmp_path: Path, by: By) -> None:
    for step in range(4, 60, 7):
        root = tmp_path / str(step)
        source, folder = write_source(root / "source"), root / "sorted"
        before = contents(source)
        killed_at(step, lambda: work(source, folder, by))  # noqa: B023
        if (folder / "sorted.jsonl").exists():
            assert unsort(folder).left == ()
        assert contents(source) == before
        assert not folder.exists() or not contents(folder)


def test_what_changed_since_is_left_and_listed(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    work(source, folder, "copy")
    (folder / "Bag" / "0.png").write_text("worked on since")
    (source / "1" / "0.png").unlink()  # the copy of image 1 is the only one now
    done = unsort(folder)
    assert done.removed == 3
    assert sorted(reason for _, reason in done.left) == sorted([
        "was changed since", f"{source / '1' / '0.png'} is gone, so this may be the only one"
    ])  # fmt: skip
    assert set(contents(folder)) == {"worked on since", "image 1"}
    assert (folder / "results.jsonl").exists()
    with pytest.raises(RecipeError, match="images were taken back"):
        work(source, folder, "copy")
    again = unsort(folder)
    assert (again.removed, again.left_count) == (0, 2)
    (source / "1" / "0.png").write_text("image 1")
    (folder / "Bag" / "0.png").unlink()
    assert unsort(folder).to_json() | {"folder": ""} == {
        "folder": "", "moved_back": 0, "removed": 1, "left": [], "left_count": 0
    }  # fmt: skip
    assert not folder.exists()


def test_moves_never_come_back_over_something_new(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    work(source, folder, "move")
    (source / "0" / "0.png").write_text("new")
    gone = next(folder.glob("*/1.png"))
    gone.unlink()
    edited = folder / contents(folder)["image 1"][0]
    edited.unlink()
    edited.write_text("image 1, saved by an editor")
    (source / "1").rmdir()
    done = unsort(folder)
    assert (done.moved_back, done.left_count) == (3, 2)
    assert contents(source)["new"] == ["0/0.png"]
    assert contents(source)["image 1, saved by an editor"] == ["1/0.png"]
    reasons = " ".join(reason for _, reason in done.left)
    assert "something else is at" in reasons and "is no longer there" in reasons


def test_a_link_whose_original_is_gone_is_kept(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source", 2), tmp_path / "sorted"
    work(source, folder, "link")
    assert (folder / "Bag" / "0.png").samefile(source / "0" / "0.png")
    (source / "0" / "0.png").unlink()
    done = unsort(folder)
    assert (done.removed, done.left_count) == (1, 1)
    assert contents(folder) == {"image 0": ["Bag/0.png"]}


@pytest.mark.parametrize("by", WAYS)
def test_a_link_left_at_the_old_place_is_no_image(tmp_path: Path, by: By) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    work(source, folder, by)
    old, [new] = source / "0" / "0.png", contents(folder)["image 0"]
    old.unlink(missing_ok=True)
    old.symlink_to(folder / new)
    done = unsort(folder)
    assert [target for target, _ in done.left] == [new]
    assert contents(folder) == {"image 0": [new]}
    assert old.read_text() == "image 0"


@pytest.mark.parametrize("by", ["copy", "link"])
def test_a_copy_of_what_was_replaced_since_is_kept(tmp_path: Path, by: By) -> None:
    source, folder = write_source(tmp_path / "source", 2), tmp_path / "sorted"
    work(source, folder, by)
    (source / "0" / "0.png").unlink()
    (source / "0" / "0.png").write_text("another")
    done = unsort(folder)
    assert (done.removed, done.left_count) == (1, 1)
    assert "is another image now, so this may be the only one" in done.left[0][1]
    assert contents(folder) == {"image 0": ["Bag/0.png"]}


def test_a_move_across_file_systems_may_have_been_half_done(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    before = contents(source)
    work(source, folder, "move")
    # Killed after the copy was made and before the image itself was removed.
    for number in (0, 3):
        [name] = contents(folder)[f"image {number}"]
        shutil.copy2(folder / name, source / before[f"image {number}"][0])
    assert (unsort(folder).moved_back, contents(source)) == (5, before)
    assert not folder.exists()


@pytest.mark.parametrize(
    "target", ["../mine.png", "Bag/../../mine.png", "/tmp/mine.png", "mine", 5]
)
def test_an_undo_file_of_a_stranger_reaches_nothing_outside(tmp_path: Path, target: object) -> None:
    source, folder = write_source(tmp_path / "source", 2), tmp_path / "sorted"
    work(source, folder, "move")
    (tmp_path / "mine.png").write_text("image 0")
    undo = folder / "sorted.jsonl"
    head, first, *rest = undo.read_text().splitlines()
    line = json.dumps(json.loads(first) | {"target": target, "source": str(tmp_path / "away.png")})
    undo.write_text("\n".join([head, line, *rest]) + "\n")
    with pytest.raises(RecipeError, match="cannot be read"):
        unsort(folder)
    assert (tmp_path / "mine.png").exists()
    assert not (tmp_path / "away.png").exists()


# As an earlier version left them, killed in the last batch; $ stands for the folder around both.
OLD_LOG = """\
{"format": 1, "journal": "058e7c079df358a704a9f7d0db719b08", "results": "$/sorted/results.jsonl", "by": "copy", "made": true, "folders": ["Bag", "T-shirt-top", "none of these", "unreadable"]}
{"image": "0/0.png", "source": "$/source/0/0.png", "target": "Bag/0.png", "by": "copy", "size": 7, "mtime_ns": 1000000000000000, "device": 65024, "inode": 2927182}
{"image": "0/1.png", "source": "$/source/0/1.png", "target": "Bag/1.png", "by": "copy", "size": 7, "mtime_ns": 1000002000000000, "device": 65024, "inode": 2927185}
{"image": "0/2.png", "source": "$/source/0/2.png", "target": "T-shirt-top/2.png", "by": "copy", "size": 7, "mtime_ns": 1000004000000000, "device": 65024, "inode": 2927187}
{"placed": 3, "not": ["Bag/1.png"]}
{"image": "1/0.png", "source": "$/source/1/0.png", "target": "Bag/0-2.png", "by": "copy", "size": 7, "mtime_ns": 1000001000000000, "device": 65024, "inode": 2927184}
{"image": "1/1.png", "source": "$/source/1/1.png", "target": "T-shirt-top/1.png", "by": "co"""  # noqa: E501
OLD_ORIGINS = """"$/source/0"
"$/source/1"
"$/sou"""


def test_a_folder_that_an_earlier_version_sorted_is_taken_back(tmp_path: Path) -> None:
    source, folder = write_source(tmp_path / "source"), tmp_path / "sorted"
    for target, image in {"Bag/0.png": "0/0.png", "T-shirt-top/2.png": "0/2.png",
                          "Bag/0-2.png": "1/0.png"}.items():  # fmt: skip
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / image, folder / target)
    (folder / "sorted.jsonl").write_text(OLD_LOG.replace("$", str(tmp_path)))
    known = state_root() / "sortings" / "058e7c079df358a704a9f7d0db719b08.jsonl"
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(OLD_ORIGINS.replace("$", str(tmp_path)))
    assert (folder / "Bag" / "0-2.png").exists()
    done = unsort(folder)
    assert (done.removed, done.left, folder.exists(), known.exists()) == (3, (), False, False)
    assert len(contents(source)) == 5
