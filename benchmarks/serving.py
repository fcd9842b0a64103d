"""How many images a second `opsin serve` answers, how soon, and what it stands.

    python -m benchmarks.serving RUN IMAGES --peers .venv-peers/bin/python --out serving.json
    python -m benchmarks.serving RUN IMAGES --trials overload swap slow kill soak

RUN is a `resnet`, IMAGES a folder. Without them a small one is trained on the digits, and
images are made. All servers have the same network, listen on loopback and get the same files,
which they decode, resize and classify; the load comes from wrk, or from a Python client where that
is not installed. For each peer several settings are tried first, and the best is kept. In each
repeat all take their turns, and so do processes, one a core, that decode and answer without any
HTTP: what the machine can do at most. The client takes its part of the same cores, and the table
says how much.

The trials look at our server alone (benchmarks/serving_trials.py). The peers' environment is
described in benchmarks/requirements-peers.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import opsin
from benchmarks.contenders import (
    PEERS,
    SETTINGS,
    Contender,
    Peers,
    make_peers,
    ours,
    peer,
    running,
    small_resnet,
)
from benchmarks.load_client import allow_connections, load
from benchmarks.reading import write_photos
from benchmarks.serving_trials import TRIALS, trial
from opsin.runtime.classifier import Classifier

_CONNECTIONS: Final = (1, 8, 64)
_BATCH: Final = 16
# At the most; wrk's one thread holds them all in memory.
_IMAGES: Final = 500


def main() -> None:
    """Measure what was asked for and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", help="run directory of a resnet")
    parser.add_argument("images", nargs="?", type=Path, help="folder of images")
    parser.add_argument(
        "--peers",
        type=Path,
        default=PEERS,
        help="Python of the peers' environment (default: %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument(
        "--settings", type=int, metavar="N", help="try so few settings of each peer (default: all)"
    )
    parser.add_argument(
        "--trials",
        nargs="+",
        choices=TRIALS,
        default=[],
        metavar="NAME",
        help=f"instead of the comparison: {', '.join(TRIALS)}",
    )
    parser.add_argument("--overload", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--soak", type=float, default=30, metavar="MINUTES")
    parser.add_argument("--swap", type=int, default=10_000, metavar="REQUESTS")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(_alone(json.loads(options.alone.read_text(encoding="utf-8")))))
        return
    if options.repeats < 1:
        parser.error("expected at least 1 repeat")
    allow_connections()
    results: dict[str, Any] = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(options.model) if options.model else small_resnet(folder)
        if options.images is None:
            options.images = folder / "photos"
            write_photos(options.images, 100)
        images = _read(options.images)
        try:
            if options.trials:
                for each in options.trials:
                    results[each] = trial(each, model, images, options)
                    _keep(results, options.out)
            else:
                results["comparison"] = _compare(model, images, folder, options)
        except KeyboardInterrupt:
            print("stopped; what is finished is above", file=sys.stderr)
            sys.exit(130)
    _keep(results, options.out)


def _keep(results: dict[str, Any], out: Path | None) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "opsin": opsin.__version__,
        "client": "wrk" if shutil.which("wrk") else "python",
    }


