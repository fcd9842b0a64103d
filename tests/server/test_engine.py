"""Many ask at once; each gets its own answer, to the last bit, whatever happens to the workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.core.errors import ImageError, ModelFileError, RunError
from opsin.runtime.classifier import Classifier
from opsin.server import ServerSettings, workers
from opsin.server.engine import (
    BATCH_BYTES,
    Engine,
    Entry,
    ImageToAnswer,
    PredictResult,
    Queue,
    next_batch,
)
from opsin.server.errors import BadAnswer, Expired, Overloaded, Stopping, TooLarge, WorkerDied
from tests.inspection.made_network import write_network
from tests.made_classifier import LAST, classifier, unsound_for_sevens
from tests.processes import python
from tests.server.made_engine import (
    Listener,
    computing,
    large,
    pids,
    png,
    running,
    until,
    write_leaning,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network") / "made.onnx")


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
async def two_models(
    nearest_mean: Path, network: Path, listener: Listener
) -> AsyncIterator[Engine]:
    models = {"means": nearest_mean, "made": network}
    async with running(models, workers=2, queue=5000, metrics=listener) as engine:
        yield engine


@pytest.fixture(scope="module")
async def small(nearest_mean: Path, listener: Listener) -> AsyncIterator[Engine]:
    async with running({"m": nearest_mean}, queue=8, batch=4, metrics=listener) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _nothing_is_told(listener: Listener) -> None:
    listener.told.clear()


@pytest.fixture(scope="module")
def image_files() -> list[bytes]:
    return [png(image) for image in noise(60, 9)]


def asked(*images: Any) -> list[ImageToAnswer]:
    return [ImageToAnswer(image) for image in images]


async def answered(engine: Engine, model: str, asks: list[ImageToAnswer]) -> list[PredictResult]:
    """Ask for answers, each of which is one and no error."""
    answers = await engine.predict(model, asks)
    assert all(isinstance(answer, PredictResult) for answer in answers)
    return cast("list[PredictResult]", answers)


def noise(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 1), dtype=np.uint8)


@contextlib.asynccontextmanager
async def halted(engine: Engine) -> AsyncIterator[None]:
    for pid in pids(engine):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids(engine):
            os.kill(pid, signal.SIGCONT)


async def test_nobody_gets_the_answer_of_another(
    two_models: Engine, listener: Listener, image_files: list[bytes]
) -> None:
    """Two models, two workers, files and pixels, one by one and many together."""
    paths = {name: served.file.path for name, served in two_models.served.items()}
    alone = {name: Classifier(path, threads=1) for name, path in paths.items()}
    serial = {name: [c.predict(image) for image in image_files] for name, c in alone.items()}
    pixels = {name: [answer.pixels for answer in answers] for name, answers in serial.items()}

    async def check(number: int) -> int:
        name = ("means", "made")[number % 2]
        places = [
            (number * 7 + step) % len(image_files) for step in range(1 + 4 * (number % 5 == 0))
        ]
        ready = number % 3 == 0
        images = [pixels[name][place] if ready else image_files[place] for place in places]
        asks = [ImageToAnswer(image, as_is=False, embedding=number % 11 == 0) for image in images]
        answers = await answered(two_models, name, asks)
        for place, answer in zip(places, answers, strict=True):
            expected = serial[name][place]
            # Pixels that are ready were turned before, where the model wants that.
            assert answer.notes == (() if ready else expected.notes)
            assert answer.probabilities.tolist() == list(expected.probabilities.values())
            assert (answer.embedding is not None) is (number % 11 == 0)
            if answer.embedding is not None:
                own = alone[name].answers(expected.pixels[None], embedding=True).embedding
                assert own is not None
                assert np.array_equal(answer.embedding, own[0])
        return len(places)

    done = await asyncio.gather(*(check(number) for number in range(2000)))
    assert not two_models._open
    assert listener.count("answered") == sum(done)
    batches = [told[2] for told in listener.told if told[0] == "batch"]
    assert max(batches) == 16
    assert sum(batches) == sum(done)


async def test_neither_an_unreadable_image_nor_a_signal_touches_the_others(
    two_models: Engine, nearest_mean: Path, image_files: list[bytes]
) -> None:
    bomb = bytearray(image_files[0])
    bomb[16:24] = (8000).to_bytes(4) * 2
    images = [
        image_files[0],
        b"",
        bytes(bomb),
        noise(1, 9)[0],
        image_files[1],
        image_files[2][:60],
        noise(1, 8)[0].astype(bool),
    ]

    before = pids(two_models)
    # Ctrl-C and the like go to the whole group; when a worker ends, its server decides.
    for pid in before:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    answers = await two_models.predict("means", asked(*images))
    expected = Classifier(nearest_mean, threads=1)
    for place, image in ((0, image_files[0]), (4, image_files[1])):
        answer = answers[place]
        assert isinstance(answer, PredictResult)
        shares = list(expected.predict(image).probabilities.values())
        assert answer.probabilities.tolist() == shares
    refused = [answers[place] for place in (1, 2, 3, 5, 6)]
    assert all(isinstance(answer, ImageError) for answer in refused)
    texts = [str(answer) for answer in refused]
    assert "no image" in texts[0]
    assert "8,000 × 8,000 pixels, and 50,000,000" in texts[1]
    assert "The image is uint8[9, 9, 1], not uint8[8, 8, 1]" in texts[2]
    assert "The image is bool[8, 8, 1], not uint8[8, 8, 1]" in texts[4]
    assert not any("/" in text for text in texts)
    assert pids(two_models) == before


async def test_the_queue_is_bounded(
    small: Engine, listener: Listener, image_files: list[bytes]
) -> None:
    async with halted(small):
        # Four are taken by the worker, four lie ready behind them, and eight wait.
        tasks = [asyncio.create_task(answered(small, "m", asked(p) * 4)) for p in image_files[:4]]
        await until(lambda: computing(small) == 8 and small.waiting == 8)
        with pytest.raises(Overloaded, match="8 images wait"):
            await small.predict("m", asked(image_files[0]))
        with pytest.raises(TooLarge, match="At most 8 images"):
            await small.predict("m", asked(image_files[0]) * 9)
        assert listener.count("refused", "overloaded") == 1
        tasks[3].cancel()
        await until(lambda: small.waiting == 4)
        more = asyncio.create_task(answered(small, "m", asked(image_files[5]) * 4))
    await asyncio.gather(*tasks[:3], more)


async def test_late_is_refused(small: Engine, listener: Listener, image_files: list[bytes]) -> None:
    with pytest.raises(Expired):
        await small.predict("m", asked(image_files[0]), deadline=0)
    async with halted(small):
        first = asyncio.create_task(small.predict("m", asked(image_files[0]) * 8))
        await until(lambda: computing(small) == 8)
        with pytest.raises(Expired, match=r"within 0\.05 s"):
            await small.predict("m", asked(image_files[1]) * 3, deadline=0.05)
        assert small.waiting == 0
    await first
    assert listener.count("refused", "expired") == 2
    assert [told[2] for told in listener.told if told[0] == "batch"] == [4, 4]


async def test_a_worker_that_is_killed_is_replaced(
    two_models: Engine, listener: Listener, image_files: list[bytes]
) -> None:
    engine = two_models

    first, second = pids(engine)
    os.kill(first, signal.SIGSTOP)
    lost = asyncio.create_task(engine.predict("means", asked(image_files[0])))
    await until(lambda: computing(engine) == 1)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="try again"):
        await lost
    # The other one goes on, and soon there are two again.
    await answered(engine, "means", asked(image_files[0]))
    await until(lambda: len(pids(engine)) == 2)
    assert second in pids(engine)
    assert listener.count("died") == listener.count("refused", "worker died") == 1
    # One that is being ended at this moment is given nothing any more.
    engine._pool.workers[0].kill()
    await asyncio.gather(*(engine.predict("means", asked(image)) for image in image_files))
    await until(lambda: len(pids(engine)) == 2)


async def test_an_image_of_a_batch_whose_process_died_is_computed_alone(
    small: Engine, listener: Listener, image_files: list[bytes]
) -> None:
    images = asked(large(), image_files[0])

    await until(lambda: len(pids(small)) == 1)
    task = asyncio.create_task(small.predict("m", images))
    await until(lambda: computing(small) > 0)
    os.kill(pids(small)[0], signal.SIGKILL)
    with pytest.raises(WorkerDied):
        await task
    for batches in ([1, 1], [2]):  # once they have answers, they are computed together again
        listener.told.clear()
        await answered(small, "m", images)
        assert [told[2] for told in listener.told if told[0] == "batch"] == batches


async def test_a_worker_that_is_stuck_is_replaced(
    nearest_mean: Path, image_files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE", 0.2)

    async with running({"m": nearest_mean}, deadline=0.3) as engine:
        (stuck,) = pids(engine)
        os.kill(stuck, signal.SIGSTOP)
        with pytest.raises(Expired):
            await engine.predict("m", asked(image_files[0]))
        await until(lambda: bool(pids(engine)) and stuck not in pids(engine))
        # On a busy machine the new one may answer too late at first.
        async with asyncio.timeout(30):
            done = None
            while not done:
                with contextlib.suppress(Expired):
                    done = await answered(engine, "m", asked(image_files[0]))


async def test_a_model_whose_answers_depend_on_the_batch_is_asked_singly(tmp_path: Path) -> None:
    path = write_leaning(tmp_path / "leaning.onnx", 1e-3)
    pixels = noise(40, 4)
    alone = Classifier(path, threads=1)
    together = alone.probabilities(pixels)

    async with running({"m": path}) as engine:
        assert not engine.served["m"].file.batch_invariant
        answers = await answered(engine, "m", asked(*pixels))
        for image, answer, other in zip(pixels, answers, together, strict=True):
            assert np.array_equal(answer.probabilities, alone.probabilities(image[None])[0])
            assert not np.array_equal(answer.probabilities, other)
        # One that takes its place knows that too.
        os.kill(pids(engine)[0], signal.SIGKILL)
        await until(lambda: len(pids(engine)) == 0)
        again = await answered(engine, "m", asked(*pixels))
        for before, after in zip(answers, again, strict=True):
            assert np.array_equal(before.probabilities, after.probabilities)


async def test_stopping_answers_what_it_took(nearest_mean: Path, image_files: list[bytes]) -> None:
    engine = Engine({"m": nearest_mean}, ServerSettings(workers=1))
    ready = [engine.ready]
    await engine.start()
    (worker,) = engine._pool.workers
    ready.append(engine.ready)
    tasks = [asyncio.create_task(answered(engine, "m", asked(image))) for image in image_files]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    ready.append(engine.ready)
    assert ready == [False, True, False]
    with pytest.raises(Stopping):
        await engine.predict("m", asked(image_files[0]))
    await stopping
    assert all(task.done() and task.result() for task in tasks)
    assert worker.process and worker.process.returncode is not None


async def test_in_haste_it_answers_that_it_stops(
    nearest_mean: Path, image_files: list[bytes]
) -> None:
    engine = Engine({"m": nearest_mean}, ServerSettings(workers=1))
    await engine.start()
    os.kill(pids(engine)[0], signal.SIGSTOP)
    tasks = [asyncio.create_task(engine.predict("m", asked(image))) for image in image_files]
    await until(lambda: computing(engine) > 0 and engine.waiting > 0)
    await engine.stop(wait=False)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Stopping}


async def test_it_does_not_start_with_a_broken_model(
    nearest_mean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "subprocess", None)  # before it starts a process
    (tmp_path / "broken.onnx").write_bytes(nearest_mean.read_bytes()[:1000])
    broken = Engine({"m": nearest_mean, "b": tmp_path / "broken.onnx"}, ServerSettings(workers=1))
    with pytest.raises(ModelFileError, match=r"broken\.onnx is no classifier that Opsin wrote"):
        await broken.start()
    missing = Engine({"m": tmp_path / "missing"}, ServerSettings(workers=1))
    with pytest.raises(RunError, match="does not exist"):
        await missing.start()


async def test_a_new_file_leaves_no_gap(nearest_mean: Path, network: Path, tmp_path: Path) -> None:
    """Files are replaced under load; each request has all its answers from one of them."""
    file, other = tmp_path / "m" / "classifier.onnx", tmp_path / "other.onnx"
    file.parent.mkdir()
    write_network(file, seed=0)
    write_network(other, seed=1)
    pixels = list(noise(20, 6))
    old, new = (
        Classifier(path, threads=1).probabilities(np.stack(pixels)) for path in (file, other)
    )
    assert not np.array_equal(old, new)

    listener, seen, stop = Listener(), set[str](), False

    async def client(engine: Engine) -> None:
        while not stop:
            digest = engine.served["m"].file.digest
            try:
                answers = await engine.predict("m", asked(*pixels))
            except WorkerDied:  # it had this request
                continue
            got = np.stack([a.probabilities for a in answers if isinstance(a, PredictResult)])
            assert np.array_equal(got, old if digest == first else new)
            seen.add(digest)
            await asyncio.sleep(0.02)

    async with running(
        {"m": file.parent / "classifier.onnx"}, workers=2, batch=8, deadline=8, metrics=listener
    ) as engine:
        first = engine.served["m"].file.digest
        clients = [asyncio.create_task(client(engine)) for _ in range(3)]
        file.write_bytes(b"half a file")
        await until(lambda: listener.count("reloaded", "m", False) == 1)
        assert engine.served["m"].file.digest == first
        killed = pids(engine)[0]
        os.kill(killed, signal.SIGKILL)
        # The one that takes its place has the old model too, though its file is gone.
        await until(lambda: len(pids(engine)) == 2 and killed not in pids(engine))
        shutil.copyfile(other, tmp_path / "whole")
        (tmp_path / "whole").replace(file)
        await until(lambda: listener.count("reloaded", "m", True) == 1)
        assert engine.served["m"].file.digest != first
        await until(lambda: len(seen) == 2)
        stop = True
        await asyncio.gather(*clients)
        # Nobody asks the old one any more, so nobody keeps it.
        await until(lambda: all(len(w.loaded) == 1 for w in engine._pool.workers))


def test_workers_end_with_their_server(nearest_mean: Path) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from opsin.server.engine import Engine\n"
        "from opsin.server import ServerSettings\n"
        "async def main():\n"
        "    engine = Engine({'m': Path(sys.argv[1])}, ServerSettings(workers=1))\n"
        "    await engine.start()\n"
        "    print(engine._pool.workers[0].process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    worker = int(python("-c", script, nearest_mean, check=False).stdout)
    end = time.monotonic() + 10
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.01)


async def test_a_stranger_s_file_takes_no_place(tmp_path: Path) -> None:
    """One that is unsound is not served; one that is unsound for some images costs these."""
    path, listener = tmp_path / "classifier.onnx", Listener()
    path.write_bytes(unsound_for_sevens())
    seven, other = (np.full((8, 8, 1), value, np.uint8) for value in (7, 8))

    async with running({"theirs": path}, metrics=listener) as engine:
        first, second = await engine.predict("theirs", asked(seven, other))
        assert isinstance(first, BadAnswer)
        assert "The model theirs gives no sound answer" in first.message
        assert isinstance(second, PredictResult)
        digest = engine.served["theirs"].file.digest
        strings = classifier(
            helper.make_node("Cast", ["shares"], ["probabilities"], to=TensorProto.STRING),
            LAST[1],
            kinds={"probabilities": (TensorProto.STRING, ["N", 3])},
        )
        (tmp_path / "new").write_bytes(strings)
        (tmp_path / "new").replace(path)
        await until(lambda: listener.count("reloaded", "theirs", False) == 1)
        assert engine.served["theirs"].file.digest == digest
        await answered(engine, "theirs", asked(other))


def one(model: Any = "m", size: int = 1, *, alone: bool = False, answer: Any = None) -> Entry:
    return Entry(model, ImageToAnswer(bytes(size)), alone, answer)


def queue(*entries: Entry) -> Queue:
    return Queue.fromkeys(entries)


def test_large_images_do_not_hold_up_each_other() -> None:
    half = BATCH_BYTES // 2 + 1
    waiting = queue(*(one(size=size) for size in (half, half, half, 2 * BATCH_BYTES)))
    assert [len(next_batch(waiting, 8)) for _ in range(5)] == [1, 1, 1, 1, 0]


_ENTRY = st.builds(one, st.sampled_from("ab"), st.integers(0, 40), alone=st.booleans())


@given(entries=st.lists(_ENTRY, max_size=30), most=st.integers(1, 4))
def test_whatever_waits(entries: list[Entry], most: int) -> None:
    """Never beyond the bounds, never twice, never dropped, in order of arrival."""
    waiting = queue(*entries)
    while entries:
        batch = next_batch(waiting, most)
        lane = [entry for entry in entries if entry.model == entries[0].model]
        assert batch == lane[: len(batch)]
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or not any(entry.alone for entry in batch)
        entries = [entry for entry in entries if entry not in batch]
        assert list(waiting) == entries
    assert next_batch(waiting, most) == []
