"""A project's process sorts for all windows, starts again where it died, ends with the studio."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from opsin.core.errors import OpsinError
from opsin.labelling.label_file import LabelFile
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.sorting import Sorting, labels_of, set_aside
from opsin.studio.datasets.uploads import TRAY
from tests.conftest import write_shapes

pytestmark = pytest.mark.anyio


@pytest.fixture
def project(sets: Library) -> str:
    """A project with a class of its own, and photographs without one."""
    made = sets.new_empty(["cross"], title="Heap")
    place = sets.get(made.id).place
    write_shapes(place.parent, 6)
    (place.parent / TRAY).mkdir()
    for path in [*place.parent.glob("disc/*"), *place.parent.glob("square/*")]:
        path.rename(place.parent / TRAY / f"{path.parent.name}-{path.name}")
    return made.id


@pytest.fixture
async def sorting(sets: Library) -> AsyncIterator[Sorting]:
    sorting = Sorting(sets)
    yield sorting
    await sorting.stop()
    assert all(not sorter.alive for sorter in sorting._sorters.values())


async def test_all_windows_ask_one_process(sets: Library, project: str, sorting: Sorting) -> None:
    told: list[tuple[str, int, int]] = []
    await sorting.leave(project, "nobody")
    assert sorting._sorters == {}
    both = await asyncio.gather(
        *(
            sorting.ask(project, "next", who, count=20, on_progress=lambda *now: told.append(now))
            for who in ("me", "you")
        )
    )
    assert sorted(map(len, both)) == [0, 12]  # no photograph is asked of both
    assert {("Photographs", 0, 12)} <= set(told)
    (asked,) = (one for one in both if one)
    name = asked[0]["names"][0]
    assert name.startswith(f"../{TRAY}/")
    asked_by_me = (sorting.ask(project, do, "me") for do in ("state", "aside"))
    state, aside = map(asyncio.create_task, asked_by_me)
    await asyncio.sleep(0)
    aside.cancel()  # who stops waiting ends nobody else's question
    assert (await state)["images"] == 12
    leaves, waits = (asyncio.create_task(sorting.ask(project, "state", who)) for who in "ab")
    while not sorting._sorters[project].turn.locked():
        await asyncio.sleep(0)
    leaves.cancel()  # the process is ended by this, and another answers who waits
    assert (await waits)["images"] == 12
    first = sorting._sorters[project].process
    assert first is not None
    await sorting.ask(project, "label", "me", names=[name], answer="unclear", how="question")
    assert set_aside(labels_of(sets, project)) == {name: "unclear"}
    os.killpg(first.pid, signal.SIGKILL)
    with pytest.raises(OpsinError, match="SIGKILL"):
        await sorting.ask(project, "state", "me")
    assert (await sorting.ask(project, "state", "me"))["images"] == 12
    assert sorting._sorters[project].process is not first
    assert len(await sorting.ask(project, "aside", "me")) == 1


async def test_errors_name_no_place(sets: Library, project: str, sorting: Sorting) -> None:
    labels_of(sets, project).write_bytes(b"no database")
    with pytest.raises(OpsinError) as caught:
        await sorting.ask(project, "state", "me")
    assert str(sets.folder(project)) not in str(caught.value)
    assert set_aside(labels_of(sets, project)) == {}
    labels_of(sets, project).unlink()
    assert set_aside(labels_of(sets, project)) == {}
    LabelFile(labels_of(sets, project)).close()
    assert set_aside(labels_of(sets, project)) == {}
