"""What `opsin serve` has to stand.

benchmarks/serving.py calls it; each trial has a real server.

- ``overload``: requests at twice the rate that the server can answer, whether or not the earlier
  ones are answered (an open loop). Whoever is accepted waits for all that are before it, so its
  latency is bounded by the images in the queue and those that the workers have already.
- ``swap``: requests on 64 connections at once, each with an image of its own: every answer must
  be that image's, equal to the last bit to what `Classifier.predict` says.
- ``slow``: 200 connections that send a byte a second, beside others that want to work.
- ``kill``: the only worker is killed under load, several times.
- ``soak``: images from 1 to 4,000 pixels a side, for half an hour, and the memory meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import math
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.contenders import Running, ours, running
from benchmarks.load_client import Connection, Reply, http_request, load, run
from opsin.runtime.classifier import Classifier

# Places in the queue of `opsin serve` and images of a batch, where nobody chooses other numbers.
_QUEUE: Final = 256
_BATCH: Final = 16
# Batches that a worker has at most: the present one, and the next, which lies ready behind it.
_BATCHES: Final = 2
_SLOW: Final = 200
_ALL: Final = "/predict?all=true"


def trial(
    name: str, model: Path, images: Sequence[bytes], options: argparse.Namespace
) -> dict[str, Any]:
    """Run one of the trials, print what came of it and return all figures."""
    print(f"{name} …", file=sys.stderr, flush=True)
    return TRIALS[name](model, images, options)


def _overload(model: Path, images: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    count = os.cpu_count() or 1
    words = ("--queue", _QUEUE, "--batch", _BATCH, "--workers", count)
    contender = ours(model, *map(str, words))
    with running(contender, images[0]) as server:
        requests = contender.requests(server.port, images)
        load(server.port, requests, 2, connections=64)
        capacity = load(server.port, requests, options.seconds, connections=64)["rate"]
        found = load(server.port, requests, options.overload, rate=2 * capacity)
        after = load(server.port, requests, options.seconds, connections=64)["rate"]
    # A place before it is worth the time in which the server, all its workers together, answers one
    # image.
    found["p99"] = found["p99"] or math.inf
    each = 1000 / found["rate"] if found["rate"] else math.inf
    at_work = count * _BATCHES * _BATCH
    bound = 1.2 * (_QUEUE + at_work) * each
    other = {status: n for status, n in found["statuses"].items() if status not in ("200", "503")}
    print(
        f"overload: {2 * capacity:,.0f} requests/s for {options.overload:.0f} s, twice what 64 "
        f"connections get ({capacity:,.0f})\n"
        f"  accepted {found['rate']:,.0f}/s ({found['rate'] / capacity:.0%}); afterwards "
        f"{after:,.0f}/s; statuses {found['statuses']}, others than 200 and 503: "
        f"{other or 'none'}; 503 without Retry-After: {found['without_retry_after']}\n"
        f"  p99 of the accepted {found['p99']:.0f} ms; bound {bound:.0f} ms "
        f"({'met' if found['p99'] <= bound else 'missed'}): ({_QUEUE} images in the queue + "
        f"{at_work} with the workers, {count} × {_BATCHES} batches of {_BATCH}) × {each:.2f} ms, "
        "an image's share of the whole server's time, + 20%; of the queue alone "
        f"{1.2 * _QUEUE * each:.0f} ms\n"
        f"  not sent for want of connections: {found['unsent']}, never answered: "
        f"{found['unanswered']}",
        flush=True,
    )
    return {"capacity": capacity, "bound": bound, "at_work": at_work, "after": after, **found}


def _noise(like: Any, count: int) -> list[bytes]:
    """Make images of the network's size, no two alike."""
    random = np.random.default_rng(0)
    shape = (like.height, like.width, like.channels)
    # Blocks and a level of their own: plain noise is the same to many networks.
    made = []
    for _ in range(count):
        coarse = random.integers(0, 256, (4, 4, like.channels), dtype=np.uint8)
        rows, columns = np.arange(shape[0]) * 4 // shape[0], np.arange(shape[1]) * 4 // shape[1]
        made.append(encoded(coarse[rows][:, columns]))
    return made


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """Return an image's file, of ``uint8[H, W, C]``."""
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(out, kind)
    return out.getvalue()


def probabilities_of(reply: Reply) -> list[list[float]]:
    """Return the probabilities of each image in a reply, in the order of the classes."""
    return [list(each["probabilities"].values()) for each in json.loads(reply.body)["predictions"]]


