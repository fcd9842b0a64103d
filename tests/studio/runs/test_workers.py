"""Workers answer as the classifier does, start again where they died, and end with the studio."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from opsin.core.errors import ModelFileError, OpsinError
from opsin.core.platform import process_exists
from opsin.data.dataset import Dataset
from opsin.data.pixel_values import encode_png
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere, new_api
from opsin.studio.runs import workers
from opsin.studio.runs.albums import ImagePlaces
from opsin.studio.runs.workers import Workers, add_routes
from opsin.studio.words import opaque
from tests.made_classifier import unsound_for_sevens
from tests.made_runs import answers_right, write_run
from tests.studio.made_jobs import fetch

pytestmark = pytest.mark.anyio

RUN = opaque("means")


@pytest.fixture(autouse=True)
async def _end(looking: Studio) -> AsyncIterator[None]:
    yield
    await looking.inside.stop()
    await looking.tried.workers.stop()


def processes(asked: Workers) -> list[int]:
    found = [worker.process for worker in (*asked._idle, *asked._busy)]
    return [process.pid for process in found if process is not None and process.returncode is None]


async def started(asked: Workers) -> int:
    while not processes(asked):
        await asyncio.sleep(0.01)
    return processes(asked)[0]


async def ended(pid: int) -> None:
    while process_exists(pid):
        await asyncio.sleep(0.02)


async def test_one_process_answers_and_is_asked_nothing_twice(looking: Studio) -> None:
    told: list[tuple[str, int, int]] = []
    inside = looking.inside
    both = await asyncio.gather(*(
        inside.ask(RUN, "unit", layer="head", limit=50, on_progress=lambda *now: told.append(now))
        for _ in range(2)
    ))  # fmt: skip
    assert both[0] is both[1]
    assert told[0] == ("Units of head", 0, 50)
    (first,) = processes(inside)
    again = await inside.ask(RUN, "maps", layer="input", image="test/1")
    assert processes(inside) == [first]
    assert inside.image(again.address, "0") == again.images[0]
    assert inside.image(again.address, f"{len(again.images)}") is None
    assert inside.image(again.address.replace(RUN, "0" * 16), "0") is None


async def test_a_strangers_heat_map_is_made_within_limits(looking: Studio, digits: Dataset) -> None:
    api = new_api()
    add_routes(api, looking.inside, looking.tried)
    key = looking.tried.put(encode_png(digits.images[5]), "5.png")
    assert looking.tried.workers._memory
    heat = await looking.tried.where(RUN, key)
    reply = await fetch(api, heat.src(heat.values["image"]))
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
    assert (len(processes(looking.tried.workers)), processes(looking.inside)) == (1, [])


async def test_a_worker_that_died_is_started_again(looking: Studio) -> None:
    inside = looking.inside
    asked = asyncio.create_task(inside.ask(RUN, "explain", image="test/1"))
    first = await started(inside)
    os.kill(first, 9)
    with pytest.raises(OpsinError, match="ended by SIGKILL"):
        await asked
    answer = await inside.ask(RUN, "maps", layer="head", image="test/1")
    assert answer.values["answer"]["label"] in {*"0123456789", "none of these"}
    (second,) = processes(inside)
    os.kill(second, 9)  # without work
    while inside._idle[0].process.returncode is None:  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
    await inside.ask(RUN, "maps", layer="head", image="test/2")
    assert not {first, second} & {*processes(inside)}


async def test_an_unsound_answer_is_refused_and_no_other(looking: Studio, digits: Dataset) -> None:
    looking.runs.get(RUN).classifier.write_bytes(unsound_for_sevens())
    eights, sevens = (encode_png(np.full((8, 8, 1), value, np.uint8)) for value in (8, 7))
    tried = looking.tried
    answer = await tried.answer(RUN, tried.put(eights, "eights"))
    with pytest.raises(ModelFileError):
        await tried.answer(RUN, tried.put(sevens, "sevens"))
    assert (await tried.answer(RUN, tried.put(eights, "again"))).label == answer.label


async def test_what_takes_long_is_ended(looking: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workers._SHORT, "predict", 0.01)
    with pytest.raises(OpsinError, match="too long"):
        await looking.tried.answer(RUN, looking.tried.put(b"", "a.png"))
    assert processes(looking.tried.workers) == []


async def test_what_is_given_up_ends_and_can_be_asked_again(looking: Studio) -> None:
    inside = looking.inside
    one, other = (asyncio.create_task(inside.ask(RUN, "explain", image="test/1")) for _ in range(2))
    slow = await started(inside)
    one.cancel()
    await asyncio.wait([one, other])
    assert other.cancelled()
    await ended(slow)
    again = await inside.ask(RUN, "maps", layer="head", image="test/1")
    assert len(again.values["units"]) == 10


async def test_workers_are_few_and_end_when_idle_or_with_the_studio(
    looking: Studio, tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    right = answers_right(digits, 0.8)
    write_run(tmp_path / "runs", "other", digits, right, classifier=nearest_mean)
    places = ImagePlaces(looking.sets, looking.folders, tmp_path)
    few = Workers(looking.runs, places, most=1, idle=0.05)
    await few.ask(RUN, "maps", layer="head", image="test/1")
    (first,) = processes(few)
    await few.ask(opaque("other"), "maps", layer="head", image="test/1")
    await ended(first)
    while processes(few):
        await asyncio.sleep(0.02)
    asked = asyncio.create_task(few.ask(RUN, "maps", layer="head", image="test/2"))
    last = await started(few)
    await few.stop()
    assert not process_exists(last)
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_refusals_name_no_place_of_the_machine(looking: Studio, tmp_path: Path) -> None:
    looking.runs.get(RUN).classifier.write_bytes(b"no model")
    with pytest.raises(NotThere):
        await looking.inside.ask("0" * 16, "maps")
    asked = (
        looking.inside.ask(RUN, "maps", layer="head", image="test/1"),
        looking.tried.answer(RUN, looking.tried.put(b"", "x.png")),
    )
    for question in asked:
        with pytest.raises(OpsinError, match="no readable ONNX file") as refused:
            await question
        assert str(tmp_path) not in str(refused.value)


async def test_images_have_addresses_of_their_own_and_no_others(looking: Studio) -> None:
    api = new_api()
    add_routes(api, looking.inside, looking.tried)
    answer = await looking.inside.ask(RUN, "maps", layer="input", image="test/1")
    reply = await fetch(api, answer.src(0))
    assert (reply.status_code, reply.content) == (200, answer.images[0])
    assert reply.headers["content-type"] == "image/png"
    key = answer.address.rpartition("/")[2]
    names = "999.png", "-1.png", "\u0661.png", "0.html"
    others = [
        f"/inside/{'0' * 16}/{key}/0.png",
        f"/inside/{RUN}/{'0' * 24}/0.png",
        f"/inside/{RUN}/..%2f..%2fqueue/0.png",
    ]
    for other in (*others, *(f"/inside/{RUN}/{key}/{name}" for name in names)):
        assert (await fetch(api, other)).status_code == 404
