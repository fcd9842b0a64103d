"""Sources given together: each image once."""

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.data.sources.contents import titles_of
from tests.conftest import write_shapes
from tests.data.sources.conftest import opened


def test_a_source_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(opsin.SourceError, match="digits and digits are the same source"):
        opsin.load("digits", "digits")
    for other in ("a", "a/", "./a", "link", "a/disc/..", tmp_path / "a"):
        with pytest.raises(opsin.SourceError, match="are the same source"):
            opened("a", other)
        with pytest.raises(opsin.SourceError, match="are the same source"):
            opened("a", test=Path(other))
    for sources, test in (([""], None), (["a", ""], None), (["a"], "")):
        with pytest.raises(opsin.SourceError, match="is empty"):
            opened(*sources, test=test)


def test_an_image_in_two_sources_is_refused(tmp_path: Path) -> None:
    write_shapes(tmp_path / "a")
    write_shapes(tmp_path / "a" / "disc")
    with pytest.raises(opsin.SourceError, match=r"disc/0\.png is in"):
        opened(tmp_path / "a", tmp_path / "a" / "disc")
    for name in ("one", "three"):
        (tmp_path / "a" / f"{name}.csv").write_text(
            f"path,label\ndisc/0.png,disc\ndisc/../square/{len(name)}.png,square\n"
        )
    with pytest.raises(opsin.SourceError, match=r" is in .*Leave one"):
        opened(tmp_path / "a" / "one.csv", tmp_path / "a" / "three.csv")


def test_other_sources_are_joined(tmp_path: Path) -> None:
    for name in ("a", "ab", "b"):
        write_shapes(tmp_path / name)
    assert len(opened(tmp_path / "a", tmp_path / "ab", test=tmp_path / "b")) == 72
    assert len(opened(tmp_path / "a" / ".." / "b", "digits")) == 24 + 1797


def test_a_folder_of_a_class_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path)
    (tmp_path / "disc" / ".in").mkdir()
    monkeypatch.chdir(tmp_path / "disc" / ".in")
    assert opened("..", "../../square").classes == ("disc", "square")


def test_equal_tables_in_two_folders_are_two_sources(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shapes(tmp_path / name)
        (tmp_path / name / "set.csv").write_text(
            "path,label\ndisc/0.png,disc\nsquare/0.png,square\n"
        )
    assert len(opened(tmp_path / "a" / "set.csv", tmp_path / "b" / "set.csv")) == 4


def test_arrays_of_one_shape_keep_their_size(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 4096, (40, 8, 8), np.uint16)
    for name, rows in (("a", slice(20)), ("b", slice(20, 40)), ("both", slice(40))):
        np.savez(tmp_path / f"{name}.npz", images=images[rows], labels=np.arange(40)[rows] % 2)
    joined = opsin.load(tmp_path / "a.npz", tmp_path / "b.npz")
    whole = opsin.load(tmp_path / "both.npz")
    assert joined.fingerprint == whole.fingerprint
    assert np.array_equal(joined.images[:], whole.images[:])


def test_names_of_images_stay_when_a_source_is_added() -> None:
    old, new = ["a/photos", "b/cats"], ["c/photos", "d/photos", "photos-2"]
    titles = titles_of([*old, *new], test=False)
    assert titles[:2] == titles_of(old, test=False) == ["photos", "cats"]
    with_test = titles_of([*old, *new, "e/cats.zip"], test=True)
    before = titles_of([*old, "e/cats.zip"], test=True)
    assert with_test[:2] + with_test[-1:] == before
    assert len(set(titles)) == len(titles)
    assert len(set(with_test)) == len(with_test)
    assert not {"..", ".", "~", ""} & set(titles_of(["..", ".", "~", "a/.."], test=False))
    # What follows the first slash is the name in its source.
    bare = titles_of(["/data/.photos", "/", ".cats.zip"], test=False)
    assert bare == ["photos", "images", "cats"]
