"""Reading goes on where it was ended, whatever ended it, and one process does the work."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from PIL import Image

from opsin.core.errors import StorageError
from opsin.core.events import Watcher
from opsin.core.recipe import DataRecipe
from opsin.data import cache, fill_cache
from opsin.data.dataset import load, read_corrected
from opsin.data.fill_cache import _ROW, _Store
from opsin.data.images import prepare
from tests.conftest import Notes, shape_image, write_shapes

COUNT = 400
no_windows = pytest.mark.skipif(sys.platform == "win32", reason="signals are of another kind there")
_CHILDREN: list[subprocess.Popen[str]] = []

# Reads a folder as `opsin train` would; its arguments are the folder, seconds that each image
# takes longer, a limit for the size of files (0: none), and seconds between two times of saving.
_CHILD = """
import sys, time
from opsin.data import fill_cache
from opsin.data.dataset import fingerprint_of, read_corrected
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher
from opsin.core.recipe import DataRecipe

class Aloud(Watcher):
    def note(self, text):
        print("note:", text, flush=True)
    def advance(self, done, **figures):
        print("done:", done, flush=True)

slowly = float(sys.argv[2])
if slowly:
    quick = fill_cache.prepare
    def slow(*image, **options):
        time.sleep(slowly)
        return quick(*image, **options)
    fill_cache.prepare = slow
if sys.argv[3] != "0":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
fill_cache._SAVED_EVERY = float(sys.argv[4])
try:
    decoded, _ = read_corrected(DataRecipe.of(sys.argv[1]), watcher=Aloud())
    print("fingerprint:", fingerprint_of(decoded))
