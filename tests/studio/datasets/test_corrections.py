"""Corrections in the studio: what is shown is what training does, and all of it can be undone."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import SourceError, StorageError
from opsin.data.cache import digest_rows
from opsin.data.corrections import Decoded, correct
from opsin.studio.datasets import album, photo_files
from opsin.studio.datasets.album import OUT, Corrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.photo_files import PhotoFiles

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
    return DecodedDataset("a" * 16, decoded, "")


class Window:
    """What a page does with the labels of a dataset."""

    def __init__(self, folder: Path, here: DecodedDataset) -> None:
        self.here, self.table = here, folder / "corrections.csv"
        self.labels = Corrections(self.table, here)
        self.files, self.lock = PhotoFiles(folder, None), threading.RLock()

    def put(self, rows: Sequence[int] | frozenset[int], class_: str | None) -> bool:
        """Give images a class, leave them out, or (``-``) take that back; whether any changed."""
        word = {"-": None, None: ""}.get(class_, class_)
        with self.lock:
            changes = self.labels.changes(rows, word)
            self.files.make("", (), changes, self.labels)
        return bool(changes)

    def undo(self) -> bool:
        noted = bool(self.files.changes())
        self.files.undo()
        return noted

    def shown(self) -> list[str | None]:
        labels = self.labels.labels.tolist()
        return [None if label == OUT else self.here.classes[label] for label in labels]

    def changed(self) -> dict[int, str | None]:
        own = [self.here.classes[label] for label in self.here.decoded.labels]
        return {row: now for row, now in enumerate(self.shown()) if now != own[row]}

    def trained(self) -> list[str | None]:
        """The class of each image as `opsin train --labels` sees it, None where left out."""
        if not self.table.exists():
            return [self.here.classes[label] for label in self.here.decoded.labels]
        corrected = correct(self.here.decoded, self.table)
        said: list[str | None] = [None] * len(self.here)
        for row, label in zip(corrected.rows, corrected.labels, strict=True):
            said[row] = self.here.classes[label]
        return said


Steps = list[tuple[str, frozenset[int], str | None]]
steps: st.SearchStrategy[Steps] = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "undo", "undo", "restart"]),
        st.frozensets(st.integers(0, 5), min_size=1, max_size=4),
        st.sampled_from([*CLASSES, None, "-"]),
    ),
    max_size=10,
)


@given(steps=steps)
def test_what_is_shown_is_trained(steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("set")
    # 0 and 1 are the same to the pixel, 4 and 5 in name as well: no table can tell these apart.
    # Of 6, nothing is ever said: one image must remain.
    names = ["a", "b", "c\udcff", "d, e", "f", "f", "g"]
    here = opened([7, 7, 8, 9, 5, 5, 1], [0, 1, 2, 0, 1, 1, 2], names)
    window = Window(folder, here)
    states = [window.shown()]
    for do, rows, class_ in steps:
        if do == "restart":
            window = Window(folder, here)
        elif do == "put":
            if window.put(rows, class_):
                states.append(window.shown())
        else:
            assert window.undo() == (len(states) > 1)
            states = states[: max(1, len(states) - 1)]
        assert window.shown() == window.trained() == states[-1]
        assert len(window.files.changes()) == len(states) - 1


def refuse(*_: object) -> None:
    raise StorageError("There is no room on the disk", "Make some.")


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [(photo_files, "write_json", refuse), (album, "write_corrections", refuse),
     (album, "write_corrections", killed)],
)  # fmt: skip
def test_what_finds_no_room_or_is_interrupted_is_not_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    fault: Callable[..., None],
) -> None:
    window = Window(tmp_path, opened([1, 2, 3], [0, 0, 1]))
    window.put([0], "bag")
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fault)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            window.put([1], "bag")
        with pytest.raises((StorageError, KeyboardInterrupt)):
            window.undo()
    assert len(window.files.changes()) == 1
    assert window.undo()
    assert window.changed() == {}


def test_killed_between_the_note_and_the_table(tmp_path: Path) -> None:
    window = Window(tmp_path, opened([1, 2, 3], [0, 0, 1]))
    window.put([0], "bag")
    before = window.table.read_bytes()
    window.put([1], None)
    window.table.write_bytes(before)  # the second change is noted, its table is not written
    again = Window(tmp_path, window.here)
    assert again.shown() == again.trained() == ["bag", "boot", "bag"]
    assert again.undo()
    assert again.changed() == {0: "bag"}
    assert again.undo()
    assert again.changed() == {}


def test_damaged_changes_cost_the_steps_alone(tmp_path: Path) -> None:
    window = Window(tmp_path, opened([1, 2, 3], [0, 0, 1]))
    window.put([0], "bag")
    (tmp_path / "changes.json").write_text('[{"text": 1', encoding="utf-8")
    again = Window(tmp_path, window.here)
    assert (again.changed(), again.undo()) == ({0: "bag"}, False)
    again.put([1], "bag")
    assert Window(tmp_path, window.here).undo()


def test_a_table_that_somebody_edited_counts(tmp_path: Path) -> None:
    window = Window(tmp_path, opened([1, 2, 3], [0, 0, 1]))
    window.put([0], "bag")
    window.table.write_text("name,label\n1.png,bag\n2.png,-\n", encoding="utf-8")
    assert window.changed() == {1: "bag", 2: None}
    window.put([1], None)  # of an image that the table knows by its name alone
    assert window.changed() == {1: None, 2: None}
    assert window.undo()
    assert window.changed() == {1: "bag", 2: None}
    assert window.undo()  # what is not there any more is not brought back
    assert window.changed() == {1: "bag", 2: None}


def test_some_image_remains(tmp_path: Path) -> None:
    window = Window(tmp_path, opened([1, 2], [0, 1]))
    with pytest.raises(SourceError, match="would be left out"):
        window.put([0, 1], None)
    assert window.changed() == {}
    assert not window.table.exists()


def test_a_class_that_is_called_like_the_mark(tmp_path: Path) -> None:
    here = opened([1, 2, 3], [0, 1, 1], classes=("-", "bag"))
    window = Window(tmp_path, here)
    window.files.make("", (), window.labels.changes([1], "-"), window.labels)
    window.put([2], None)
    assert window.shown() == window.trained() == ["-", "-", None]


def test_a_damaged_table_is_said_and_left_alone(tmp_path: Path) -> None:
    window = Window(tmp_path, opened([1, 2], [0, 1]))
    window.table.write_text("what,ever\n1,2\n")
    with pytest.raises(SourceError, match="has the columns what, ever"):
        window.put([0], "bag")
    assert window.table.read_text() == "what,ever\n1,2\n"
