"""What was uploaded becomes a source, whole or not at all, and within its place."""

from __future__ import annotations

import base64
import io
import os
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi")
from opsin.core.errors import SourceError, StorageError
from opsin.data.dataset import look_at
from opsin.studio.datasets.upload_import import SentFile, arrange, class_name, file_name
from opsin.studio.datasets.uploads import Uploads
from opsin.studio.runs.prediction_session import Kept, _upright
from tests.conftest import shape_image
from tests.server.made_engine import png

BATCH = "00000000000000ba"
HOSTILE = '<img src=x onerror="window.HACKED=1">'


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "home", most_bytes=3_000_000, most_files=20)


def image(seed: int) -> bytes:
    return png(shape_image("disc", seed))


def put(uploads: Uploads, name: str, content: bytes, key: int, path: str = "") -> SentFile:
    """Upload a file whole; return what a browser says of it."""
    text = f"{key:016x}"
    uploads.append(text, 0, content)
    return {"key": text, "name": name, "path": path, "size": len(content)}


def packed(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_zip_is_kept_and_can_be_read(uploads: Uploads, tmp_path: Path) -> None:
    names = {
        f"shapes/{label}/{number}.png": image(number)
        for label in ("cat", HOSTILE)
        for number in range(3)
    }
    file = put(uploads, "pets.zip", packed(names), 1)
    source = uploads.finish(BATCH, [file], tmp_path / "images" / "id" / "My pets")
    assert source == tmp_path / "images" / "id" / "My pets.zip"  # as people call it
    assert look_at(str(source)).classes == (HOSTILE, "cat")
    assert uploads.offset(file["key"]) == 0


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
        ("links.tar", evil_tar(), "holds none, but 1 link in"),
        ("broken.zip", b"PK\x03\x04 and no more", "broken.zip is damaged"),
        ("flat.zip", packed({f"{n}.png": b"x" for n in range(3)}), "3 images and no folders"),
        ("empty.zip", packed({}), "holds none"),
        ("deep.zip", packed({"a/" * 80 + "1.png": b"x"}), "holds none"),
    ],
)
def test_archives_that_are_none_leave_nothing(
    uploads: Uploads, tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    file = put(uploads, name, content, 1)
    with pytest.raises(SourceError, match=fault) as caught:
        uploads.finish(BATCH, [file], tmp_path / "images" / "id" / "new")
    assert str(tmp_path) not in str(caught.value)
    assert name in str(caught.value)
    assert not (tmp_path / "images" / "id").exists()
    assert uploads.offset(file["key"]) == 0
    assert not (tmp_path / "out.png").exists()


def laid_out(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)).replace(os.sep, "/")
        for path in root.rglob("*")
        if path.is_file()
    )


def test_folders_become_classes_and_what_is_around_them_is_taken_off(
    uploads: Uploads, tmp_path: Path
) -> None:
    files = [
        put(uploads, "1.png", image(1), 1, "holiday/pets/cat/1.png"),
        put(uploads, "1.png", image(2), 2, "holiday/pets/dog/1.png"),
        put(uploads, "2.png", image(3), 3, f"holiday/pets/{HOSTILE}/deep/2.png"),
        put(uploads, "Thumbs.db", b"litter", 4, "holiday/pets/cat/Thumbs.db"),
    ]
    root = uploads.finish(BATCH, files, tmp_path / "images" / "new")
    assert laid_out(root) == [f"{HOSTILE}/deep/2.png", "cat/1.png", "dog/1.png"]
    assert uploads.offset(files[3]["key"]) == 0


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train/cat/1.png", "test/cat/2.png"], ["test/cat/2.png", "train/cat/1.png"]),
        (["all/train/a/1.png", "all/test/a/2.png"], ["test/a/2.png", "train/a/1.png"]),
        (["train/cat/1.png", "train/dog/2.png"], ["train/cat/1.png", "train/dog/2.png"]),
        (["cat/1.png", "cat/2.png"], ["cat/1.png", "cat/2.png"]),
        (["cat/x/1.png", "cat/2.png"], ["cat/2.png", "cat/x/1.png"]),
        (["a\\cat\\1.png", "a\\dog\\1.png"], ["cat/1.png", "dog/1.png"]),
    ],
)
def test_the_layouts_of_sources_are_kept(
    uploads: Uploads, tmp_path: Path, paths: list[str], expected: list[str]
) -> None:
    files = [
        put(uploads, "x.png", image(number), number, path) for number, path in enumerate(paths)
    ]
    assert laid_out(uploads.finish(BATCH, files, tmp_path / "new")) == expected


