"""Whatever a source holds and is not read is counted by kind and named, whatever the source is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from opsin.core.artifacts.records import LeftOut
from opsin.data.audit import audit
from opsin.data.dataset import look_at
from tests.conftest import Cli, only_json, write_shapes

OTHERS = {
    "disc/notes.txt": "text file",
    "disc/deeper/plan.psd": "Photoshop file",
    "disc/IMG_1.CR2": "raw photograph",
    "disc/film.mp4": "video",
    "disc/odd.xyz": "xyz file",
    "disc/.1.png": "hidden file",
    "disc/Thumbs.db": "hidden file",
    "logo.svg": "vector drawing",
    "paper.pdf": "PDF file",
    "notes/read.me": "me file",
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = write_shapes(tmp_path / "mixed", count=6)
    for name in OTHERS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"something")
    shutil.copy(next((root / "disc").glob("*.png")), root / "loose.png")
    return root


def counts(left_out: tuple[LeftOut, ...]) -> dict[str, int]:
    return {each.kind: each.count for each in left_out}


def expected(*, folders: bool) -> dict[str, int]:
    found = {kind: list(OTHERS.values()).count(kind) for kind in OTHERS.values()}
    found["loose image beside the class folders"] = 1
    if folders:  # an archive's have nothing in them once the rest is not unpacked
        found |= {"empty folder": 1, "folder without images": 1}
        found["hidden folder"] = 1
    return found


def test_a_folder_says_what_it_leaves_out(mixed: Path) -> None:
    (mixed / "empty").mkdir()
    (mixed / ".git").mkdir()
    data = look_at(mixed)
    assert counts(data.left_out) == expected(folders=True)
    record = data.describe()
    assert ("empty folder", 1, ["empty"]) in [
        (each.kind, each.count, each.examples) for each in record.left_out
    ]
    (finding,) = [each for each in audit(data).findings if each.kind == "left-out"]
    assert finding.count == sum(expected(folders=True).values())
    assert "1 video (disc/film.mp4)" in finding.elsewhere


def test_what_is_left_out_is_as_it_is_now_though_the_pixels_are_kept(mixed: Path) -> None:
    before = counts(look_at(mixed).left_out)
    (mixed / "square" / "new.txt").touch()
    assert counts(look_at(mixed).left_out) == before | {"text file": 2}


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_says_the_same(mixed: Path, tmp_path: Path, form: str) -> None:
    packed = shutil.make_archive(str(tmp_path / "a"), form, mixed)
    for _ in range(2):  # unpacked, and from the cache
        assert counts(look_at(packed).left_out) == expected(folders=False)


@pytest.mark.parametrize("words", [("data", "--no-draw"), ("train", "--model", "logistic")])
def test_data_and_train_say_it_in_json(words: tuple[str, ...], mixed: Path, cli: Cli) -> None:
    done = cli(words[0], mixed, *words[1:], "--json")
    said = {each["kind"]: each["count"] for each in only_json(done)["left_out"]}
    assert said == expected(folders=False) | {"folder without images": 1}
    kept = list(mixed.parent.glob("runs/*/dataset.json"))
    assert len(kept) == ("Left out: " in done.stderr) == (words[0] == "train")
    for file in kept:
        record = json.loads(file.read_text(encoding="utf-8"))
        assert {each["kind"]: each["count"] for each in record["left_out"]} == said
