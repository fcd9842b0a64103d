"""Archives: every kind, any wrapping, and nothing that a hostile one can do."""

import gzip
import io
import random
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from opsin.core.errors import OpsinError, SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import images, sources
from opsin.data.cache import cache_root
from opsin.data.sources import archive, open_stream, rows
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN
from tests.conftest import Notes, write_zip
from tests.data.sources.conftest import opened, paths_of
from tests.data.sources.test_arrays import write_pair

KINDS = {".zip": "", ".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".tar.bz2": "bz2"}
CLASSES = {"cat/1.png": b"a", "cat/2.png": b"b", "dog/1.png": b"c"}

pytestmark = pytest.mark.usefixtures("cache")


def pack(path: Path, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Path:
    """Pack files of any names, in the way of the suffix; pairs may have a name twice."""
    files = list(files.items() if isinstance(files, Mapping) else files)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate name")
            for name, content in files:
                packed.writestr(name, content)
        return path
    kind = KINDS["".join(path.suffixes[-2:]) if ".tar" in path.suffixes else path.suffix]
    with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pack_special(path: Path, files: Mapping[str, bytes], kind: bytes, target: str = "") -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        special = tarfile.TarInfo("cat/special.png")
        special.type, special.linkname = kind, target
        tar.addfile(special)
    return path


def refused(path: Path, words: str) -> None:
    """See that an archive is refused, unpacked and streamed alike, and leaves nothing."""
    before = unpacked()
    with pytest.raises(SourceError, match=words):
        opened(path)
    with pytest.raises(SourceError, match=words):
        list(open_stream(path))
    assert unpacked() == before


def left_out_of(contents: LabelledImages) -> dict[str, int]:
    return {each.kind: each.count for each in contents.left_out}


def unpacked() -> set[Path]:
    return set((cache_root() / "unpacked").glob("*"))


@pytest.mark.parametrize("suffix", KINDS)
def test_each_kind_is_unpacked_once(tmp_path: Path, cache: Path, suffix: str) -> None:
    path = pack(tmp_path / f"set{suffix}", CLASSES)
    watcher = Notes()
    contents = opened(path, watcher=watcher)
    assert contents.names == list(CLASSES)
    assert contents.classes == ("cat", "dog")
    assert contents.source == str(path)
    assert [image.read_bytes() for image in paths_of(contents)] == [b"a", b"b", b"c"]
    assert watcher.begun == [("Unpack", path.stat().st_size, "B")]
    assert watcher.done[-1] == path.stat().st_size
    opened(path, watcher=watcher)
    assert len(watcher.begun) == 1
    shutil.rmtree(cache / "unpacked")
    assert opened(path, watcher=watcher).names == list(CLASSES)


@pytest.mark.parametrize("wrapping", ["", "./", "set/", "a/b/c/", "train images/"])
def test_wrapping_folders_are_taken_off(tmp_path: Path, wrapping: str) -> None:
    files = {f"{wrapping}{name}": content for name, content in CLASSES.items()}
    litter = {
        "__MACOSX/cat/._1.png": b"x",
        ".DS_Store": b"x",
        "__MACOSX/1.png": b"x",
        f"{wrapping}README.md": b"x",
        f"{wrapping}cat/Thumbs.db": b"x",
    }
    path = pack(tmp_path / "set.zip", files | litter)
    assert opened(path).names == list(CLASSES)


def test_parts_and_classes_are_no_wrapping(tmp_path: Path) -> None:
    contents = opened(pack(tmp_path / "only.zip", {f"w/train/{name}": b"x" for name in CLASSES}))
    assert contents.names == [f"train/{name}" for name in CLASSES]
    assert set(contents.source_parts.tolist()) == {TRAIN}
    both = {f"{part}/{name}": b"x" for part in ("train", "test") for name in CLASSES}
    contents = opened(pack(tmp_path / "both.tar", both))
    assert sorted(set(contents.source_parts.tolist())) == [TRAIN, TEST]
    # A test part alone is a wrapping.
    test = opened(pack(tmp_path / "test.zip", {f"test/{name}": b"x" for name in CLASSES}))
    assert test.names == list(CLASSES)
    one = opened(pack(tmp_path / "one.zip", {"cat/1.png": b"x", "cat/2.png": b"x"}))
    assert one.classes == ("cat",)


def test_a_table_inside(tmp_path: Path) -> None:
    text = b"file,label\nimages/1.png,cat\nimages/2.png,dog\n"
    files = {
        "set/labels.csv": text,
        "set/images/1.png": b"a",
        "set/images/2.png": b"b",
        "set/notes.csv": b"when,who\n1,2\n",
    }
    path = pack(tmp_path / "set.tar", files)
    columns = {"path": "file"}
    contents = opened(path, columns=columns)
    assert contents.names == ["images/1.png", "images/2.png"]
    assert contents.classes == ("cat", "dog")
    keys = {sources.find_all(DataRecipe.of(str(path), columns=c)).key for c in (None, columns)}
    assert len(keys) == 2
    files["set/more.csv"] = text
    with pytest.raises(
        SourceError, match=r"two\.tar\S* has several tables or arrays: labels.csv, more.csv"
    ) as caught:
        opened(pack(tmp_path / "two.tar", files), columns=columns)
    assert "unpacked" not in str(caught.value)


def test_a_table_inside_names_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    for name in ("../../../secret.png", str(tmp_path / "secret.png"), "..\\secret.png"):
        text = f"path,label\n1.png,cat\n{name},dog\n".encode()
        path = pack(tmp_path / f"{len(name)}.zip", {"w/set.csv": text, "w/1.png": b"x"})
        with pytest.raises(SourceError, match="never in an archive"):
            opened(path, follow_links=True, outside=True)


def test_metadata_arrays_and_idx_files_inside(tmp_path: Path) -> None:
    metadata = {
        "w/train/metadata.csv": b"file_name,label\n1.png,cat\n2.png,dog\n",
        "w/train/1.png": b"x",
        "w/train/2.png": b"x",
    }
    assert opened(pack(tmp_path / "metadata.zip", metadata)).classes == ("cat", "dog")
    file = io.BytesIO()
    np.savez(file, images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    assert len(opened(pack(tmp_path / "npz.zip", {"w/set.npz": file.getvalue()}))) == 4
    (tmp_path / "idx").mkdir()
    write_pair(tmp_path / "idx", "train", 9, packed=True)
    files = {f"raw/{file.name}": file.read_bytes() for file in (tmp_path / "idx").iterdir()}
    assert len(opened(pack(tmp_path / "idx.tgz", files))) == 9


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    "name",
    ["../out.png", "cat/../../out.png", "/out.png", "C:/out.png", "c:out.png", "..\\out.png",
     "\\out.png", "cat/..", "../out.txt"],
)  # fmt: skip
def test_names_that_lead_out_refuse_the_archive(tmp_path: Path, suffix: str, name: str) -> None:
    refused(pack(tmp_path / f"set{suffix}", CLASSES | {name: b"x"}), "a name that leads out of it")
    assert not list(tmp_path.rglob("out.*"))


def test_a_nul_in_a_name_refuses_the_archive(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.zip", CLASSES | {"cat/x!y.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"x!y", b"x\0y"))
    refused(path, r"a name that leads|damaged")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes_refuse_the_archive(tmp_path: Path, kind: bytes) -> None:
    packed = pack_special(tmp_path / "set.tar", CLASSES, kind)
    refused(packed, r"a device or pipe: 'cat/special\.png'")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "1.png"])
