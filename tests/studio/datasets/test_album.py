"""Photographs are given classes, removed and added, and every change can be undone."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.artifacts.run_report import SuspectedLabel
from opsin.data.corrections import read_corrections
from opsin.data.dataset import load_recipe
from opsin.studio.context import Studio
from opsin.studio.datasets.album import UNSORTED, Album
from opsin.studio.datasets.catalogue import AuditResult, LibraryDataset
from opsin.studio.datasets.photo_files import Done, settled_in
from opsin.studio.errors import NotThere, new_api
from opsin.studio.image_routes import add_routes
from opsin.studio.pages.photo_things import Thing, _of_names, things_to_look_at
from opsin.studio.runs.albums import Albums
from opsin.studio.words import opaque
from tests.conftest import shape_image, write_shapes
from tests.made_runs import answers_right, write_run
from tests.processes import python
from tests.server.made_engine import png
from tests.studio.made_jobs import fetch, put


def made_here(studio: Studio, count: int = 4) -> LibraryDataset:
    dataset = studio.sets.new_empty(["disc", "square"], title="Shapes")
    write_shapes(studio.sets.get(dataset.id).place, count)
    return dataset


def read(studio: Studio, dataset: LibraryDataset) -> None:
    """Read the photographs, as the check of a project does."""
    opsin.load(dataset.sources[0])
    asyncio.run(studio.albums.read_again(dataset.id))


class Window:
    """What a page does with an album."""

    def __init__(self, studio: Studio, dataset: LibraryDataset) -> None:
        self.albums, self.id = studio.albums, dataset.id

    def album(self) -> Album:
        return asyncio.run(self.albums.open(self.id))

    def counts(self) -> dict[str, int]:
        return self.album().counts

    def do(self, work: Callable[[Albums, Album], Awaitable[Done]]) -> str:
        return self.done(work).text

    def done(self, work: Callable[[Albums, Album], Awaitable[Done]]) -> Done:
        async def change() -> Done:
            return await work(self.albums, await self.albums.open(self.id))

        return asyncio.run(change())

    def undo(self, only: float | None = None) -> str:
        return asyncio.run(self.albums.undo(self.id, only)).text


def test_labels_move_and_files_stay_once_they_were_read(studio: Studio) -> None:
    dataset = made_here(studio)
    read(studio, dataset)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    chosen = window.album().of(0)[:2].tolist()
    assert window.do(lambda albums, album: albums.move(album, chosen, "square")) == (
        "2 photographs moved to square"
    )
    assert window.counts() == {"disc": 2, "square": 6}
    assert len(list((root / "disc").iterdir())) == 4
    last = [at for at in window.album().of(1).tolist() if at not in chosen][:1]
    window.do(lambda albums, album: albums.move(album, last, ""))
    assert window.counts() == {"disc": 2, "square": 5}
    table = read_corrections(studio.sets.corrections_path(dataset.id))
    assert sorted(row.label for row in table) == ["-", "square", "square"]
    # Another window, or the same after a restart, undoes them in turn.
    other = Window(studio, dataset)
    assert other.undo() == "1 photograph removed"
    assert other.undo() == "2 photographs moved to square"
    assert other.undo() == ""
    assert window.counts() == {"disc": 4, "square": 4}
    window.do(lambda albums, album: albums.move(album, album.of(0)[:1].tolist(), "square"))
    window.do(lambda albums, album: albums.change_class(album, "disc", into="square"))
    assert window.album().counts == {"square": 8}
    assert len(list((root / "square").iterdir())) == 8
    assert not (root / "disc").exists()
    assert window.undo()
    assert window.counts() == {"disc": 3, "square": 5}


def test_new_photographs_move_as_files_come_back_and_go_with_the_trash(studio: Studio) -> None:
    dataset = made_here(studio)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    chosen = window.album().of(0)[:3].tolist()
    window.do(lambda albums, album: albums.move(album, chosen, "square"))
    assert len(list((root / "square").iterdir())) == 7  # those of equal names, too
    window.do(lambda albums, album: albums.move(album, album.of(0).tolist(), ""))
    assert window.counts() == {"disc": 0, "square": 7}
    assert window.undo() == "1 photograph removed"
    window.undo()
    assert window.counts() == {"disc": 4, "square": 4}
    window.do(lambda albums, album: albums.move(album, [0, 1], ""))
    studio.sweep()
    assert len(list(root.parent.rglob("*.png"))) == 8
    studio.sweep(0)
    assert len(list(root.parent.rglob("*.png"))) == 6
    assert window.undo() == ""


def test_classes_are_added_renamed_and_removed_without_losing_a_label(studio: Studio) -> None:
    dataset = made_here(studio)
    read(studio, dataset)
    window = Window(studio, dataset)
    moved = window.album().of(0)[:1].tolist()
    window.do(lambda albums, album: albums.move(album, moved, "square"))
    window.do(lambda albums, album: albums.add_class(album.dataset.id, "star"))
    with pytest.raises(opsin.SourceError, match="already"):
        window.do(lambda albums, album: albums.add_class(album.dataset.id, "Star"))
    # A class that no photograph of the source has is reached by the file itself.
    window.do(lambda albums, album: albums.move(album, album.of(1)[:2].tolist(), "star"))
    assert window.counts() == {"disc": 3, "square": 3, "star": 2}
    read(studio, dataset)
    window.do(lambda albums, album: albums.change_class(album, "square", "block"))
    assert window.counts() == {"block": 3, "disc": 3, "star": 2}
    read(studio, dataset)
    assert window.counts() == {"block": 3, "disc": 3, "star": 2}
    assert window.do(lambda albums, album: albums.change_class(album, "star")) == (
        "Removed the class star"
    )
    assert window.counts() == {"block": 3, "disc": 3}
    assert window.undo() == "Removed the class star"
    assert window.undo() == "Renamed square to block"
    assert window.counts() == {"disc": 3, "square": 3, "star": 2}
    # What is trained on is what is shown.
    path = studio.sets.corrections_path(dataset.id)
    recipe = dataset.recipe().model_copy(update={"labels": str(path)})
    trained = load_recipe(recipe, for_training=False)
    numbers = np.bincount(trained.labels, minlength=len(trained.classes))
    assert dict(zip(trained.classes, numbers.tolist(), strict=True)) == window.counts()


def test_uploads_find_their_classes_and_loose_ones_wait_in_the_tray(studio: Studio) -> None:
    dataset = made_here(studio)
    window = Window(studio, dataset)
    files = [
        put(studio.uploads, "1.png", png(shape_image("disc", 71)), 1, "new/star/1.png"),
        put(studio.uploads, "1.png", png(shape_image("disc", 72)), 2, "new/disc/1.png"),
        put(studio.uploads, "loose.png", png(shape_image("disc", 73)), 3),
    ]
    assert asyncio.run(window.albums.add(dataset.id, files)).text == "3 photographs added"
    assert window.counts() == {"disc": 5, "square": 4, "star": 1}
    album = window.album()
    [loose] = album.of(UNSORTED).tolist()
    assert (album.name(loose), album.class_of(loose)) == ("../.not-sorted/loose.png", "")
    assert not window.album().why_not_trainable().startswith("Add photographs to at least")
    assert get(studio, album.address(loose)).status_code == 200
    window.do(lambda albums, album: albums.move(album, [loose], "star"))
    assert window.counts() == {"disc": 5, "square": 4, "star": 2}
    window.undo()
    assert len(window.album().of(UNSORTED)) == 1
    window.undo()
    assert len(window.album().of(UNSORTED)) == 0
    assert window.counts() == {"disc": 4, "square": 4, "star": 0}


def test_a_source_of_somebody_else_keeps_its_files(studio: Studio, shapes: Path) -> None:
    dataset = studio.sets.add_source(str(shapes))
    window = Window(studio, dataset)
    with pytest.raises(opsin.SourceError, match="still being read"):
        window.do(lambda albums, album: albums.move(album, [0], "square"))
    read(studio, dataset)
    assert not window.album().can_add
    window.do(lambda albums, album: albums.move(album, [0], "square"))
    assert window.counts() == {"disc": 11, "square": 13}
    with pytest.raises(opsin.SourceError, match="never changed"):
        window.do(lambda albums, album: albums.add_class(album.dataset.id, "star"))
    assert len(list(shapes.rglob("*.png"))) == 24


def test_a_project_that_another_window_removed(tmp_path: Path, studio: Studio) -> None:
    dataset = made_here(studio)
    window = Window(studio, dataset)
    album = window.album()
    studio.sets.remove(dataset.id)
    with pytest.raises(NotThere):
        asyncio.run(window.albums.move(album, [0], ""))
    with pytest.raises(NotThere):
        asyncio.run(window.albums.settle(dataset.id, ("a", "b")))
    with pytest.raises(NotThere):
        window.album()
    assert not (tmp_path / "home" / "sets" / dataset.id).exists()


def test_a_removal_waits_for_an_upload(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made_here(studio)
    window, begun = Window(studio, dataset), threading.Event()
    finish, removed = studio.uploads.finish, list[str]()

    def slow(*given: Any, **named: Any) -> list[Path]:
        begun.set()
        removing.join(0.3)
        assert not removed
        return finish(*given, **named)

    def remove() -> None:
        begun.wait()
        removed.append(studio.sets.remove(dataset.id))

    monkeypatch.setattr(studio.uploads, "finish", slow)
    removing = threading.Thread(target=remove)
    removing.start()
    files = [put(studio.uploads, "1.png", png(shape_image("disc", 71)), 1)]
    assert asyncio.run(window.albums.add(dataset.id, files, "disc")).text == "1 photograph added"
    removing.join()
    studio.sets.restore(*removed)
    assert window.counts() == {"disc": 5, "square": 4}


def test_photographs_that_a_full_disk_cannot_note_do_not_stay(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(studio, made_here(studio))
    images = [png(shape_image("disc", number)) for number in (8, 9)]
    sent = [put(studio.uploads, "1.png", images[0], 1)]
    full = Mock(side_effect=opsin.StorageError("Cannot write"))
    monkeypatch.setattr("opsin.studio.datasets.photo_files.write_json", full)
    for change in (
        lambda: window.albums.add(window.id, sent, "disc"),
        lambda: window.albums.keep(window.id, "disc", images[1], "2.png"),
        lambda: window.albums.add_class(window.id, "star"),
    ):
        with pytest.raises(opsin.StorageError):
            asyncio.run(change())
    assert (full.call_count, window.counts()) == (3, {"disc": 4, "square": 4})


@pytest.mark.parametrize("name", ["added", "2 photographs added"])
def test_a_class_called_added_is_no_addition(studio: Studio, name: str) -> None:
    dataset = made_here(studio)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    (root / name).mkdir()
    window.do(lambda albums, album: albums.move(album, [0], name))
    window.do(lambda albums, album: albums.change_class(album, name, f"sugar {name}"))
    content = png(shape_image("cross", 3))
    asyncio.run(window.albums.keep(dataset.id, "disc", content, "x.png"))
    assert window.undo() == "1 photograph added"
    assert window.undo() == f"Renamed {name} to sugar {name}"
    assert window.undo() == f"1 photograph moved to {name}"


def test_an_earlier_classifier_keeps_its_photographs(tmp_path: Path, studio: Studio) -> None:
    dataset = made_here(studio, 12)
    data = opsin.load(dataset.sources[0])
    write_run(tmp_path / "runs", "one", data, answers_right(data, 0.8))
    before = asyncio.run(studio.albums.of_run(opaque("one")))
    window = Window(studio, dataset)
    window.do(lambda albums, album: albums.add_class(album.dataset.id, "star"))
    window.do(lambda albums, album: albums.move(album, album.of(0)[:2].tolist(), "star"))
    write_shapes(studio.sets.get(dataset.id).place, 2, ("cross",))
    read(studio, dataset)
    studio.albums._of_runs.forget(opaque("one"))
    after = asyncio.run(studio.albums.of_run(opaque("one")))
    assert after.classes == before.classes == ("disc", "square")
    assert [after.digest(row) for row in range(24)] == [before.digest(row) for row in range(24)]
    assert (after.decoded.labels == before.decoded.labels).all()


def get(studio: Studio, address: str) -> httpx.Response:
    api = new_api()
    add_routes(api, studio)
    return asyncio.run(fetch(api, address))


def test_thumbnails_keep_the_aspect_and_originals_the_size(studio: Studio) -> None:
    dataset = made_here(studio)
    root = studio.sets.get(dataset.id).place
    Image.new("RGB", (1000, 400), (200, 30, 30)).save(root / "disc" / "wide.jpg")
    (root / "disc" / "broken.jpg").write_bytes(b"no image")
    album = asyncio.run(studio.albums.open(dataset.id))
    at = {Path(album.name(at)).name: at for at in range(len(album.labels))}
    reply = get(studio, album.address(at["wide.jpg"]))
    assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert Image.open(io.BytesIO(reply.content)).size == (320, 128)
    large = get(studio, album.address(at["wide.jpg"], large=True))
    assert Image.open(io.BytesIO(large.content)).size == (1000, 400)
    broken = get(studio, album.address(at["broken.jpg"]))
    assert (broken.status_code, broken.headers["content-type"]) == (200, "image/svg+xml")
    assert get(studio, album.address(at["broken.jpg"], large=True)).status_code == 422
    for token in ("0" * 16, "..", "%2e%2e%2fset.json", "disc%2fwide.jpg"):
        assert get(studio, f"/thumbnails/{dataset.id}/{token}").status_code == 404
        assert get(studio, f"/originals/{'0' * 16}/{token}").status_code == 404
    assert str(root) not in get(studio, f"/thumbnails/{dataset.id}/{'0' * 16}").text


def test_a_settled_thing_is_gone_for_all(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made_here(studio)
    root = studio.sets.get(dataset.id).place
    for name in ("square/same.png", "disc/again.png"):
        (root / name).write_bytes((root / "disc" / "0.png").read_bytes())
    data = opsin.load(dataset.sources[0])
    look = AuditResult(images=len(data.labels), findings=opsin.data.audit.audit(data).findings)
    monkeypatch.setattr(studio.sets, "looked", lambda _: look)

    def things() -> list[Thing]:
        return things_to_look_at(studio, asyncio.run(studio.albums.open(dataset.id)))

    (conflict,) = (thing for thing in things() if thing.kind == "conflicting-labels")
    folder = studio.sets.folder(dataset.id)
    asyncio.run(studio.albums.settle(dataset.id, conflict.key))
    assert conflict not in things()
    asyncio.run(studio.albums.settle(dataset.id, conflict.key, False))
    assert conflict in things()
    (folder / "confirmed.json").write_text("[1]", encoding="utf-8")  # damaged
    assert settled_in(folder) == set()
    # It is over, too, once only one of the labels is left; then they are copies.
    window = Window(studio, dataset)
    names = {window.album().name(at): at for at in range(10)}
    window.do(lambda albums, album: albums.move(album, [names["square/same.png"]], ""))
    assert [thing.kind for thing in things()] == ["exact-duplicates"]
    window.do(lambda albums, album: albums.move(album, [names["disc/again.png"]], ""))
    assert things() == []


def test_a_suspected_label_is_found_if_training_prepared_another_size(studio: Studio) -> None:
    read(studio, dataset := made_here(studio))
    album = asyncio.run(studio.albums.open(dataset.id))
    known = {"row": 0, "score": 0.9, "label": "disc", "suggested": "square", "digest": "0" * 32}
    suspect = SuspectedLabel.model_validate(known | {"name": "disc/1.png"})
    (thing,) = _of_names(album, [suspect])
    assert (album.name(thing.photos[0]), thing.kind) == ("disc/1.png", "suspect")


@pytest.mark.parametrize("class_", ["disc", ""])
def test_an_album_that_is_out_of_date_changes_nothing(studio: Studio, class_: str) -> None:
    dataset = made_here(studio)
    read(studio, dataset)
    window = Window(studio, dataset)
    old = window.album()
    Image.new("RGB", (40, 40)).save(studio.sets.get(dataset.id).place / "disc" / "0.5.png")
    read(studio, dataset)
    with pytest.raises(opsin.SourceError, match="have changed"):
        asyncio.run(window.albums.move(old, [5], class_))
    assert window.counts() == {"disc": 5, "square": 4}


_REMOVED_AND_KILLED = """
import os, sys
from pathlib import Path
from opsin.studio.datasets.photo_files import PhotoFiles