def test_images_without_a_folder_need_a_class(uploads: Uploads, tmp_path: Path) -> None:
    files = [
        put(uploads, "1.png", image(1), 1),
        put(uploads, "2.png", image(2), 2, "cat/2.png"),
    ]
    into = tmp_path / "images" / "new"
    with pytest.raises(SourceError, match="1 of 2 came without"):
        uploads.finish(BATCH, files, into)
    assert not into.exists()
    assert laid_out(uploads.finish(BATCH, files, into, loose=" boot ")) == [
        "boot/1.png", "cat/2.png",
    ]  # fmt: skip


def test_photos_of_a_telephone_and_rare_formats_are_taken(uploads: Uploads, tmp_path: Path) -> None:
    heic = base64.b64decode((Path(__file__).parents[2] / "data/telephone.heic.txt").read_bytes())
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "TGA")
    files = [
        put(uploads, "IMG_1.HEIC", heic, 1, "pets/cat/IMG_1.HEIC"),
        put(uploads, "1.tga", stream.getvalue(), 2, "pets/dog/1.tga"),
    ]
    root = uploads.finish(BATCH, files, tmp_path / "pets")
    assert laid_out(root) == ["cat/IMG_1.HEIC", "dog/1.tga"]
    # Browsers cannot show either: what they get is PNG.
    for name in ("cat/IMG_1.HEIC", "dog/1.tga"):
        shown = _upright(Kept(name, (root / name).read_bytes()))
        assert Image.open(io.BytesIO(shown)).format == "PNG"


def test_what_is_to_be_classified_needs_no_classes_and_keeps_its_names(
    uploads: Uploads, tmp_path: Path
) -> None:
    file = put(uploads, "flat.zip", packed({"1.png": image(1)}), 1)
    source = uploads.finish(BATCH, [file], tmp_path / "tried" / "flat", labelled=False)
    assert source == tmp_path / "tried" / "flat.zip"
    files = [
        put(uploads, "IMG 1.png", image(1), 1),
        put(uploads, "IMG 2.png", image(2), 2, "holiday/beach/IMG 2.png"),
    ]
    root = uploads.finish(BATCH, files, tmp_path / "tried" / "some", labelled=False)
    assert laid_out(root) == ["IMG 1.png", "holiday/beach/IMG 2.png"]


def test_what_can_never_be_a_source_is_named_and_forgotten(
    uploads: Uploads, tmp_path: Path
) -> None:
    files = [
        put(uploads, "plan.psd", b"8BPS", 1),
        put(uploads, "notes.pdf", b"%PDF", 2),
    ]
    with pytest.raises(SourceError, match=r"'plan\.psd', 'notes\.pdf': that is none") as refused:
        uploads.finish(BATCH, files, tmp_path / "new")
    assert "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC" in refused.value.advice
    assert [uploads.offset(each["key"]) for each in files] == [0, 0]


def test_of_many_images_with_one_name_none_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "up"
    folder.mkdir()
    files = {}
    for number in range(2_000):
        path = folder / str(number)
        path.write_bytes(number.to_bytes(2))
        files[path] = "image.png"
    root = arrange(files, tmp_path / "set", loose="cat")
    assert len(laid_out(root)) == 2_000


def test_more_images_are_added_and_the_same_one_is_kept_once(
    uploads: Uploads, tmp_path: Path
) -> None:
    for seeds in ((1, 2), (3, 2)):
        files = [
            put(uploads, "a.png", image(seeds[0]), 1, "cat/a.png"),
            put(uploads, "b.png", image(seeds[1]), 2, "dog/b.png"),
        ]
        root = uploads.finish(BATCH, files, tmp_path / "set")
    again, *others = laid_out(root)
    assert others == ["cat/a.png", "dog/b.png"]
    assert re.fullmatch(r"cat/a-[0-9a-f]{16}\.png", again)


