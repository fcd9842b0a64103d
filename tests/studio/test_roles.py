"""What each role may change, where it is changed; limits on disk and queue."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.studio.context import Studio
from opsin.studio.errors import TooMany
from opsin.studio.jobs.queue import Queue
from opsin.studio.pages.page import all_pages
from opsin.studio.people import NotAllowed, People, Role, acting
from tests.conftest import write_shapes

KEY = "00000000000000aa"


@contextmanager
def somebody(people: People, role: Role) -> Iterator[str]:
    person = people.of_cookie(people.redeem(people.invite(f"A {role}", role)) or "")
    assert person
    with acting(person):
        yield person.id


def changes_of(studio: Studio) -> dict[Callable[[], object], Role]:
    made = studio.sets.new_empty(["disc", "square"], title="Shapes")
    write_shapes(studio.sets.get(made.id).place, 2)
    sets, jobs, albums = studio.sets, studio.jobs, studio.albums
    album = asyncio.run(albums.open(made.id))
    training = jobs.add("train", "a training", ["x"])
    short = jobs.add("predict", "answers for the owner", ["x"])
    of_owners: list[Callable[[], object]] = [
        lambda: sets.rename(made.id, "Other"),
        lambda: sets.new_empty(["a", "b"]),
        lambda: sets.add_source("digits"),
        sets.sweep,
        lambda: sets.new_place("a"),
        lambda: jobs.add("train", "b", ["x"]),
        lambda: jobs.add("import", "c", ["x"]),
        lambda: jobs.stop(training.id),
        lambda: jobs.stop(training.id, at_once=True),
        lambda: jobs.resume(training.id),
        lambda: jobs.remove(training.id),
        lambda: jobs.remove(short.id),
        studio.runs.sweep,
        studio.folders.list,
        lambda: studio.people.invite("Eve", "owner"),
        lambda: studio.projects.remove(made.id),
    ]
    of_labellers: list[Callable[[], object]] = [
        lambda: asyncio.run(albums.move(album, [0], "square")),
        lambda: asyncio.run(albums.add_class(album.dataset.id, "ring")),
        lambda: asyncio.run(albums.change_class(album, "disc", "round")),
        lambda: asyncio.run(albums.move(album, [0], "")),
        lambda: asyncio.run(albums.undo(made.id)),
        lambda: asyncio.run(albums.settle(made.id, ("a", "b"))),
    ]
    of_viewers: list[Callable[[], object]] = [
        lambda: studio.uploads.append(KEY, 0, b"abc"),
        lambda: jobs.add("predict", "d", ["x"]),
        lambda: studio.uploads.drop(KEY),
    ]
    roles: dict[Role, list[Callable[[], object]]] = {
        "viewer": of_viewers,
        "labeller": of_labellers,
        "owner": of_owners,
    }
    return {work: role for role, works in roles.items() for work in works}


@pytest.mark.parametrize("role", ["viewer", "labeller", "owner"])
def test_who_may_change_what(studio: Studio, role: Role) -> None:
    order = ["viewer", "labeller", "owner"]
    changes = changes_of(studio)
    with somebody(studio.people, role):
        for work, needed in changes.items():
            refused = False
            try:
                work()
            except NotAllowed:
                refused = True
            except OpsinError:  # another rule: such as a training that has not begun
                assert role == "owner" or needed != "owner"
            assert refused == (order.index(role) < order.index(needed)), (needed, work)


def test_nobody_else_learns_which_files_are_there(studio: Studio, tmp_path: Path) -> None:
    studio.sets.add_source("digits")
    with somebody(studio.people, "labeller"):
        for source in ("digits", str(tmp_path / "is it there")):
            with pytest.raises(NotAllowed):
                studio.sets.add_source(source)


def test_access_that_has_ended_changes_nothing_more(studio: Studio) -> None:
    with somebody(studio.people, "labeller") as person:
        studio.uploads.append(KEY, 0, b"abc")
        with acting():
            studio.people.revoke(person)
        with pytest.raises(NotAllowed, match="ended"):  # the next part of an upload
            studio.uploads.append(KEY, 3, b"def")
    assert studio.uploads.offset(KEY) == 3


def test_pages_of_owners_open_for_nobody_else(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Callable[[], Awaitable[object]]] = {}
    monkeypatch.setattr(ui, "page", lambda path, **_: partial(shown.__setitem__, path))
    for page in all_pages():
        page.register(studio)
    with somebody(studio.people, "labeller"):
        for path in ("/add", "/import", "/people", "/settings"):
            with pytest.raises(NotAllowed):
                asyncio.run(shown[path]())  # type: ignore[arg-type]


def test_the_queue_has_room_for_everybody(tmp_path: Path) -> None:
    queue, people = Queue(tmp_path, most_waiting=4), People(tmp_path)
    with somebody(people, "owner"):
        for number in range(2):
            queue.add("train", f"mine {number}", ["x"])
        with pytest.raises(TooMany, match="one person"):
            queue.add("train", "one more", ["x"])
    with somebody(people, "viewer"):
        for number in range(2):
            queue.add("predict", f"answers {number}", ["x"])
        with pytest.raises(TooMany):
            queue.add("predict", "one more", ["x"])
    for number in range(2):
        queue.add("train", f"the owner's {number}", ["x"])
    with pytest.raises(TooMany, match="4 trainings"):
        queue.add("train", "one more", ["x"])
    queue.add("look", "short ones have room", ["x"])
    assert len(Queue(tmp_path).jobs()) == 7
