"""What was sorted can be taken back, whatever became of it, and no image is lost by that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import opsin
from opsin.commands.predict.sorting import SORTED, By
from tests.commands.predict.conftest import write_source
from tests.commands.predict.test_sorting import WAYS, contents, killed_at, work


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS)
def test_killed_at_any_step_all_is_taken_back(tmp_path: Path, by: By) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / str(step)
        source, folder = write_source(root / "source", 3), root / "sorted"
        before = contents(source)
        work(source, folder, by)
        killed = killed_at(step, lambda: opsin.undo(folder))  # noqa: B023
        if killed and (folder / SORTED).exists():
            assert opsin.undo(folder).left_count == 0
        assert contents(source) == before
        leftover = [path.name for path in folder.glob("*")] if folder.exists() else []
        assert set(leftover) <= {".sorted.sqlite.lock"}  # killed after the last image
    assert step > 8
    assert not folder.exists()


@pytest.mark.parametrize("by", WAYS)
def test_what_was_half_sorted_can_be_taken_back(tmp_path: Path, by: By) -> None:
    for step in range(4, 90, 9):
        root = tmp_path / str(step)
        source, folder = write_source(root / "source"), root / "sorted"
        before = contents(source)
        killed_at(step, lambda: work(source, folder, by))  # noqa: B023
        if (folder / SORTED).exists():
            assert opsin.undo(folder).left == ()
        assert contents(source) == before
        assert not folder.exists() or not contents(folder)


def test_what_changed_since_is_left_and_listed(source: Path, folder: Path) -> None:
    work(source, folder, "copy")
    (folder / "Bag" / "0.png").write_text("worked on since")
    (source / "1" / "0.png").unlink()  # the copy of image 1 is the only one now
    done = opsin.undo(folder)
    assert done.removed == 3
    assert sorted(reason for _, reason in done.left) == sorted(
        ["was changed since", f"{source / '1' / '0.png'} is gone, so this may be the only one"]
    )
    assert set(contents(folder)) == {"worked on since", "image 1"}
    assert (folder / "results.jsonl").exists()
    with pytest.raises(opsin.RecipeError, match="were taken back"):
        work(source, folder, "copy")
    again = opsin.undo(folder)
    assert (again.removed, again.left_count) == (0, 2)
    (source / "1" / "0.png").write_text("image 1")
    (folder / "Bag" / "0.png").unlink()
    (source / "1" / "0.png").unlink()
    (source / "1" / "0.png").write_text("another")
    assert "is another image now" in opsin.undo(folder).left[0][1]
    (source / "1" / "0.png").write_text("image 1")
    done = opsin.undo(folder)
    assert (done.removed, done.left_count, folder.exists()) == (1, 0, False)


def test_moves_never_come_back_over_something_new(source: Path, folder: Path) -> None:
    work(source, folder, "move")
    (source / "0" / "0.png").write_text("new")
    gone = next(folder.glob("*/1.png"))
    gone.unlink()
    edited = folder / contents(folder)["image 1"][0]
    edited.unlink()
    edited.write_text("image 1, saved by an editor")
    (source / "1").rmdir()
    done = opsin.undo(folder)
    assert (done.moved_back, done.left_count) == (3, 2)
    assert contents(source)["new"] == ["0/0.png"]
    assert contents(source)["image 1, saved by an editor"] == ["1/0.png"]
    reasons = " ".join(reason for _, reason in done.left)
    assert "something else is at" in reasons and "is no longer there" in reasons


@pytest.mark.parametrize("by", WAYS)
def test_a_link_left_at_the_old_place_is_no_image(source: Path, folder: Path, by: By) -> None:
    work(source, folder, by)
    old, [new] = source / "0" / "0.png", contents(folder)["image 0"]
    old.unlink(missing_ok=True)
    old.symlink_to(folder / new)
    done = opsin.undo(folder)
    assert [target for target, _ in done.left] == [new]
    assert contents(folder) == {"image 0": [new]}
    assert old.read_text() == "image 0"


def test_a_move_across_file_systems_may_have_been_half_done(source: Path, folder: Path) -> None:
    before = contents(source)
    work(source, folder, "move")
    # Killed after the copy was made and before the image itself was removed.
    for number in (0, 3):
        [name] = contents(folder)[f"image {number}"]
        shutil.copy2(folder / name, source / before[f"image {number}"][0])
    assert (opsin.undo(folder).moved_back, contents(source)) == (5, before)
    assert not folder.exists()
