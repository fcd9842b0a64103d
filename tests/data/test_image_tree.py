"""Folders in any layout: each image once, in an order, and no more memory for more of them."""

import inspect
import json
import os
import shutil
import sys
import tempfile
from collections import deque
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import opsin
from opsin.core.artifacts.records import LeftOut
from opsin.data import image_tree
from opsin.data.sources import open_stream
from tests.conftest import Cli, Notes, only_json, write_shapes
from tests.data.sources.conftest import put
from tests.processes import peak_of


def names_in(root: Path, *, follow_links: bool = False) -> list[str]:
    stream = open_stream(root, follow_links=follow_links)
    names = [image.name for image in stream]
    assert stream.kind == "folder"
    assert stream.count() == len(names)
    return names


def test_any_layout_will_do_and_has_an_order(tmp_path: Path) -> None:
    root = put(tmp_path, "b/x/2.png", "b/x/10.png", "10.jpg", "9.JPG", "b/a.gif", "a/deep/er/1.png")
    inner = ["a/deep/er/1.png", "b/a.gif", "b/x/2.png", "b/x/10.png"]
    assert names_in(root) == ["9.JPG", "10.jpg", *inner]
    first = next(iter(open_stream(root)))
    assert first.path == first.image == f"{root}/9.JPG"


# What a file system takes: no slash, no NUL, not too long. A dot at the beginning hides.
part = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda text: len(text.encode()) < 100 and text not in {".", ".."})


@given(st.sets(st.lists(part, min_size=1, max_size=4).map(tuple), max_size=25))
def test_every_image_comes_exactly_once(places: set[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        root, wanted = Path(made), set()
        for place in places:
            path = root.joinpath(*place[:-1], place[-1] + ".png")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except OSError:  # a file of that name is there
                continue
            relative = path.relative_to(root).parts
            if not any(name.startswith(".") for name in relative):
                wanted.add("/".join(relative))
        if not wanted:
            with pytest.raises(opsin.SourceError, match=r"has no images|is empty"):
                names_in(root)
            return
        found = names_in(root)
        assert len(found) == len(wanted)
        assert set(found) == wanted
        assert all(Path(p.path or "").samefile(root / p.name) for p in open_stream(root))


def test_large_folders_come_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tree, "SORTED", 3)
    names = [f"{folder}{number}.png" for folder in ("", "a/", "b/c/") for number in range(9)]
    root = put(tmp_path, *names, *(f"many{number}/1.png" for number in range(9)))
    found = names_in(root)
    assert sorted(found) == sorted([*names, *(f"many{number}/1.png" for number in range(9))])


def test_links_are_followed_as_far_as_is_safe(tmp_path: Path) -> None:
    put(tmp_path, "root/a/1.png", "root/.kept/2.png", "outside/3.png", "outside/in/4.png")
    root = tmp_path / "root"
    (root / "loop").symlink_to(root)
    (root / "a" / "up").symlink_to("..")
    (root / "itself.png").symlink_to("itself.png")
    (root / "again").symlink_to(root / "a")
    (root / "shown").symlink_to(root / ".kept")
    (root / "one.png").symlink_to(tmp_path / "outside" / "3.png")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to(tmp_path / "outside" / "in")
    (root / "above").symlink_to(tmp_path)
    watcher = Notes()
    assert [p.name for p in open_stream(root, watcher=watcher)] == ["a/1.png", "shown/2.png"]
    assert "4 links out of the folder" in watcher.notes[0]
    followed = names_in(root, follow_links=True)
    places = sorted(os.path.realpath(root / name) for name in followed if name != "one.png")
    assert places == sorted(
        str(tmp_path / name)
        for name in ("root/a/1.png", "root/.kept/2.png", "outside/3.png", "outside/in/4.png")
    )


def test_beside_a_links_target(tmp_path: Path) -> None:
    put(tmp_path, "far/photos/1.png", "far/there/2.png")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "there")
    (image,) = open_stream(f"{tmp_path}/link/../photos")
    assert Path(str(image.path)).is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_locked_folder_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a").chmod(0)
    watcher = Notes()
    assert [p.name for p in open_stream(tmp_path, watcher=watcher)] == ["b/2.png"]
    (tmp_path / "a").chmod(0o700)
    assert "1 folder that cannot be read (a: permission denied)" in watcher.notes[0]


def test_deep_trees_end(tmp_path: Path) -> None:
    depth = 250
    put(tmp_path, "d/" * depth + "x.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)  # far less than the tree is deep
    try:
        names = [image.name for image in open_stream(tmp_path)]
    finally:
        sys.setrecursionlimit(before)
    assert [len(name) for name in names] == [2 * depth + 5]


def test_more_images_take_the_same_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tree, "SORTED", 400)
    peaks = []
    for count in (1_000, 10_000):
        root = tmp_path / str(count)
        root.mkdir()
        for number in range(count):
            os.close(os.open(root / f"{number}.png", os.O_CREAT))
            (root / str(number % 20)).mkdir(exist_ok=True)
            os.close(os.open(root / str(number % 20) / f"{number}.png", os.O_CREAT))
        peaks.append(peak_of(partial(deque, open_stream(root), maxlen=0)))
    assert peaks[1] < 1.1 * peaks[0] + 10_000


OTHERS = {
    "disc/notes.txt": "text file", "disc/deeper/plan.psd": "Photoshop file",
    "disc/IMG_1.CR2": "raw photograph", "disc/film.mp4": "video", "disc/odd.xyz": "xyz file",
    "disc/.1.png": "hidden file", "disc/Thumbs.db": "hidden file", "logo.svg": "vector drawing",
    "paper.pdf": "PDF file", "notes/read.me": "me file",
}  # fmt: skip


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


def test_a_folder_says_what_it_leaves_out_as_it_is_now(mixed: Path) -> None:
    for name in ("empty", ".git"):
        (mixed / name).mkdir()
    data = opsin.look_at(mixed)
    assert counts(data.left_out) == expected(folders=True)
    left_out = data.describe().left_out
    assert ("empty folder", 1, ["empty"]) in [
        (each.kind, each.count, each.examples) for each in left_out
    ]
    (finding,) = [each for each in opsin.audit(data).findings if each.kind == "left-out"]
    assert finding.count == sum(expected(folders=True).values())
    assert "1 video (disc/film.mp4)" in finding.elsewhere
    before = counts(opsin.look_at(mixed).left_out)
    (mixed / "square" / "new.txt").touch()
    assert counts(opsin.look_at(mixed).left_out) == before | {"text file": 2}


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_says_the_same(mixed: Path, tmp_path: Path, form: str) -> None:
    packed = shutil.make_archive(str(tmp_path / "a"), form, mixed)
    for _ in range(2):  # unpacked, and from the cache
        assert counts(opsin.look_at(packed).left_out) == expected(folders=False)


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
