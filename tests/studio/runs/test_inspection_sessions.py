"""InspectionSessions are kept, started again where they died, and gone with the studio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui")

from fastapi import FastAPI

from opsin.core.errors import OpsinError
from opsin.data.dataset import Dataset
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.runs import inspection_sessions
from opsin.studio.runs.dataset_cache import ImagePlaces
from opsin.studio.runs.inspection_sessions import InspectionSessions, add_routes
from opsin.studio.runs.run_index import opaque
from tests.made_runs import answers_right, write_run
from tests.studio.made_jobs import fetch

RUN = opaque("means")


@pytest.fixture
def looking(studio: Studio, digits: Dataset, nearest_mean: Path) -> Studio:
    right = answers_right(digits, 0.9)
    write_run(studio.settings.runs, "means", digits, right, classifier=nearest_mean)
    return studio


def within(work: Coroutine[Any, Any, None], workers: InspectionSessions) -> None:
    async def whole() -> None:
        try:
            await asyncio.wait_for(work, 60)
        finally:
            await workers.stop()

    asyncio.run(whole())


def processes(workers: InspectionSessions) -> list[int]:
    found = [worker.process for worker in workers._workers]
    return [process.pid for process in found if process is not None]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_process_answers_and_is_asked_nothing_twice(looking: Studio, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    joined: list[tuple[str, int, int]] = []

    async def work() -> None:
        inside = looking.inside
        both = await asyncio.gather(
            inside.ask(RUN, "unit", on_progress=lambda *now: told.append(now), layer="head",
                       limit=50),
            inside.ask(RUN, "unit", layer="head", limit=50),
        )  # fmt: skip
        assert both[0] is both[1]
        assert told[0] == ("Units of head", 0, 50)
        await inside.ask(
            RUN, "unit", on_progress=lambda *now: joined.append(now), layer="head", limit=50
        )
        assert joined == told[-1:]
        (first,) = processes(inside)
        again = await inside.ask(RUN, "maps", layer="input", image="test/1")
        assert processes(inside) == [first]
        key = again.address.removeprefix(f"/inside/{RUN}/")
        assert inside.image(RUN, key, 0) == again.images[0]
        assert inside.image(RUN, key, len(again.images)) is None
        assert inside.image("0" * 16, key, 0) is None

    within(work(), looking.inside)
    assert not (tmp_path / "home" / "inside").exists()


def test_a_worker_that_died_is_started_again(looking: Studio) -> None:
    async def work() -> None:
        inside = looking.inside
        asked = asyncio.create_task(inside.ask(RUN, "explain", image="test/1"))
        while not processes(inside):
            await asyncio.sleep(0.01)
        (first,) = processes(inside)
        os.kill(first, 9)
        with pytest.raises(OpsinError, match="ended by SIGKILL"):
            await asked
        answer = await inside.ask(RUN, "maps", layer="head", image="test/1")
        assert answer.values["answer"]["label"] in {*"0123456789", "none of these"}
        assert processes(inside) != [first]

    within(work(), looking.inside)


def test_what_is_given_up_ends_and_can_be_asked_again(looking: Studio) -> None:
    async def work() -> None:
        inside = looking.inside
        asked = asyncio.create_task(inside.ask(RUN, "explain", image="test/1"))
        while not processes(inside):
            await asyncio.sleep(0.01)
        (slow,) = processes(inside)
        await inside.cancel(RUN, "explain", image="test/1")
        with pytest.raises(OpsinError, match="was given up"):
            await asked
        assert gone(slow)
        again = await inside.ask(RUN, "maps", layer="head", image="test/1")
        assert len(again.values["units"]) == 10

    within(work(), looking.inside)


def test_workers_are_few_and_end_when_idle_or_with_the_studio(
    looking: Studio, tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    right = answers_right(digits, 0.8)
    write_run(tmp_path / "runs", "other", digits, right, classifier=nearest_mean)
    places = ImagePlaces(looking.sets, looking.folders, tmp_path)
    few = InspectionSessions(looking.runs, places, looking.tried, tmp_path, most=1, idle=0.05)

    async def work() -> None:
        inside = few
        await inside.ask(RUN, "maps", layer="head", image="test/1")
        (first,) = processes(inside)
        await inside.ask(opaque("other"), "maps", layer="head", image="test/1")
        assert gone(first)
        (second,) = processes(inside)
        while not gone(second):
            await asyncio.sleep(0.02)
        asked = asyncio.create_task(inside.ask(RUN, "maps", layer="head", image="test/2"))
        while not processes(inside):
            await asyncio.sleep(0.01)
        (last,) = processes(inside)
        await inside.stop()
        assert gone(last)
        with pytest.raises(OpsinError):
            await asked

    within(work(), few)


def test_refusals_name_no_place_of_the_machine(looking: Studio, tmp_path: Path) -> None:
    (tmp_path / "runs" / "means" / "classifier.onnx").write_bytes(b"no model")

    async def work() -> None:
        with pytest.raises(NotThere):
            await looking.inside.ask("0" * 16, "maps")
        with pytest.raises(OpsinError) as refused:
            await looking.inside.ask(RUN, "maps", layer="head", image="test/1")
        assert "no readable ONNX file" in str(refused.value)
        assert str(tmp_path) not in str(refused.value)
        with pytest.raises(NotThere):
            await looking.inside.ask(RUN, "maps", kept="0" * 16)

    within(work(), looking.inside)


def test_images_have_addresses_of_their_own_and_no_others(looking: Studio) -> None:
    api = FastAPI()
    add_routes(api, looking.inside)

    async def work() -> None:
        answer = await looking.inside.ask(RUN, "maps", layer="input", image="test/1")
        reply = await fetch(api, answer.src(0))
        assert (reply.status_code, reply.content) == (200, answer.images[0])
        assert reply.headers["content-type"] == "image/png"
        key = answer.address.rpartition("/")[2]
        names = "999.png", "-1.png", "\u0661.png", "0.html"
        others = [f"/inside/{'0' * 16}/{key}/0.png", f"/inside/{RUN}/{'0' * 24}/0.png",
                  f"/inside/{RUN}/..%2f..%2fqueue/0.png"]  # fmt: skip
        for other in (*others, *(f"/inside/{RUN}/{key}/{name}" for name in names)):
            assert (await fetch(api, other)).status_code == 404

    within(work(), looking.inside)


def test_old_answers_make_room(looking: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_sessions, "_BYTES", 1)

    async def work() -> None:
        first = await looking.inside.ask(RUN, "maps", layer="input", image="test/1")
        second = await looking.inside.ask(RUN, "maps", layer="input", image="test/2")
        names = [answer.address.rpartition("/")[2] for answer in (first, second)]
        assert looking.inside.image(RUN, names[0], 0) is None
        assert looking.inside.image(RUN, names[1], 0) == second.images[0]

    within(work(), looking.inside)