def test_links_are_passed_over_and_counted(tmp_path: Path, kind: bytes, target: str) -> None:
    path = pack_special(tmp_path / "set.tar", CLASSES, kind, target)
    contents = opened(path, follow_links=True)
    assert contents.names == list(CLASSES)
    assert left_out_of(contents) == {"link in the archive": 1}
    watcher = Notes()
    assert len(list(open_stream(path, watcher=watcher))) == len(CLASSES)
    assert watcher.notes == ["Left out: 1 link in the archive (cat/special.png)"]


def test_links_in_a_zip_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.zip", CLASSES)
    with zipfile.ZipFile(path, "a") as packed:
        for name, kind in (("cat/link.png", stat.S_IFLNK), ("cat/file.png", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            packed.writestr(info, "/etc/passwd")
    contents = opened(path)
    assert "cat/file.png" in contents.names
    assert not any("link" in name for name in contents.names)
    assert {each.name for each in open_stream(path)} == set(contents.names)
    assert left_out_of(contents) == {"link in the archive": 1}
    with zipfile.ZipFile(path, "a") as packed:
        info = zipfile.ZipInfo("cat/pipe.png")
        info.create_system, info.external_attr = 3, stat.S_IFIFO << 16
        packed.writestr(info, "")
    refused(path, "a device or pipe")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(archive, "SPARE_BYTES", 1_000_000)
    path = pack(tmp_path / f"set{suffix}", CLASSES | {"dog/2.png": bytes(20_000_000)})
    refused(path, "more bytes than any honest one")
    path = pack(tmp_path / f"other{suffix}", {"big.bin": bytes(20_000_000)} | CLASSES)
    refused(path, "more bytes than any honest one")  # though it does not matter
    monkeypatch.setattr(archive, "SPARE_BYTES", 50_000_000)
    assert len(opened(path)) == 3


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    for suffix in (".zip", ".tar"):
        assert len(opened(pack(tmp_path / f"three{suffix}", CLASSES))) == 3
        four = pack(tmp_path / f"four{suffix}", CLASSES | {"dog/2.txt": b""})
        refused(four, "more members than any honest one")


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "DISK_SHARE", 0.0)
    with pytest.raises(SourceError, match="would fill more than 0% of the free disk"):
        opened(pack(tmp_path / "set.zip", CLASSES))
    assert not unpacked()


def test_a_damaged_member_of_a_zip_is_left_out_and_counted(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.zip", CLASSES | {"dog/2.png": bytes(5000)})
    content = path.read_bytes()
    assert content.count((5000).to_bytes(4, "little")) == 2
    # A size that only the header states is not believed.
    path.write_bytes(content.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    contents = opened(path)
    assert contents.names == list(CLASSES)
    assert left_out_of(contents) == {"damaged file": 1}
    names = (*CLASSES, "dog/2.png")
    write_zip(path, {each: f"the bytes of {each}".encode() for each in names}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"the bytes of cat/1", b"not bytes of cat/1"))
    for _ in range(2):  # the second time from the cache
        contents = opened(path)
        assert contents.names == ["cat/2.png", "dog/1.png", "dog/2.png"]
        assert [(each.kind, each.examples) for each in contents.left_out] == [
            ("damaged file", ["cat/1.png"])
        ]


def test_a_huge_header_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_HEADER", 10_000)
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("cat/1.png")
        info.pax_headers = {"comment": "x" * 1_000_000}
        tar.addfile(info)
    refused(path, "impossibly large")


def test_sparse_files_count_with_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SPARE_BYTES", 1_000_000)
    info = tarfile.TarInfo("cat/1.png")
    info.size = 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398] = b"%011o " % 0  # one piece: from 0, no bytes
    header[398:410] = b"%011o " % 0
    header[483:495] = b"%011o " % 50_000_000  # the size with its hole
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "set.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    refused(path, "more bytes than any honest one")


def test_a_password_is_said(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.zip", CLASSES)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + place] |= 1
    path.write_bytes(content)
    refused(path, "is encrypted")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = random.Random(0)
    files = {f"{kind}/{i}.png": noise.randbytes(3000) for kind in ("a", "b") for i in range(5)}
    path = pack(tmp_path / f"set{suffix}", files)
    content = path.read_bytes()
    # A plain tar has zeros behind its end mark, which may be missing.
    size = 10 * (512 + 3072) if suffix == ".tar" else len(content)
    path.write_bytes(content[: int(share * size)])
    refused(path, "damaged or cut short")
    # A plain tar has no checksum behind its end.
    if suffix == ".tgz":
        path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
        refused(path, "damaged or cut short")


def test_a_tar_whose_middle_is_damaged_does_not_end_there(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in CLASSES:
            info = tarfile.TarInfo(name)
            info.pax_headers = {"comment": name}
            tar.addfile(info)
    path.write_bytes(path.read_bytes().replace(b"21 comment=cat/2", b"00 comment=cat/2"))
    refused(path, "damaged or cut short")


def test_a_size_below_zero_does_not_lead_backwards(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("cat/1.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = pack(tmp_path / "set.tar", CLASSES)
    path.write_bytes(bytes(header) + path.read_bytes())
    refused(path, "leads backwards|damaged")


@settings(max_examples=60)
@given(data=st.data(), suffix=st.sampled_from([".zip", ".tar", ".tgz"]))
def test_any_damage_is_an_explained_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    path = pack(tmp_path_factory.mktemp("damage") / f"set{suffix}", CLASSES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for read in (opened, lambda path: list(open_stream(path))):
        try:
            read(path)
        except OpsinError as error:
            assert str(path) in str(error)


def test_names_in_any_script(tmp_path: Path) -> None:
    files = {"猫/写真 1.png": b"a", "Ünïcode/é.png": b"b"}
    unpacked = [opened(pack(tmp_path / f"set{suffix}", files)) for suffix in (".zip", ".tar.xz")]
    for contents in unpacked:
        assert set(contents.classes) == {"猫", "Ünïcode"}
    # Many packers write UTF-8 and do not say so.
    path = tmp_path / "unsaid.zip"
    path.write_bytes((tmp_path / "set.zip").read_bytes())
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + place] &= ~0x08
    path.write_bytes(content)
    assert set(opened(path).classes) == {"猫", "Ünïcode"}


def test_backslashes_of_old_packers_part_folders(tmp_path: Path) -> None:
    files = {name.replace("/", "!"): content for name, content in CLASSES.items()}
    path = pack(tmp_path / "set.zip", files)
    path.write_bytes(path.read_bytes().replace(b"!", b"\\"))
    assert opened(path).names == list(CLASSES)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_that_cannot_be_written_are_counted(tmp_path: Path, suffix: str) -> None:
    long = {f"cat/{'x' * 300}.png": b"x", f"{'d/' * 100}1.png": b"x"}
    contents = opened(pack(tmp_path / f"set{suffix}", CLASSES | long))
    assert contents.names == list(CLASSES)
    assert left_out_of(contents) == {"name that cannot be written": 2}


def test_nothing_to_use_is_said(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.zip", {"inner.zip": b"PK", "readme.txt": b"x"})
    refused(path, r"has no images, .*, but 1 archive \(inner\.zip\), 1 text file .*unpack")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_name_that_comes_twice_is_left_out_and_counted(tmp_path: Path, suffix: str) -> None:
    files = [*CLASSES.items(), ("cat/1.png", b"x"), ("./cat/1.png", b"y"), ("cat/1.png/2.png", b"")]
    path = pack(tmp_path / f"set{suffix}", files)
    contents = opened(path)
    assert contents.names == list(CLASSES)
    assert paths_of(contents)[0].read_bytes() == b"a"
    assert left_out_of(contents) == {"file of a name that was taken": 3}
    assert [each.name for each in open_stream(path)] == list(CLASSES)
    cases = pack(
        tmp_path / f"cases{suffix}", {"cat/a.png": b"x", "cat/A.png": b"", "Cat/a.png": b""}
    )
    assert 1 <= len(opened(cases)) <= 3  # as the disk has it


def test_a_list_of_more_members_than_a_file_holds_is_not_read(tmp_path: Path) -> None:
    """It would take ten times the size of the file in memory."""
    path = tmp_path / "set.zip"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    listed = (entry + b"a") * 250_000
    # It says that it lists one.
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(listed), 0, 0)
    path.write_bytes(b"PK\3\4" + listed + end)
    refused(path, "more members than any honest one")


def test_a_member_too_large_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1_000_000)
    path = pack(tmp_path / "a.zip", {"1.png": b"a", "2.png": bytes(3_000_000), "3.png": b"c"})
    first, large, last = open_stream(path)
    assert (first.image, first.problem, last.image) == (b"a", None, b"c")
    assert large.problem
    assert "2.png: larger" in str(large.problem)


@pytest.mark.slow
def test_millions_of_empty_members_end_early(tmp_path: Path) -> None:
    """A few kilobytes can hold a million headers, and each takes a while to be read."""
    header = tarfile.TarInfo("notes.txt").tobuf()
    with gzip.open(tmp_path / "set.tar.gz", "wb") as packed:
        for _ in range(300):
            packed.write(header * 1000)
    refused(tmp_path / "set.tar.gz", "more members than any honest one")