record, source, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
moved, rename = [], Path.rename

def killed(path, target):
    if len(moved) == after:
        os._exit(9)
    moved.append(path)
    return rename(path, target)

Path.rename = killed
files = PhotoFiles(record, source)
files.make("Removed all", files.to_trash(sorted((source / "disc").iterdir())))
"""


@pytest.mark.parametrize("after", [0, 1, 3])
def test_photographs_whose_removal_was_killed_come_back(studio: Studio, after: int) -> None:
    dataset = made_here(studio)
    places = (studio.sets.folder(dataset.id), studio.sets.get(dataset.id).place, after)
    assert python("-c", _REMOVED_AND_KILLED, *places, check=False).returncode == 9
    window = Window(studio, dataset)
    assert window.counts() == {"disc": 4 - after, "square": 4}
    window.do(lambda albums, album: albums.move(album, album.of(1)[:1].tolist(), "disc"))
    assert window.undo() == "1 photograph moved to disc"
    assert window.undo() == "Removed all"
    assert window.undo() == ""
    assert window.counts() == {"disc": 4, "square": 4}


@pytest.mark.parametrize("place", ["/etc/hostname", "../../outside.png", "Shapes/link/1.png"])
def test_undo_in_a_copied_home_stays_inside(tmp_path: Path, studio: Studio, place: str) -> None:
    dataset = made_here(studio)
    root, outside = studio.sets.get(dataset.id).place, tmp_path / "outside"
    write_shapes(outside, 1)
    (root / "link").symlink_to(outside)
    (root.parent / ".not-sorted").mkdir()
    (root.parent / ".not-sorted" / "secret.png").symlink_to(outside / "disc" / "0.png")
    before = sorted(tmp_path.rglob("*.png"))
    window = Window(studio, dataset)
    assert window.album().of(UNSORTED).tolist() == []
    for moves in ([("Shapes/disc/back.png", place)], [(place, "Shapes/disc/0.png")]):
        changes = [{"text": "Moved", "when": time.time(), "moves": moves}]
        (studio.sets.folder(dataset.id) / "changes.json").write_text(json.dumps(changes))
        with pytest.raises(opsin.SourceError, match="leads out"):
            window.undo()
    assert sorted(tmp_path.rglob("*.png")) == before


@pytest.mark.parametrize("name", ["..", "star", "STAR", "a/b"])
def test_a_refused_rename_has_moved_nothing(studio: Studio, name: str) -> None:
    dataset = made_here(studio)
    read(studio, dataset)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    window.do(lambda albums, album: albums.add_class(album.dataset.id, "star"))
    window.do(lambda albums, album: albums.move(album, [0], "square"))
    before, steps = sorted(root.rglob("*")), window.counts()
    with pytest.raises(opsin.SourceError, match="class"):
        window.do(lambda albums, album: albums.change_class(album, "square", name))
    assert (sorted(root.rglob("*")), window.counts()) == (before, steps)
    assert window.undo() == "1 photograph moved to square"


def test_a_photograph_that_was_tried_joins_a_class_once(studio: Studio) -> None:
    dataset = made_here(studio)
    window, content = Window(studio, dataset), png(shape_image("cross", 3))

    def keep(class_: str, content: bytes, name: str) -> Path:
        return asyncio.run(window.albums.keep(dataset.id, class_, content, name))

    path = keep("disc", content, "../IMG 0042.PNG")
    assert path.name.startswith("IMG 0042-")
    assert (path.suffix, path.parent.name, path.read_bytes()) == (".png", "disc", content)
    with pytest.raises(opsin.SourceError, match="already"):
        keep("disc", content, "IMG 0042.PNG")
    assert keep("disc", png(shape_image("disc", 3)), "IMG 0042.PNG") != path
    assert keep("disc", content, "shot").suffix == ".png"
    assert window.counts() == {"disc": 7, "square": 4}
    studio.sets.get(dataset.id).place.joinpath("star").symlink_to(path.parent)
    for name in ("../disc", "fish", "", "DISC", "star"):
        with pytest.raises(opsin.SourceError, match="class"):
            keep(name, content, "x.png")
    for wrong in (b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(9)):
        with pytest.raises(opsin.ImageError):
            keep("disc", wrong, "x.png")
    asyncio.run(window.albums.take_out(dataset.id, path))
    assert window.counts() == {"disc": 6, "square": 4}
    assert window.undo() == "1 photograph removed"
    assert window.undo() == "3 photographs added"  # within five seconds
    assert window.counts() == {"disc": 4, "square": 4}


def test_corrections_of_photographs_that_are_gone_hinder_no_training(studio: Studio) -> None:
    dataset = made_here(studio)
    read(studio, dataset)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    album = window.album()
    chosen = album.of(0)[:2].tolist()
    window.do(lambda albums, album: albums.move(album, chosen, "square"))
    (root / album.name(chosen[0])).unlink()
    read(studio, dataset)
    assert len(read_corrections(studio.sets.corrections_path(dataset.id))) == 1
    assert window.counts() == {"disc": 2, "square": 5}
    assert window.undo().startswith("Forgot 1 correction of")
    assert window.undo() == "2 photographs moved to square"
    assert window.counts() == {"disc": 3, "square": 4}


def test_corrections_of_absent_files_stay(studio: Studio, shapes: Path, tmp_path: Path) -> None:
    dataset = studio.sets.add_source(str(shapes))
    read(studio, dataset)
    window, table = Window(studio, dataset), studio.sets.corrections_path(dataset.id)
    window.do(lambda albums, album: albums.move(album, [0, 1], "square"))
    away = shapes / window.album().name(0)
    away.rename(tmp_path / "away.png")
    read(studio, dataset)
    assert (len(read_corrections(table)), window.album().gone) == (2, 1)
    labels = dataset.recipe().model_copy(update={"labels": str(table)})
    with pytest.raises(opsin.SourceError, match="are not here"):  # so they can be forgotten
        load_recipe(labels)
    forgot = "Forgot 1 correction of photographs that are gone"
    assert window.do(lambda albums, album: albums.forget_gone(dataset.id)) == forgot
    load_recipe(labels)
    assert (window.album().gone, window.undo()) == (0, forgot)
    (tmp_path / "away.png").rename(away)
    read(studio, dataset)
    assert (window.album().gone, window.counts()) == (0, {"disc": 10, "square": 14})


def test_only_the_change_that_was_meant_is_undone(studio: Studio) -> None:
    window = Window(studio, made_here(studio))
    mine = window.done(lambda albums, album: albums.move(album, [0], "square"))
    other = window.done(lambda albums, album: albums.add_class(album.dataset.id, "star"))
    nothing = window.done(lambda albums, album: albums.move(album, [], "square"))
    for done in (mine, nothing):
        with pytest.raises(opsin.SourceError, match="Something else was changed since"):
            window.undo(done.when)
    assert window.undo(other.when) == "Added the class star"
    assert window.undo(mine.when) == "1 photograph moved to square"
    with pytest.raises(opsin.SourceError, match="Something else"):
        window.undo(mine.when)
    assert window.counts() == {"disc": 4, "square": 4}
    mine = window.done(lambda albums, album: albums.move(album, [0], "square"))
    window.done(lambda albums, album: albums.move(album, [1], "square"))
    assert window.counts() == {"disc": 2, "square": 6}
    back = window.done(lambda albums, album: albums.undo(album.dataset.id, mine.when, earlier=True))
    assert (back.text, window.counts()) == (
        "1 photograph moved to square",
        {"disc": 3, "square": 5},
    )
    assert window.undo() == "Undid: 1 photograph moved to square"  # it is a change, too
    assert window.counts() == {"disc": 2, "square": 6}


@pytest.mark.parametrize("changed", ["files", "labels"])
@pytest.mark.parametrize("new", ["", "block"])
def test_a_class_that_others_changed_is_kept(studio: Studio, changed: str, new: str) -> None:
    dataset = made_here(studio)
    if changed == "labels":
        read(studio, dataset)
    window, root = Window(studio, dataset), studio.sets.get(dataset.id).place
    old = window.album()
    window.do(lambda albums, album: albums.move(album, album.of(1)[:1].tolist(), "disc"))
    before = sorted(root.rglob("*"))
    with pytest.raises(opsin.SourceError, match="The photographs are others by now"):
        asyncio.run(window.albums.change_class(old, "square", new))
    assert (sorted(root.rglob("*")), window.counts()) == (before, {"disc": 5, "square": 3})
    window.do(lambda albums, album: albums.change_class(album, "square", new))
    assert sum(window.counts().values()) == (8 if new else 5)