def _swap(model: Path, _: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    classifier = Classifier(model, threads=1)
    images = _noise(classifier.metadata.preparation, options.swap)
    serial = [list(classifier.predict(image).probabilities.values()) for image in images]
    wanted = np.array(serial, np.float32)
    contender = ours(model)
    with running(contender, images[0]) as server:
        began = time.perf_counter()
        replies: list[Reply] = run(ask_all(server.port, images))
        seconds = time.perf_counter() - began
    found = [
        probabilities_of(reply)[0] if reply.status == 200 else [0.0] * wanted.shape[1]
        for reply in replies
    ]
    # As float32: JSON carries each number with all its digits.
    differing = int((np.array(found, np.float32) != wanted).any(axis=1).sum())
    refused = sum(reply.status != 200 for reply in replies)
    distinct = len(np.unique(wanted, axis=0))
    print(
        f"swap: {len(images):,} requests on 64 connections in {seconds:.1f} s, answers without "
        f"status 200: {refused}; different from the serial answer in any bit: "
        f"{differing - refused} ({distinct:,} different answers)",
        flush=True,
    )
    return {
        "requests": len(images),
        "seconds": seconds,
        "refused": refused,
        "differing": differing - refused,
        "distinct": distinct,
    }


async def ask_all(port: int, images: Sequence[bytes], connections: int = 64) -> list[Reply]:
    """Ask about each image once, on so many connections; the replies in order."""
    replies = [Reply(0)] * len(images)

    async def one(start: int) -> None:
        connection = Connection(port)
        for place in range(start, len(images), connections):
            replies[place] = await connection.ask(http_request(port, images[place], path=_ALL))
        connection.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return replies


@contextlib.contextmanager
def slow_connections(port: int, count: int = _SLOW) -> Iterator[list[int]]:
    """Keep so many connections busy with a byte a second, half in headers, half in a body.

    What comes out is a list with the number of those that are open, and of bytes that were sent.
    """
    state, stopped = [0, 0], threading.Event()
    request = http_request(port, bytes(1_000_000))

    async def one(number: int) -> None:
        start = 0 if number % 2 else request.index(b"\r\n\r\n") + 4
        while not stopped.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(1)
                continue
            state[0] += 1
            with contextlib.suppress(OSError):
                writer.write(request[:start])
                for byte in request[start : start + 10_000]:
                    if stopped.is_set() or reader.at_eof():
                        break
                    writer.write(bytes([byte]))
                    state[1] += 1
                    await asyncio.sleep(1)
                writer.close()
            state[0] -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(count)))

    thread = threading.Thread(target=asyncio.run, args=(all_of_them(),))
    thread.start()
    try:
        until = time.monotonic() + 10
        while state[0] < count and time.monotonic() < until:
            time.sleep(0.05)
        yield state
    finally:
        stopped.set()
        thread.join()