@pytest.mark.parametrize(
    "path", ["../../out.png", "cat/../../../out.png", "a/\0/1.png", ".../x", "a/" * 40 + "1.png"]
)
def test_names_that_lead_elsewhere_are_refused_and_nothing_is_moved(
    uploads: Uploads, tmp_path: Path, path: str
) -> None:
    files = [put(uploads, "ok.png", image(1), 1, "cat/ok.png"), put(uploads, "x", b"x", 2, path)]
    if path == ".../x":  # a strange name, and no way out: it is no image, that is all
        assert laid_out(uploads.finish(BATCH, files, tmp_path / "new")) == ["cat/ok.png"]
        return
    with pytest.raises(SourceError):
        uploads.finish(BATCH, files, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert uploads.offset(files[0]["key"]) > 0


@settings(max_examples=30)
@given(st.text(max_size=300), st.text(max_size=300), st.booleans())
def test_whatever_it_is_called_it_lies_inside(folder: str, name: str, labelled: bool) -> None:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        uploads = Uploads(root / "home", 10_000, 10)
        file = put(uploads, "x.png", b"x", 1, f"{folder}/{name}.png")
        try:
            uploads.finish(BATCH, [file], root / "in" / "new", loose="loose", labelled=labelled)
        except SourceError:
            assert not (root / "in" / "new").exists()
        else:
            assert len(laid_out(root / "in")) == 1
        assert {each.name for each in root.iterdir()} <= {"home", "in"}


def test_a_disk_that_refuses_leaves_everything_where_it_was(
    uploads: Uploads, tmp_path: Path
) -> None:
    labels = ("bird", "cat", "dog")
    files = [put(uploads, "1.png", image(n), n, f"{label}/1.png") for n, label in enumerate(labels)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dog").write_bytes(b"a file where the folder would be")
    with pytest.raises(StorageError) as caught:
        uploads.finish(BATCH, files, tmp_path / "set")
    assert str(tmp_path) not in str(caught.value)
    assert [uploads.offset(each["key"]) for each in files] == [each["size"] for each in files]
    assert uploads.finish(BATCH, files, tmp_path / "other").is_dir()


def test_half_a_file_is_not_used(uploads: Uploads, tmp_path: Path) -> None:
    file = put(uploads, "a.png", image(1), 1, "cat/a.png") | {"size": 10**6}
    with pytest.raises(SourceError, match=r"'a\.png' has not"):
        uploads.finish(BATCH, [file], tmp_path / "new")


def test_an_archive_is_not_added_to_other_images_and_is_kept(
    uploads: Uploads, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    content = packed({f"{label}/{n}.png": image(n) for label in "ab" for n in range(2)})
    file = put(uploads, "pets.zip", content, 1)
    with pytest.raises(SourceError, match="a set by itself"):
        uploads.finish(BATCH, [file], tmp_path / "set")
    assert uploads.finish(BATCH, [file], tmp_path / "other").is_file()


@settings(max_examples=200)
@example("\ufb2a and e\x00\u0301")
@given(st.text(max_size=300))
def test_what_people_call_a_set_its_folder_is_called(title: str) -> None:
    name = file_name(title)
    assert name == class_name(name)
    assert len(name.encode()) <= 200
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["pets.parquet", "pets.tar"])
def test_a_table_and_a_shard_are_sets_by_themselves(
    name: str, uploads: Uploads, tmp_path: Path
) -> None:
    file = tmp_path / name
    labels = ["cat", "dog"] * 3
    if name.endswith(".parquet"):
        columns = {"image": [image(n) for n in range(6)], "label": labels}
        pq.write_table(pa.table(columns), file)
    else:
        with tarfile.open(file, "w") as shard:
            for number, label in enumerate(labels):
                for ending, content in (("png", image(number)), ("cls", label.encode())):
                    member = tarfile.TarInfo(f"{number}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    sent = put(uploads, name, file.read_bytes(), 1)
    source = uploads.finish(BATCH, [sent], tmp_path / "images" / "id" / "My pets")
    assert source.name == f"My pets{file.suffix}"
    assert look_at(source).classes == ("cat", "dog")


def test_a_damaged_table_is_refused_by_its_own_name(uploads: Uploads, tmp_path: Path) -> None:
    sent = put(uploads, "pets.parquet", b"PAR1 and nothing", 1)
    with pytest.raises(SourceError, match=r"pets\.parquet") as raised:
        uploads.finish(BATCH, [sent], tmp_path / "images" / "id" / "My pets")
    assert str(tmp_path) not in str(raised.value)