except OpsinError as error:
    print("error:", error)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Four hundred images, the eleventh of which is none."""
    root = write_shapes(tmp_path / "many", count=COUNT // 2)
    (root / "disc" / "10.png").write_bytes(b"no image")
    return root


def start(
    folder: Path, slowly: float, limit: int = 0, saved_every: float = 0
) -> subprocess.Popen[str]:
    words = map(str, (folder, slowly, limit, saved_every))
    command = [sys.executable, "-W", "error", "-c", _CHILD, *words]
    _CHILDREN.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return _CHILDREN[-1]


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    while _CHILDREN:
        kill(_CHILDREN.pop())


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout
    child.stdout.close()


def wait_for(child: subprocess.Popen[str], beginning: str) -> str:
    assert child.stdout
    for line in child.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"it never said {beginning}")


def as_if_read_at_once(folder: Path, watcher: Watcher) -> None:
    """Check that a set is what it would be without any interruption."""
    data, _ = read_corrected(DataRecipe.of(str(folder)), watcher=watcher)
    assert data.unreadable == [("disc/10.png", "no image of a known format")]
    assert len(data.labels) == COUNT - 1
    for row, name in enumerate(data.names):
        kind, number = name.removesuffix(".png").split("/")
        whole = shape_image(kind, 1000 * len(kind) + int(number))
        assert np.array_equal(data.images[row], whole), name
    assert np.array_equal(data.digests, cache.digest_rows(np.asarray(data.images)))


@no_windows
def test_a_killed_process_loses_little(many: Path, own_cache: Path) -> None:
    child = start(many, 0.004)
    while "done:" not in (line := wait_for(child, "done:")) or int(line.split()[1]) < 150:
        pass
    kill(child)
    assert child.returncode == -signal.SIGKILL
    (folder,) = (path for path in (own_cache / "decoded").iterdir() if path.is_dir())
    assert not (folder / "about.json").exists()
    before = int(np.load(folder / "rows-16.npy")["done"].sum())
    assert 32 <= before < COUNT
    notes = Notes()
    as_if_read_at_once(many, notes)
    assert notes.notes == [f"{before} of 400 images were read before; going on from there"]
    assert notes.totals == [COUNT - before]
    assert (folder / "about.json").exists()


@no_windows
def test_ctrl_c_keeps_what_is_done_and_says_so(many: Path, own_cache: Path) -> None:
    child = start(many, 0.004, saved_every=99)
    wait_for(child, "done:")
    child.send_signal(signal.SIGINT)
    told = wait_for(child, "note: stopped")
    assert "the same command goes on from there" in told
    kept = int(told.split()[2].replace(",", ""))
    assert kept >= 31  # a block of 32, without the broken one
    assert child.communicate()[0] == "interrupted\n"
    assert child.returncode == 0
    notes = Notes()
    as_if_read_at_once(many, notes)
    assert notes.totals == [COUNT - kept]


@pytest.mark.parametrize(("damage", "finished"), [("images-16.npy", False), ("rows-16.npy", True)])
def test_a_damaged_set_is_begun_anew(
    damage: str, finished: bool, many: Path, own_cache: Path
) -> None:
    child = start(many, 0 if finished else 0.004)
    wait_for(child, "fingerprint:" if finished else "done:")
    kill(child)
    (folder,) = (path for path in (own_cache / "decoded").iterdir() if path.is_dir())
    os.truncate(folder / damage, 60)
    notes = Notes()
    as_if_read_at_once(many, notes)
    assert notes.totals == [COUNT]


@pytest.mark.parametrize("content", ["half", "flipped", "empty", "no parts"])
def test_damaged_columns_are_read_anew(content: str, shapes: Path, own_cache: Path) -> None:
    before = load(shapes).fingerprint
    (file,) = (own_cache / "decoded").glob("*/columns.npz")
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"NUMPY") + 200] ^= 1  # a label
    if content == "no parts":
        with np.load(file) as columns:
            np.savez(file, labels=columns["labels"], source_parts=columns["source_parts"][:1])
    else:
        size = {"half": len(whole) // 2, "flipped": len(whole), "empty": 0}[content]
        file.write_bytes(whole[:size])
    assert load(shapes).fingerprint == before
    assert fill_cache._read_set(file.parent)


def test_rows_are_marked_after_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(shape: tuple[int, int, int] = (2, 2, 1)) -> _Store:
        return _Store(tmp_path / "set", 6, shape, 16)

    one = store()
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    known = np.zeros(2, _ROW)
    known["done"] = True, False
    one.put(range(2, 4), images, known)
    synced: list[Path] = []

    def noting(file: Path) -> None:
        assert np.array_equal(np.load(file)[2:4], images)
        assert not np.load(tmp_path / "set" / "rows-16.npy")["done"].any()
        synced.append(file)

    monkeypatch.setattr(fill_cache, "sync", noting)
    one.save()
    assert synced == [tmp_path / "set" / "images-16.npy"]
    assert store().pending(2) == [range(2), range(3, 5), range(5, 6)]
    assert not store((2, 2, 3)).rows["done"].any()


@no_windows
def test_another_process_is_waited_for_and_reads_nothing_again(many: Path, own_cache: Path) -> None:
    first = start(many, 0.004)
    wait_for(first, "done:")
    first.send_signal(signal.SIGSTOP)
    second = start(many, 0)
    assert "another Opsin is reading the same images" in wait_for(second, "note:")
    first.send_signal(signal.SIGCONT)
    said = [child.communicate(timeout=120)[0] for child in (first, second)]
    assert len({text.split("fingerprint: ")[1] for text in said}) == 1
    assert "done:" not in said[1]
    as_if_read_at_once(many, Notes())


def test_an_unwritable_cache(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="set OPSIN_CACHE to another folder, and run again"):
        load(shapes)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "another"))
    assert len(load(shapes)) == 24
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no such limit there")
def test_a_full_disk_is_told_and_leaves_nothing_half_done(many: Path, own_cache: Path) -> None:
    child = start(many, 0, 100_000)
    told = wait_for(child, "error:")
    assert "Free some space" in told
    child.communicate()
    assert not [path for path in (own_cache / "decoded").iterdir() if path.is_dir()]
    as_if_read_at_once(many, Notes())


class Changing(Notes):
    """Changes a collection once it is listed, as its first images are read."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def begin(self, what: str, total: int, unit: str) -> None:
        if not self.begun:
            (self.folder / "disc" / "3.png").unlink()
            Image.fromarray(shape_image("disc", 77)).save(self.folder / "square" / "4.png")
            shutil.copytree(self.folder / "disc", self.folder / "another")
        super().begin(what, total, unit)


