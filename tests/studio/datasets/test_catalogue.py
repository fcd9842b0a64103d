"""Sets are small files that survive anything; looks are repeated only where files changed."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.studio.datasets.catalogue import Library
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue
from tests.conftest import shape_image
from tests.server.made_engine import png
from tests.studio.made_jobs import until

HOSTILE = '<img src=x onerror="window.HACKED=1">{{7*7}}'


def looked_at(sets: Library, id_: str) -> Job:
    """Look at a set, which whoever asks again meanwhile waits for, until that is over."""
    job = sets.look(id_)
    assert job is not None
    assert sets.look(id_) == job
    until(sets._jobs, lambda: sets._jobs.get(job.id).over, 60)
    return job


def test_a_set_is_added_for_good(sets: Library, shapes: Path, tmp_path: Path, queue: Queue) -> None:
    added = sets.add_source(str(shapes), title=HOSTILE)
    assert sets.add_source(str(shapes)).title == HOSTILE
    again = Library(tmp_path / "home", queue)
    assert again.get(added.id) == added
    assert [each.id for each in again.all()] == [added.id]
    assert again.corrections_path(added.id).parent == again.folder(added.id)


@pytest.mark.parametrize(
    "wrong", ["", "..", "x", "0" * 15, "0" * 16, "../sets", "0123456789ABCDEF", "a" * 10_000]
)
def test_what_is_no_set_is_not_there(sets: Library, wrong: str) -> None:
    sets.add_source("digits")
    for ask in (sets.get, sets.folder, sets.look, sets.looked, sets.remove, sets.restore):
        with pytest.raises(NotThere):
            ask(wrong)


def test_sources_that_are_none_are_refused_without_a_path(sets: Library, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "1.png").write_bytes(b"x")
    with pytest.raises(SourceError, match="holiday has 1 image but no folders") as caught:
        sets.add_source(str(tmp_path / "holiday"))
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(SourceError):
        sets.add_source("no-such-source")
    assert sets.all() == []


def test_a_removed_set_comes_back_after_a_late_write(sets: Library, shapes: Path) -> None:
    added = sets.add_source(str(shapes))
    looked_at(sets, added.id)
    folder, guard, tokens = sets.folder(added.id), sets._guard, list[str]()

    @contextlib.contextmanager
    def removed_first() -> Iterator[None]:
        sets._guard = guard
        tokens.append(sets.remove(added.id))
        yield

    sets._guard = removed_first()  # type: ignore[assignment]
    assert sets.looked(added.id) is None
    assert not folder.exists()
    folder.mkdir()
    (folder / "confirmed.json").write_text("[]")
    assert sets.restore(*tokens) == added
    assert not (folder / "confirmed.json").exists()
    assert sets.removed() == []
    sets.remove(added.id)
    sets.sweep(older=-1)
    assert (shapes / "disc" / "0.png").is_file()  # sources are never touched


@pytest.mark.parametrize(
    "classes",
    [["cat", "  "], ["cat", "../dog"], ["cat", "a/b"], ["a", ".b"],
     ["cat", "d\0g"], ["cat", "d\u202eog"], ["cat", "x" * 256], ["cat", "ü" * 128], ["a", "\ud800"],
     ["cat", ".."]],
)  # fmt: skip
def test_classes_that_cannot_be_folders_are_refused(sets: Library, classes: list[str]) -> None:
    with pytest.raises(SourceError):
        sets.new_empty(classes)
    assert sets.all() == []


def test_a_look_is_repeated_where_files_changed(sets: Library, queue: Queue, shapes: Path) -> None:
    (shapes / "disc" / "again.png").write_bytes((shapes / "disc" / "0.png").read_bytes())
    added = sets.add_source(str(shapes))
    job = looked_at(sets, added.id)
    assert job.kind == "look"
    look = sets.looked(added.id)
    assert look is not None
    assert look.images == 25
    [copies] = (each for each in look.findings if each.kind == "exact-duplicates")
    assert sorted(copies.rows.tolist()) == [0, 12]
    assert Library(queue.home, queue).looked(added.id) == look
    assert sets.look(added.id) is None
    (shapes / "disc" / "new.png").write_bytes(png(shape_image("disc", 99)))
    again = sets.look(added.id)
    assert again is not None
    assert again.id != job.id


def test_a_look_that_failed_is_not_repeated_by_itself(
    sets: Library, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = (sys.executable, "-c", "raise SystemExit(1)")
    monkeypatch.setattr("opsin.studio.datasets.catalogue.command", lambda *_: fails)
    added = sets.add_source("digits")
    job = looked_at(sets, added.id)
    assert queue.get(job.id).state == "failed"
    assert sets.look(added.id) is None
    queue.remove(job.id)
    assert sets.look(added.id) is not None


@pytest.mark.parametrize("source", ["/", "..", "elsewhere", "link"])
def test_a_copied_home_makes_no_other_folder_ours(
    tmp_path: Path, queue: Queue, sets: Library, source: str
) -> None:
    made = sets.new_empty(["cat", "dog"])
    place = sets.get(made.id).place
    outside = tmp_path / "outside"
    outside.mkdir()
    (place.parent / "link").symlink_to(outside)
    places = {"/": "/", "..": str(place.parent / ".."), "elsewhere": str(outside)}
    record = sets.folder(made.id) / "set.json"
    content = json.loads(record.read_text())
    content["sources"] = [places.get(source, str(place.parent / source))]
    record.write_text(json.dumps(content))
    again = Library(queue.home, queue)
    assert not again.get(made.id).made_here
