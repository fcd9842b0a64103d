"""Shards: equal parts that are the same wherever they are cut."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from opsin.commands.predict.stream import open_streams
from opsin.core.errors import RecipeError, SourceError
from opsin.data.image_stream import ListedImage, Shard, shard_of_file


@given(total=st.integers(0, 10**12), count=st.integers(1, 5000))
def test_shards_have_each_image_once_and_are_of_one_size(total: int, count: int) -> None:
    parts = [Shard(number, count).rows(total) for number in range(1, count + 1)]
    assert parts[0].start == 0 and parts[-1].stop == total
    assert all(one.stop == next_.start for one, next_ in itertools.pairwise(parts))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(number=st.integers(1, 999_999), more=st.integers(0, 999_999))
def test_a_shards_file_tells_of_which_file_it_is(number: int, more: int) -> None:
    shard = Shard(number, min(number + more, 999_999))
    out = Path("of") / "answers-00001-of-00002.parquet"
    assert shard_of_file(shard.file(out)) == (out, shard)
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1/0", "0/0", "-1/3", "1", "a/b", "1/3/5", "²/3", ""]
)
def test_other_shards_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="shard"):
        Shard.parse(text)


def names(*sources: Path, shard: str) -> list[str]:
    stream = open_streams(list(sources), shard=Shard.parse(shard))
    found = [image.name for image in stream]
    assert len(found) == stream.count()
    return found


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_stream_is_cut_into_its_shards(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 11)
    whole = [image.name for image in open_streams(folder)]
    for count in (4, 20):
        parts = [names(folder, shard=f"{number}/{count}") for number in range(1, count + 1)]
        assert list(itertools.chain(*parts)) == whole
        assert {len(part) for part in parts} == {11 // count, 11 // count + 1}


def test_a_name_that_a_table_has_twice_counts_once(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    table = tmp_path / "table.csv"
    table.write_text("path\n" + "".join(f"images/{n}.png\n" for n in (0, 1, 0, 2, 1, 2)))
    parts = [names(table, shard=f"{number}/3") for number in (1, 2, 3)]
    assert parts == [["images/0.png"], ["images/1.png"], ["images/2.png"]]


def test_an_archive_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder, archive = write_images(tmp_path / "images", 5), tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "images")
    stream = open_streams(archive, shard=Shard(1, 2))
    (folder / "3.png").rename(folder / "7.png")
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "images")
    found: list[ListedImage] = []
    with pytest.raises(SourceError, match="added, removed or renamed"):
        found.extend(stream)