def _read(folder: Path) -> list[bytes]:
    """Read the images of a folder, evenly out of all."""
    endings = (".jpg", ".jpeg", ".png")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings)
    if not files:
        sys.exit(f"expected JPEG or PNG files below {folder}; received none")
    return [file.read_bytes() for file in files[:: -(-len(files) // _IMAGES)]]


def _compare(
    model: Path, images: Sequence[bytes], folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Let all take their turns; print the table and return all figures."""
    network = folder / "network"
    network.mkdir()
    peers = Peers.found(options.peers)
    tried: dict[str, Any] = {}
    contenders = [ours(model)]
    if present := peers.installed(SETTINGS):
        make_peers(peers.python, Classifier(model, threads=1), network)
    for kind in present:
        best, tried[kind] = _best(kind, peers.python, network, images, options)
        contenders.append(best)
    repeats: list[dict[str, Any]] = []
    for number in range(options.repeats):
        repeats.append({})
        for contender in contenders:
            _say(f"repeat {number + 1} of {options.repeats} · {contender.name}")
            repeats[-1][contender.name] = _turn(contender, images, options.seconds)
        _say(f"repeat {number + 1} of {options.repeats} · decode + inference alone")
        repeats[-1]["alone"] = _without_http(model, images, folder, options.seconds)
    chosen = {each.name: each.settings for each in contenders}
    _print_table(repeats, chosen)
    return {"peers": peers.versions, "tried": tried, "chosen": chosen, "repeats": repeats}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _best(
    kind: str, python: Path, network: Path, images: Sequence[bytes], options: argparse.Namespace
) -> tuple[Contender, list[dict[str, Any]]]:
    """Return a peer with the settings that are fastest at 64 connections, and all figures."""
    tried: list[dict[str, Any]] = []
    for settings in SETTINGS[kind][: options.settings]:
        _say(f"trying {kind} {settings}")
        contender = peer(kind, python, network, settings)
        with running(contender, images[0]) as server:
            requests = contender.requests(server.port, images)
            load(server.port, requests, 2, connections=64)
            figures = load(server.port, requests, options.seconds / 2, connections=64)
        tried.append({"settings": settings, **figures})
    return peer(kind, python, network, max(tried, key=lambda one: one["rate"])["settings"]), tried


def _turn(contender: Contender, images: Sequence[bytes], seconds: float) -> dict[str, Any]:
    with running(contender, images[0]) as server:
        requests = contender.requests(server.port, images)
        load(server.port, requests, 2, connections=8)
        found: dict[str, Any] = {}
        for connections in _CONNECTIONS:
            before = server.cpu()
            figures = load(server.port, requests, seconds, connections=connections)
            figures["cpu"] = (server.cpu() - before) / figures["statuses"]["200"]
            found[str(connections)] = figures
        return {**found, "start": server.seconds, "memory": server.memory()}


def _without_http(
    model: Path, images: Sequence[bytes], folder: Path, seconds: float
) -> dict[str, float]:
    """Let one process a core decode and answer; return images a second and seconds of each."""
    kept = folder / "images"
    kept.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        (kept / f"{number}").write_bytes(image)
    task = folder / "alone.json"
    # All begin at once, when the slowest has loaded what it needs.
    content = {
        "model": str(model),
        "images": str(kept),
        "seconds": seconds,
        "begin": time.time() + 5,
    }
    task.write_text(json.dumps(content), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.serving", "--alone", str(task)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(os.cpu_count() or 1)
        ]
        said = [process.communicate()[0] for process in processes]
    found = [json.loads(each) for each in said]
    return {
        "rate": sum(each["rate"] for each in found),
        "cpu": statistics.mean(each["cpu"] for each in found),
    }


def _alone(task: dict[str, Any]) -> dict[str, float]:
    classifier = Classifier(task["model"], threads=1)
    images = [file.read_bytes() for file in sorted(Path(task["images"]).iterdir())]
    classifier.predict(images[0])
    time.sleep(max(0.0, task["begin"] - time.time()))
    count, began, used = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - began) < task["seconds"]:
        batch = [
            classifier.prepare(images[(count + place) % len(images)], "image")
            for place in range(_BATCH)
        ]
        count += len(classifier.predict_prepared(batch))
    return {"rate": count / spent, "cpu": (time.process_time() - used) / count}


def _print_table(repeats: list[dict[str, Any]], chosen: dict[str, dict[str, Any]]) -> None:
    """Print rates and latencies, how many times faster we are, and our share of the machine."""
    peers = [name for name in chosen if name != "opsin"]
    for name in peers:
        print(f"{name}: {chosen[name]}, the fastest settings of those tried")
    print(
        f"{'connections':<13}{'server':<10}{'images/s':>11}{'each':>24}{'p50':>9}{'p99':>9}"
        f"{'opsin is':>10}{'CPU':>9}{'client':>8}{'errors':>8}"
    )
    for connections in map(str, _CONNECTIONS):
        for name in ("opsin", *peers):
            mine = [repeat["opsin"][connections] for repeat in repeats]
            each = [repeat[name][connections] for repeat in repeats]
            ratio = _middle(a["rate"] / b["rate"] for a, b in zip(mine, each, strict=True))
            shown = " ".join(f"{one['rate']:,.0f}" for one in each)
            errors = sum(
                sum(one["statuses"].values()) - one["statuses"].get("200", 0) for one in each
            )
            print(
                f"{connections:<13}{name:<10}{_middle(one['rate'] for one in each):>11,.0f}"
                f"{shown:>24}{_middle(one['p50'] for one in each):>6.1f} ms"
                f"{_middle(one['p99'] for one in each):>6.1f} ms{ratio:>8.2f} ×"
                f"{1000 * _middle(one['cpu'] for one in each):>6.2f} ms"
                f"{_middle(one['client_cpu'] for one in each):>8.0%}{errors:>8,}"
            )
    most = str(_CONNECTIONS[-1])
    alone = [repeat["alone"] for repeat in repeats]
    shown = " ".join(f"{one['rate']:,.0f}" for one in alone)
    cpu = 1000 * _middle(one["cpu"] for one in alone)
    print(
        f"{'':<13}{'alone':<10}{_middle(one['rate'] for one in alone):>11,.0f}{shown:>24}"
        f"{cpu:>34.2f} ms\n"
        "CPU: processor time of all the server's processes for an image; client: share of a "
        "core that the load takes;\n"
        f"alone: decode + inference in {os.cpu_count()} processes, no HTTP"
    )
    shares = [repeat["opsin"][most]["rate"] / repeat["alone"]["rate"] for repeat in repeats]
    cores = os.cpu_count() or 1
    left = [
        share / (1 - repeat["opsin"][most]["client_cpu"] / cores)
        for share, repeat in zip(shares, repeats, strict=True)
    ]
    print(
        f"opsin at {most} connections: {_middle(shares):.0%} of alone (target ≥ 80%: "
        f"{_verdict(shares, 0.8)}), {_middle(left):.0%} of what the client leaves of it"
    )
    if peers:
        better = [
            repeat["opsin"][most]["rate"] / max(repeat[name][most]["rate"] for name in peers)
            for repeat in repeats
        ]
        print(f"{_middle(better):.2f} × the better peer (target ≥ 2: {_verdict(better, 2)})")


def _middle(values: Any) -> float:
    return float(statistics.median(values))


def _verdict(values: list[float], target: float) -> str:
    return "met" if statistics.median(values) >= target else "missed"


if __name__ == "__main__":
    main()
