"""An audit in shards: what is found is what one command would have found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.errors import RecipeError
from tests.conftest import write_shapes


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Images of several sizes with copies, near copies, a dark one and one that is none."""
    folder = write_shapes(tmp_path / "odd")
    files = sorted(folder.rglob("*.png"))
    content = files[0].read_bytes()
    (files[-1].parent / "copy.png").write_bytes(content)
    pixels = np.asarray(Image.open(files[1]))
    Image.fromarray((pixels * 0.97).astype(np.uint8)).save(files[1].parent / "near.png")
    Image.fromarray((pixels * 0.1).astype(np.uint8)).save(files[1].parent / "dark.png")
    Image.open(files[2]).resize((200, 60)).save(files[2].parent / "wide.png")
    (files[3].parent / "none.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("options", [{}, {"group_by": r"(\w)\w*\.png"}, {"labels": "labels.csv"}])
def test_shards_find_what_one_command_finds(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(odd.rglob("near.png")).relative_to(odd).as_posix()
    Path("labels.csv").write_text(f"name,label\n{name},-\n")
    options = {"max_unreadable": 0.5, **options}
    opsin.write_audit(opsin.audit(opsin.look_at(odd, **options)), "plain")
    for number in range(count, 0, -1):
        opsin.audit_shard(odd, out="look", shard=f"{number}/{count}", **options)
    opsin.merge("look/audit.json")
    for file in ("audit.json", "audit.html"):
        assert Path("look", file).read_bytes() == Path("plain", file).read_bytes()
    assert b"exact-duplicates" in Path("look/audit.json").read_bytes()


def test_other_sizes_and_places_are_refused(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="prepared as they are by default"):
        opsin.audit_shard(odd, out=tmp_path / "look", shard="1/2", size=32)
    with pytest.raises(RecipeError, match="begins with s3://"):
        opsin.audit_shard(odd, out="abfs://bucket/look", shard="1/2")


def test_a_finished_shard_is_not_made_again(odd: Path, tmp_path: Path) -> None:
    first = opsin.audit_shard(odd, out=tmp_path, shard="1/2", max_unreadable=0.5)
    before = Path(first.out).stat()
    again = opsin.audit_shard(odd, out=tmp_path, shard="1/2", max_unreadable=0.5)
    assert (again.images, again.unreadable) == (first.images, first.unreadable)
    assert Path(first.out).stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(RecipeError, match="other than then: val_fraction"):
        opsin.audit_shard(odd, out=tmp_path, shard="1/2", max_unreadable=0.5, val_fraction=0.2)