def _slow(model: Path, images: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    contender = ours(model)
    without, beside, opened = [], [], []
    with running(contender, images[0]) as server:
        requests = contender.requests(server.port, images)
        load(server.port, requests, 2, connections=8)
        for _ in range(options.repeats):
            without.append(load(server.port, requests, options.seconds, connections=8))
            with slow_connections(server.port) as state:
                beside.append(load(server.port, requests, options.seconds, connections=8))
                opened.append(state[0])
    ratio = statistics.median(b["p99"] / a["p99"] for a, b in zip(without, beside, strict=True))
    shown = [" ".join(f"{one['p99']:.1f}" for one in each) for each in (without, beside)]
    print(
        f"slow: p99 of 8 connections {shown[0]} ms, beside {opened} slow ones {shown[1]} ms: "
        f"{ratio:.2f} × (target ≤ 2: {'met' if ratio <= 2 else 'missed'}); statuses "
        f"{[one['statuses'] for one in beside]}",
        flush=True,
    )
    return {"without": without, "beside": beside, "open": opened, "ratio": ratio}


def workers(server: Running) -> list[int]:
    """Return the processes that compute, the oldest first."""
    found = []
    for number in server.tree():
        with contextlib.suppress(OSError):
            if b"opsin.server.worker" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(number)
    return found


def _kill(model: Path, images: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    contender = ours(model, "--workers", "1")
    seconds: list[float] = []
    statuses: dict[str, int] = {}
    with running(contender, images[0]) as server:
        requests = contender.requests(server.port, images)

        async def tell(start: int, answered: list[tuple[float, int]], stop: asyncio.Event) -> None:
            connection, place = Connection(server.port), start
            while not stop.is_set():
                reply = await connection.ask(requests[place % len(requests)])
                answered.append((time.perf_counter(), reply.status))
                place += 8
                await asyncio.sleep(0 if reply.status == 200 else 0.01)
            connection.close()

        async def once() -> tuple[float, list[tuple[float, int]]]:
            answered: list[tuple[float, int]] = []
            stop = asyncio.Event()
            loads = [asyncio.create_task(tell(n, answered, stop)) for n in range(8)]
            await asyncio.sleep(1)
            killed = time.perf_counter()
            os.kill(workers(server)[0], signal.SIGKILL)  # the oldest: another may be a spare one
            await asyncio.sleep(4)
            stop.set()
            await asyncio.gather(*loads)
            return killed, answered

        for _ in range(max(options.repeats, 3)):
            killed, answered = run(once())
            # An answer that was on its way at that moment is none of the next worker's.
            back = [at for at, status in answered if status == 200 and at > killed + 0.02]
            seconds.append(min(back) - killed if back else float("inf"))
            for _, status in answered:
                statuses[str(status)] = statuses.get(str(status), 0) + 1
    print(
        f"kill: {len(seconds)} times the only worker, 8 connections: answers again after "
        f"{' '.join(f'{one:.2f}' for one in seconds)} s (target ≤ 1: "
        f"{'met' if max(seconds) <= 1 else 'missed'}); statuses {statuses}",
        flush=True,
    )
    return {"seconds": seconds, "statuses": statuses}


def _soak(model: Path, _: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    contender = ours(model)
    random = np.random.default_rng(0)
    # Sides from 1 to 4,000, each order of magnitude as likely; the ends are among them.
    sides = np.round(np.exp(random.uniform(0, np.log(4000), (60, 2)))).astype(int).tolist()
    # The largest as JPEG: as PNG they are more than a request may hold.
    images = [
        encoded(_texture(height, width, random), "PNG" if height * width < 1_000_000 else "JPEG")
        for height, width in [(1, 1), (4000, 4000), (1, 4000), *sides]
    ]
    samples: list[dict[str, float]] = []
    with running(contender, images[1]) as server:
        stop = threading.Event()
        began = time.perf_counter()

        def sample() -> None:
            while not stop.wait(2):
                samples.append({"seconds": time.perf_counter() - began, **server.memory()})

        thread = threading.Thread(target=sample)
        thread.start()
        requests = contender.requests(server.port, images)
        try:
            found = load(server.port, requests, options.soak * 60, connections=4)
        finally:
            stop.set()
            thread.join()
    print(
        f"soak: {options.soak:g} minutes, {sum(found['statuses'].values()):,} images from 1×1 "
        f"to 4000×4000, statuses {found['statuses']}"
    )
    grown = {part: _growth(samples, part) for part in ("front", "behind")}
    for part, (start, end, slope) in grown.items():
        print(
            f"  {part}: {start / 1e6:.0f} MB in the second quarter, {end / 1e6:.0f} MB in the "
            f"last ({end / start - 1:+.1%}); the second half grows by {slope / 1e6:+.2f} MB/hour",
            flush=True,
        )
    return {**found, "samples": samples, "growth": grown}


def _texture(height: int, width: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a smooth image with a little noise, ``uint8[H, W, 3]``."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(rows / step + columns / (2 * step)) for step in (7.0, 31.0, 101.0)]
    smooth = 128 + 80 * np.stack(waves, axis=2)
    noise = random.integers(0, 16, smooth.shape, dtype=np.uint8)
    return np.asarray(np.clip(smooth, 0, 239).astype(np.uint8) + noise)


def _growth(samples: Sequence[dict[str, float]], part: str) -> tuple[float, float, float]:
    """Return medians of the second and the last quarter, and the second half's slope an hour."""
    values = np.array([one[part] for one in samples])
    hours = np.array([one["seconds"] for one in samples]) / 3600
    if len(values) < 8:
        return 1.0, 1.0, 0.0
    quarter = len(values) // 4
    slope = float(np.polyfit(hours[2 * quarter :], values[2 * quarter :], 1)[0])
    second, last = values[quarter : 2 * quarter], values[-quarter:]
    return float(np.median(second)), float(np.median(last)), slope


TRIALS: Final[dict[str, Callable[[Path, Sequence[bytes], argparse.Namespace], dict[str, Any]]]] = {
    "overload": _overload,
    "swap": _swap,
    "slow": _slow,
    "kill": _kill,
    "soak": _soak,
}
