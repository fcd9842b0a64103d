"""What was uploaded becomes a source, whole or not at all, and within its place."""

import io
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from opsin.core.errors import SourceError, StorageError
from opsin.studio.datasets.uploads import TRAY, Uploads
from tests.conftest import shape_image
from tests.server.made_engine import png
from tests.studio.made_jobs import put

HOSTILE = '<img src=x onerror="window.HACKED=1">'


def image(seed: int) -> bytes:
    return png(shape_image("disc", seed))


def packed(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def evil_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("cat/1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("out.zip", packed({"../../out.png": b"x"}), "leads out of it"),
        ("links.tar", evil_tar(), "but 1 link in"),
        ("broken.zip", b"PK\x03\x04 and no more", "broken.zip is damaged"),
        ("empty.zip", packed({}), "has no images"),
        ("deep.zip", packed({"a/" * 80 + "1.png": b"x"}), "has no images"),
    ],
)
def test_archives_that_are_none_leave_nothing(
    uploads: Uploads, tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    file = put(uploads, name, content, 1)
    with pytest.raises(SourceError, match=fault) as caught:
        uploads.finish([file], tmp_path / "images" / "id" / "new")
    assert str(tmp_path) not in str(caught.value)
    assert name in str(caught.value)
    assert not (tmp_path / "images" / "id").exists()
    assert uploads.offset(file["key"]) == 0
    assert not (tmp_path / "out.png").exists()


def laid_out(root: Path) -> list[str]:
    files = filter(Path.is_file, root.rglob("*"))
    return sorted(path.relative_to(root).as_posix() for path in files)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train/cat/1.png", "test/cat/2.png"], ["test/cat/2.png", "train/cat/1.png"]),
        (["all/train/a/1.png", "all/test/a/2.png"], ["test/a/2.png", "train/a/1.png"]),
        (["train/cat/1.png", "train/dog/2.png"], ["train/cat/1.png", "train/dog/2.png"]),
        (["cat/x/1.png", "cat/2.png", "dog/3.png"], ["cat/2.png", "cat/x/1.png", "dog/3.png"]),
        (["heap/x/1.png", "heap/2.png"], []),  # one folder tells no classes apart
        (["a\\cat\\1.png", "a\\dog\\1.png"], ["cat/1.png", "dog/1.png"]),
        ([f"a/pets/{HOSTILE}/deep/2.png", "a/pets/cat/1.png", "a/pets/cat/Thumbs.db"],
         [f"{HOSTILE}/deep/2.png", "cat/1.png"]),
        (["cat/ok.png", "dog/ok.png", ".../x"], ["cat/ok.png", "dog/ok.png"]),
    ],
)  # fmt: skip
def test_folders_become_classes_and_what_is_around_them_is_taken_off(
    uploads: Uploads, tmp_path: Path, paths: list[str], expected: list[str]
) -> None:
    files = [put(uploads, "x.png", image(n), n, path) for n, path in enumerate(paths)]
    uploads.finish(files, tmp_path / "new")
    assert laid_out(tmp_path / "new") == expected
    assert (tmp_path / TRAY).exists() == (not expected)
    assert [uploads.offset(each["key"]) for each in files] == [0] * len(files)


def test_more_images_are_added_and_each_is_kept_once(uploads: Uploads, tmp_path: Path) -> None:
    for seeds in ((1, 2), (3, 2)):
        one = put(uploads, "a.png", image(seeds[0]), 1, "cat/a.png")
        other = put(uploads, "b.png", image(seeds[1]), 2, "dog/b.png")
        uploads.finish([one, other], tmp_path / "set")
    again, *others = laid_out(tmp_path / "set")
    assert others == ["cat/a.png", "dog/b.png"]
    assert re.fullmatch(r"cat/a-[0-9a-f]{16}\.png", again)


@settings(max_examples=30)
@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_it_is_called_it_lies_inside(folder: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        uploads = Uploads(root / "home", 10_000, 10)
        file = put(uploads, "x.png", b"x", 1, f"{folder}/{name}.png")
        try:
            uploads.finish([file], root / "in" / "new", loose="loose")
        except SourceError:
            assert not (root / "in" / "new").exists()
        else:
            assert len(laid_out(root / "in")) == 1
        assert {each.name for each in root.iterdir()} <= {"home", "in"}


def test_a_disk_that_refuses_leaves_all_where_it_was(uploads: Uploads, tmp_path: Path) -> None:
    labels = ("bird", "cat", "dog")
    files = [put(uploads, "1.png", image(n), n, f"{label}/1.png") for n, label in enumerate(labels)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dog").write_bytes(b"a file where the folder would be")
    with pytest.raises(StorageError):
        uploads.finish(files, tmp_path / "set")
    assert [uploads.offset(each["key"]) for each in files] == [each["size"] for each in files]
    assert len(uploads.finish(files, tmp_path / "other")) == 3


def test_archives_of_class_folders_join_what_is_there(uploads: Uploads, tmp_path: Path) -> None:
    into = tmp_path / "id" / "set"
    names = {f"pets/{label}/{n}.png": image(n) for label in "ab" for n in range(2)}
    pets = put(uploads, "pets.zip", packed(names | {"pets/readme.txt": b"x"}), 1)
    more = put(uploads, "more.zip", packed({"3.png": image(3), "c/4.png": image(4)}), 2)
    for archive in (both := [pets, more]):
        uploads.finish([archive], into)
    assert laid_out(into.parent) == [".not-sorted/3.png"] + [
        f"set/{name}.png" for name in ("a/0", "a/1", "b/0", "b/1", "c/4")
    ]
    assert [uploads.offset(each["key"]) for each in both] == [0, 0]


def test_an_archive_with_parts_of_its_own_joins_nothing(uploads: Uploads, tmp_path: Path) -> None:
    names = {f"{part}/{label}/1.png": image(1) for part in ("train", "test") for label in "ab"}
    (tmp_path / "set").mkdir()
    with pytest.raises(SourceError, match="parts for training and test"):
        uploads.finish([put(uploads, "parts.zip", packed(names), 1)], tmp_path / "set")
    assert laid_out(tmp_path / "set") == []
    uploads.finish([put(uploads, "parts.zip", packed(names), 2)], tmp_path / "other")
    assert laid_out(tmp_path / "other") == sorted(names)
    table = put(uploads, "table.zip", packed(names | {"labels.csv": b"path,label\n"}), 3)
    with pytest.raises(SourceError, match=r"^table\.zip holds a table"):
        uploads.finish([table], tmp_path / "third")


def test_nothing_is_written_through_a_link(tmp_path: Path, uploads: Uploads) -> None:
    outside, into = tmp_path / "outside", tmp_path / "home" / "set" / "Shapes"
    outside.mkdir()
    into.mkdir(parents=True)
    (into / "disc").symlink_to(outside)
    with pytest.raises(SourceError, match="is a link"):
        uploads.finish([put(uploads, "1.png", image(1), 1, "all/disc/1.png")], into)
    assert list(outside.iterdir()) == []
