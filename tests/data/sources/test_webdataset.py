"""WebDataset: samples of shards, their classes and their parts."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources import open_stream
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN, UNASSIGNED
from tests.data.sources.conftest import paths_of
from tests.data.sources.test_parquet import LABELS, PIXELS, png

pytestmark = pytest.mark.usefixtures("cache")


def write(path: Path, members: dict[str, bytes], how: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, how) as shard:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def samples(rows: range, ending: str = "cls") -> dict[str, bytes]:
    members = {}
    for row in rows:
        label = LABELS[row].encode()
        members[f"{row:03}.png"] = png(PIXELS[row])
        members[f"{row:03}.{ending}"] = (
            json.dumps({"label": LABELS[row]}).encode() if ending == "json" else label
        )
    return members


def opened(source: object) -> LabelledImages:
    return sources.find_all(DataRecipe.of(str(source))).open()


@pytest.mark.parametrize("ending", ["cls", "json", "label"])
@pytest.mark.parametrize(("name", "how"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_one_shard(ending: str, name: str, how: str, tmp_path: Path) -> None:
    contents = opened(write(tmp_path / name, samples(range(6), ending), how))
    assert [contents.classes[label] for label in contents.labels] == LABELS
    assert [path.read_bytes() for path in paths_of(contents)] == list(map(png, PIXELS))
    assert contents.names == [f"{row:03}" for row in range(6)]
    assert set(contents.given.tolist()) == {UNASSIGNED}


def test_many_shards(tmp_path: Path) -> None:
    write(tmp_path / "pets-train-000.tar", samples(range(2)))
    write(tmp_path / "pets-train-001.tar", samples(range(2, 4)))
    write(tmp_path / "pets-test-000.tar", samples(range(4, 6)))
    whole = opened(tmp_path)
    assert sorted(whole.given.tolist()) == [TRAIN] * 4 + [TEST] * 2


def test_keys_end_at_the_first_dot_and_may_have_folders(tmp_path: Path) -> None:
    members = {
        "a/1.left.png": png(PIXELS[0]), "a/1.cls": b"cat",
        "b/1.seg.png": png(PIXELS[1]), "b/1.png": png(PIXELS[2]), "b/1.json": b'{"cls": 7}',
        "c/1.png": png(PIXELS[3]), "c/1.txt": b"a caption",
    }  # fmt: skip
    contents = opened(write(tmp_path / "a.tar", members))
    assert contents.names == ["a/1", "b/1"]
    assert [contents.classes[label] for label in contents.labels] == ["cat", "7"]


def test_an_archive_of_folders_is_none(tmp_path: Path) -> None:
    members = {f"{label}/{row}.png": png(PIXELS[row]) for row, label in enumerate(LABELS)}
    assert opened(write(tmp_path / "a.tar", members)).classes == ("cat", "dog")


def test_archives_of_folders_are_no_shards(tmp_path: Path) -> None:
    for number in range(2):
        write(
            tmp_path / f"{number}.tar", {"cat/0.png": png(PIXELS[0]), "dog/1.png": png(PIXELS[1])}
        )
    with pytest.raises(SourceError, match="is no shard of WebDataset"):
        opened(tmp_path)


def test_images_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "x-0.tar", samples(range(3)))
    write(tmp_path / "x-1.tar", samples(range(3, 6)))
    images = [each.image for each in open_stream(str(tmp_path))]
    assert images == list(map(png, PIXELS))


@pytest.mark.parametrize(
    ("member", "content"),
    [("0.cls", b"\xff\xfe"), ("0.json", b"{"), ("0.json", b'{"label": {}}'), ("../0.cls", b"cat"),
     ("0.cls", b"a" * 2_000_000), ("0.json", b"[" * 100_000)],
)  # fmt: skip
def test_a_class_that_cannot_be_read_is_named(member: str, content: bytes, tmp_path: Path) -> None:
    first = {"0.png": png(PIXELS[0]), "0.txt": b"", "1.png": png(PIXELS[1]), "1.cls": b"dog"}
    with pytest.raises(SourceError):
        opened(write(tmp_path / "a.tar", {**first, "2.png": png(PIXELS[2]), member: content}))


def test_a_shard_that_was_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples(range(6)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SourceError, match="damaged or cut short"):
        opened(path)
