"""Whoever browses sees what lies below the roots, and nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from opsin.core.errors import SourceError
from opsin.studio.datasets.folders import Folders
from opsin.studio.errors import NotThere
from tests.conftest import write_shapes

HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}\u202e"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    write_shapes(root / "shapes", count=3)
    (root / "shapes" / "0.png").write_bytes(b"loose")
    (root / "10 later").mkdir()
    (root / "9 before").mkdir()
    (root / HOSTILE).mkdir()
    (root / ".hidden").mkdir()
    (root / "pets.zip").write_bytes(b"PK")
    (root / "notes.txt").write_text("no image")
    return root


def test_folders_are_in_natural_order(root: Path) -> None:
    folders = Folders([root])
    listing = folders.list()
    assert [each.name for each in listing.folders] == ["9 before", "10 later", HOSTILE, "shapes"]
    shapes = listing.folders[-1]
    assert [each.name for each in listing.files] == ["pets.zip"]
    within = folders.list(shapes.id)
    assert (within.above, listing.above) == (listing.here, None)
    assert folders.path(within.folders[0].id) == root / "shapes" / "disc"
    assert folders.path(listing.files[0].id) == root / "pets.zip"
    several = Folders([root / "shapes", root / "9 before"]).list()
    assert (several.here.name, [each.name for each in several.folders]) == (
        "Folders",
        ["shapes", "9 before"],
    )


@given(st.text(max_size=40))
@example("..")
@example("/etc")
@example("../../etc/passwd")
def test_no_text_leads_anywhere(text: str) -> None:
    folders = Folders([Path(__file__).parent])
    with pytest.raises(NotThere):
        folders.path(text)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_that_lead_out_are_not_followed(root: Path, tmp_path: Path) -> None:
    for place in ("elsewhere", "root-private"):  # a name that begins like the root's
        (tmp_path / place).mkdir()
        (root / f"to {place}").symlink_to(tmp_path / place)
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "shapes")
    (root / "gone").symlink_to(root / "nowhere")
    folders = Folders([root])
    listing = folders.list()
    # What leads back inside is shown under its own name.
    names = [each.name for each in listing.folders]
    assert names == ["9 before", "10 later", HOSTILE, "root", "shapes"]
    assert listing.left_out == 3


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_folder_that_became_a_link_is_not_entered(root: Path, tmp_path: Path) -> None:
    folders = Folders([root])
    shapes = folders.list().folders[-1]
    (root / "shapes").rename(tmp_path / "shapes")
    with pytest.raises(NotThere):
        folders.list(shapes.id)
    (root / "shapes").symlink_to(tmp_path / "shapes")
    with pytest.raises(NotThere):
        folders.list(shapes.id)


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_says_so_without_its_path(root: Path) -> None:
    (root / "shapes").chmod(0)
    folders = Folders([root])
    shapes = folders.list().folders[-1]
    with pytest.raises(SourceError, match=r"^expected a readable folder; shapes: permission"):
        folders.list(shapes.id)
    (root / "shapes").chmod(0o755)
