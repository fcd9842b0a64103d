"""Corrections in the studio: what is shown is what training does, and all of it can be undone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import SourceError, StorageError
from opsin.data.cache import digest_rows
from opsin.data.corrections import Decoded, correct
from opsin.studio.datasets import corrections as module
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.errors import NotThere

CLASSES = ("boot", "bag", "<img src=x onerror=alert(1)>")


def opened(
    pixels: Sequence[int],
    labels: Sequence[int],
    names: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
) -> DecodedDataset:
    images = np.array(pixels, np.uint8).reshape(-1, 1, 1, 1)
    count = len(images)
    decoded = Decoded(
        images=images,
        labels=np.array(labels, np.int64),
        source_parts=np.zeros(count, np.uint8),
        digests=digest_rows(images),
        source_digests=digest_rows(images),
        sizes=np.ones((count, 2), np.int32),
        ranges=np.zeros((count, 2), np.uint8),
        names=list(names or [f"{row}.png" for row in range(count)]),
        classes=tuple(classes),
        groups=[],
        mirrored=True,
        unreadable=[],
        rows=np.arange(count),
    )
    return DecodedDataset("a" * 16, decoded)


def as_trained(here: DecodedDataset, path: Path) -> list[str | None]:
    """Return the class of each image as `opsin train --labels` sees it, None where left out."""
    classes = here.classes
    if not path.exists():
        return [classes[label] for label in here.decoded.labels]
    corrected = correct(here.decoded, path)
    said: list[str | None] = [None] * len(here)
    for row, label in zip(corrected.rows, corrected.labels, strict=True):
        said[row] = classes[label]
    return said


def as_shown(here: DecodedDataset, corrections: Corrections) -> list[str | None]:
    now = corrections.now()
    return [now[row] if row in now else here.classes[here.label(row)] for row in range(len(here))]


Steps = list[tuple[str, frozenset[int], str | None]]
steps: st.SearchStrategy[Steps] = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "take back", "undo", "undo", "restart"]),
        st.frozensets(st.integers(0, 5), min_size=1, max_size=4),
        st.sampled_from([*CLASSES, None]),
    ),
    max_size=10,
)


@given(steps=steps)
def test_what_is_shown_is_what_training_does_after_any_steps(
    steps: Steps, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("set")
    # 0 and 1 are the same to the pixel, 4 and 5 in name as well: no table can tell these apart.
    # Of 6, nothing is ever said: one image must remain.
    names = ["a", "b", "c\udcff", "d, e", "f", "f", "g"]
    here = opened([7, 7, 8, 9, 5, 5, 1], [0, 1, 2, 0, 1, 1, 2], names)
    corrections = Corrections(folder, here)
    states = [as_shown(here, corrections)]
    for do, rows, label in steps:
        if do == "restart":
            corrections = Corrections(folder, here)
        elif do in ("put", "take back"):
            changed = corrections.put(rows, label) if do == "put" else corrections.take_back(rows)
            if changed:
                states.append(as_shown(here, corrections))
        else:
            assert corrections.undo() == (len(states) > 1)
            states = states[: max(1, len(states) - 1)]
        assert as_shown(here, corrections) == states[-1]
        assert as_trained(here, corrections.path) == states[-1]
        assert corrections.steps() == len(states) - 1


def test_two_windows_agree(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    one, other = Corrections(tmp_path, here), Corrections(tmp_path, here)
    one.put([0], "bag")
    assert other.now() == {0: "bag"}
    other.put([2], None)
    assert one.undo()
    assert other.now() == {0: "bag"}


def test_many_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    here = opened(range(16), [0] * 16)
    threads = [
        threading.Thread(target=Corrections(tmp_path, here).put, args=([row], "bag"))
        for row in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Corrections(tmp_path, here)
    assert last.now() == dict.fromkeys(range(8), "bag")
    assert last.steps() == 8


def test_killed_between_the_steps_and_the_table(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    corrections = Corrections(tmp_path, here)
    corrections.put([0], "bag")
    before = corrections.path.read_bytes()
    corrections.put([1], None)
    corrections.path.write_bytes(before)  # the second step is there, its table is not
    again = Corrections(tmp_path, here)
    assert again.now() == {0: "bag"}
    assert as_trained(here, again.path) == ["bag", "boot", "bag"]
    assert again.steps() == 1


def test_a_table_that_cannot_be_written_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = Corrections(tmp_path, opened([1, 2, 3], [0, 0, 1]))
    corrections.put([0], "bag")
    corrections.put([1], "bag")
    corrections.undo()
    monkeypatch.setattr(module, "write_corrections", interrupted)
    with pytest.raises(KeyboardInterrupt):
        corrections.put([2], None)
    assert corrections.now() == {0: "bag"}
    assert corrections.steps() == 1


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_damaged_history_costs_the_steps_alone(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    Corrections(tmp_path, here).put([0], "bag")
    (tmp_path / "corrections.json").write_text('{"done": [[1', encoding="utf-8")
    again = Corrections(tmp_path, here)
    assert again.now() == {0: "bag"}
    again.put([1], "bag")
    assert Corrections(tmp_path, here).steps() == 1


def test_a_table_that_somebody_edited_counts(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    corrections = Corrections(tmp_path, here)
    corrections.put([0], "bag")
    corrections.path.write_text("name,label\n1.png,bag\n2.png,-\n", encoding="utf-8")
    assert corrections.now() == {1: "bag", 2: None}
    assert corrections.steps() == 0
    corrections.put([0], "bag")
    assert corrections.now() == {0: "bag", 1: "bag", 2: None}
    assert Corrections(tmp_path, here).steps() == 1


def test_what_finds_no_room_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    corrections = Corrections(tmp_path, here)
    corrections.put([0], "bag")
    corrections.put([1], "bag")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", no_room)
        with pytest.raises(StorageError):
            corrections.undo()
    assert corrections.steps() == 2
    assert corrections.undo()
    assert corrections.now() == {0: "bag"}


def no_room(*_: object) -> None:
    raise StorageError("There is no room on the disk", "Make some.")


def test_a_set_that_grew_has_its_corrections_still(tmp_path: Path) -> None:
    few = opened([1, 2], [0, 1], ["boot/1.png", "boot/2.png"])
    Corrections(tmp_path, few).put([1], "boot")
    more = opened([9, 1, 2], [0, 0, 1], ["boot/0.png", "boot/1.png", "boot/2.png"])
    corrections = Corrections(tmp_path, more)
    assert corrections.now() == {2: "boot"}
    assert corrections.undo()
    assert corrections.now() == {}


def test_images_that_are_gone_are_told_and_kept_until_they_are_dropped(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 0, 1])
    Corrections(tmp_path, here).put([0, 2], None)
    fewer = opened([2, 3], [0, 1], ["1.png", "2.png"])
    corrections = Corrections(tmp_path, fewer)
    assert (corrections.now(), corrections.gone) == ({1: None}, 1)
    corrections.put([0], "bag")
    assert Corrections(tmp_path, here).now() == {0: None, 1: "bag", 2: None}
    corrections.forget_gone()
    assert corrections.gone == 0
    assert as_trained(fewer, corrections.path) == ["bag", None]


def test_labels_follow_the_corrections(tmp_path: Path) -> None:
    here = opened([1, 2, 3, 4], [0, 0, 1, 2])
    corrections = Corrections(tmp_path, here)
    corrections.put([0], CLASSES[1])
    corrections.put([1], None)
    assert corrections.labels().tolist() == [1, -1, 1, 2]


def test_only_classes_of_the_source_and_only_its_images(tmp_path: Path) -> None:
    corrections = Corrections(tmp_path, opened([1, 2], [0, 1]))
    with pytest.raises(SourceError, match="has no class 'scarf'"):
        corrections.put([0], "scarf")
    with pytest.raises(NotThere, match="no image 2"):
        corrections.put([0, 2], "bag")
    with pytest.raises(SourceError, match="All images would be left out"):
        corrections.put([0, 1], None)
    assert corrections.now() == {}
    assert not corrections.path.exists()


def test_a_class_that_is_called_like_the_mark(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 1, 1], classes=("-", "bag"))
    corrections = Corrections(tmp_path, here)
    corrections.put([1], "-")
    corrections.put([2], None)
    assert Corrections(tmp_path, here).now() == {1: "-", 2: None}
    assert as_trained(here, corrections.path) == ["-", "-", None]


def test_a_damaged_table_is_said_and_left_alone(tmp_path: Path) -> None:
    corrections = Corrections(tmp_path, opened([1, 2], [0, 1]))
    corrections.path.write_text("what,ever\n1,2\n")
    with pytest.raises(SourceError, match="has the columns what, ever"):
        corrections.put([0], "bag")
    assert corrections.path.read_text() == "what,ever\n1,2\n"