@pytest.mark.parametrize("size", [None, 32])
def test_a_collection_changes_meanwhile(size: int | None, tmp_path: Path, own_cache: Path) -> None:
    """What was read is what is used; the next reading sees what is there then."""
    root = write_shapes(tmp_path / "photos")
    first = load(root, watcher=Changing(root), size=size, max_unreadable=0.1)
    assert first.classes == ("disc", "square")
    assert [name for name, _ in first.unreadable] == ["disc/3.png"]
    again = load(root, size=size)
    assert again.classes == ("another", "disc", "square")
    assert (len(again), again.unreadable) == (34, [])
    # Rewritten in between: the pixels of both times are those of the file as it was read.
    rows = [data.names.index("square/4.png") for data in (first, again)]
    digests = [data.source_digests[row] for data, row in zip((first, again), rows, strict=True)]
    assert (digests[0] == digests[1]).all()
    assert np.array_equal(first.images[rows[0]], again.images[rows[1]])


def test_unfinished_sets_are_swept_after_a_week(shapes: Path, own_cache: Path) -> None:
    places = own_cache / "decoded"
    for name, days in (("old", 8), ("fresh", 6), ("locked", 8), ("whole", 8)):
        (places / name).mkdir(parents=True)
        whole = [places / name / "about.json"] if name == "whole" else []
        for file in (places / name / "rows-16.npy", places / f"{name}.lock", *whole):
            file.touch()
            os.utime(file, (time.time() - days * 86_400,) * 2)
    with filelock.FileLock(places / "locked.lock"):
        os.utime(places / "locked.lock", (time.time() - 8 * 86_400,) * 2)
        load(shapes)
    left = {path.name for path in places.iterdir() if path.is_dir()}
    assert len(left) == 4
    assert left > {"fresh", "locked", "whole"}


@pytest.fixture
def read(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded."""
    names: list[str] = []

    def counted(*image: Any, **options: Any) -> Any:
        names.append(image[2])
        return prepare(*image, **options)

    monkeypatch.setattr(fill_cache, "prepare", counted)
    return names


@pytest.mark.parametrize("options", [{}, {"size": (9, 9), "channels": 3}])
def test_each_file_is_read_once_for_each_preparation(
    shapes: Path, read: list[str], options: dict[str, Any]
) -> None:
    data = load(shapes, **options)
    # As it is wanted and, to find near duplicates whatever that is, as images are by default.
    assert sorted(read) == sorted(data.names * (2 if options else 1))


def test_an_image_that_another_set_holds_is_not_decoded_again(
    shapes: Path, tmp_path: Path, read: list[str]
) -> None:
    before, _ = read_corrected(DataRecipe.of(str(shapes)))
    more = shutil.copytree(shapes, tmp_path / "more")
    Image.fromarray(shape_image("cross", 5)).save(more / "disc" / "0.png")
    read.clear()
    found, _ = read_corrected(DataRecipe.of(str(more)))
    assert read == ["disc/0.png"]
    same = [row for row, name in enumerate(found.names) if name not in read]
    for part in ("images", "digests", "source_digests", "sizes", "ranges"):
        assert np.array_equal(getattr(found, part)[same], getattr(before, part)[same])


def test_pixels_that_another_set_has_lost_are_decoded_again(
    shapes: Path, tmp_path: Path, own_cache: Path, read: list[str]
) -> None:
    before, _ = read_corrected(DataRecipe.of(str(shapes)))
    (file,) = own_cache.glob("decoded/*/images-16.npy")
    np.load(file, mmap_mode="r+")[0] = 0
    read.clear()
    found, _ = read_corrected(DataRecipe.of(str(shutil.copytree(shapes, tmp_path / "more"))))
    assert read == before.names[:1]
    assert found.images[0].any()
