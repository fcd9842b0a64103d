"""How quick `opsin predict` is, and how small.

    python -m benchmarks.prediction RUN IMAGES --peers .venv-peers/bin/python --out FILE.json
    python -m benchmarks.prediction RUN IMAGES --only memory --million
    python -m benchmarks.prediction --only size

RUN is a `resnet`, IMAGES a folder; without them a small one is trained on the digits, and
images are made. All contenders take turns, and ratios are taken within a repeat.

- ``start``: one image as a whole process: `opsin predict`, Keras with a .keras file and PyTorch
  with a state dict, the same network with the same weights in all three. Python and the imports of
  ONNX Runtime and PyTorch alone say where the time goes. Both peers are left out where they are
  not installed.
- ``folder``: the network's part beside a bare loop of ONNX Runtime over arrays that are ready,
  decoding alone, and the whole folder beside what both together allow on this machine's cores.
- ``memory``: the highest memory use of `opsin predict MODEL FOLDER` for few and for many images.
- ``answers``: what it costs to keep an answer in its SQLite file and write it into the output.
- ``size``: what `pip install opsin` puts into a fresh environment, by package.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import opsin
from benchmarks.contenders import PEERS, Peers, make_peers, peers_environment, small_resnet
from benchmarks.reading import write_photos
from opsin.runtime.classifier import Classifier

_HERE: Final = Path(__file__).parent
_PARTS: Final = ("start", "folder", "memory", "answers", "size")
_BATCH: Final = 64
# Prepared images that the loops go over; more would only take memory.
_READY: Final = 2048
_OPSIN: Final = "opsin predict"
_PEERS: Final = ("keras-tensorflow", "pytorch")

# It is small itself: a process begins with the highest memory use of the one that started it.
_PEAK: Final = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": code, "peak": used.ru_maxrss, "seconds": time.perf_counter() - began}))
"""

_SIZES: Final = """
import importlib.metadata, json
sizes = {}
for each in importlib.metadata.distributions():
    disk = content = compiled = 0
    for file in each.files or ():
        path = file.locate()
        if path.is_file():
            found = path.stat()
            disk += found.st_blocks * 512
            content += found.st_size
            compiled += found.st_size if path.suffix == ".pyc" else 0
    sizes[each.name] = [disk, content, compiled]
print(json.dumps(sizes))
"""


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
    parser.add_argument(
        "--only",
        nargs="+",
        choices=_PARTS,
        default=_PARTS[:3],
        metavar="PART",
        help=f"{', '.join(_PARTS)} (default: the first three)",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each loop over a folder")
    parser.add_argument(
        "--made",
        type=int,
        default=1000,
        metavar="N",
        help="images to make where no folder is given",
    )
    parser.add_argument("--memory", type=int, nargs=2, default=(10_000, 100_000), metavar="N")
    parser.add_argument("--million", action="store_true", help="10,000 and 1,000,000 images")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--contender", choices=_LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        loop = _LOOPS[options.contender]
        print(json.dumps(loop(options.model, _files(options.images), options.seconds)))
        return
    if options.repeats < 1:
        parser.error("expected at least 1 repeat")
    results: dict[str, Any] = {
        "machine": {
            "cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "opsin": opsin.__version__,
        }
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needs_model = set(options.only) != {"size"}
        model = Path(options.model) if options.model else None
        if model is None and needs_model:
            model = small_resnet(folder)
        if options.images is None and needs_model:
            options.images = folder / "photos"
            write_photos(options.images, options.made)
        for part in options.only:
            results[part] = (
                _size(folder) if part == "size" else _WORKS[part](model or folder, folder, options)
            )
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    endings = (".jpg", ".jpeg", ".png")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings)
    if not files:
        sys.exit(f"expected JPEG or PNG files below {folder}; received none")
    return files


def _start(model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time the whole processes in turn."""
    network = folder / "network"
    network.mkdir()
    image = str(_files(options.images)[0])
    script = str(_HERE / "answering_peers.py")
    commands = {_OPSIN: [sys.executable, "-m", "opsin", "predict", str(model), image]}
    peers = Peers.found(options.peers)
    if present := peers.installed(_PEERS):
        make_peers(peers.python, Classifier(model, threads=1), network)
        for peer in present:
            verb = peer.partition("-")[0]
            commands[peer] = [str(peers.python), script, verb, str(network), image]
    for package in filter(find_spec, ("onnxruntime", "torch")):
        commands[f"import {package} alone"] = [sys.executable, "-c", f"import {package}"]
    commands["python alone"] = [sys.executable, "-c", ""]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    # Everybody once for nothing: the first process reads its packages from the disk.
    for turn in range(-1, options.repeats):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=peers_environment(network)
            )
            if done.returncode:
                sys.exit(f"{name} failed; the end of what it said:\n{done.stderr[-3000:]}")
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    print(
        f"{'one image, a whole process':<30}{'seconds':>9}{'each':>30}{'opsin is':>10}{'target':>9}"
    )
    for name, each in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[_OPSIN], each, strict=True))
        shown = " ".join(f"{one:.2f}" for one in each)
        tail = ""
        if name == _OPSIN:
            met = statistics.median(each) <= 0.6
            tail = f"{'':>10}{'≤ 0.6 s':>9}  {'met' if met else 'missed'}"
        elif name in _PEERS:
            tail = f"{ratio:>10.3f}{'≤ 0.250':>9}  {'met' if ratio <= 0.25 else 'missed'}"
        print(f"{name:<30}{statistics.median(each):>9.2f}{shown:>30}{tail}", flush=True)
    print()
    return {"peers": peers.versions, "seconds": seconds}


def _folder(model: Path, _: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Let the loops take their turns, each in a process of its own."""
    rates: dict[str, list[float]] = {name: [] for name in _LOOPS}
    for _turn in range(options.repeats):
        for name in _LOOPS:
            command = [
                sys.executable,
                "-m",
                "benchmarks.prediction",
                str(model),
                str(options.images),
                "--contender",
                name,
                "--seconds",
                str(options.seconds),
            ]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rates[name].append(float(json.loads(done.stdout)))
    bounds = [
        1 / (1 / network + 1 / decode)
        for network, decode in zip(rates[_BARE], rates[_DECODE], strict=True)
    ]
    parts = [a / b for a, b in zip(rates[_NETWORK], rates[_BARE], strict=True)]
    wholes = [a / b for a, b in zip(rates[_FOLDER], bounds, strict=True)]
    print(f"{'over a folder':<38}{'images/s':>11}{'each':>38}")
    for name, each in {**rates, "decoding and network allow": bounds}.items():
        shown = " ".join(f"{one:,.0f}" for one in each)
        print(f"{name:<38}{statistics.median(each):>11,.0f}{shown:>38}", flush=True)
    met = "met" if statistics.median(parts) >= 0.9 else "missed"
    print(
        f"the network's part is {statistics.median(parts):.2f} of a bare loop (target ≥ 0.9: "
        f"{met}); the whole folder is {statistics.median(wholes):.2f} of what decoding and the "
        f"network allow on {os.cpu_count()} cores\n"
    )
    return {"rates": rates, "bounds": bounds, "network": parts, "whole": wholes}


def _bare(model: str, files: Sequence[Path], seconds: float) -> float:
    """Return images a second of what anybody would write around ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415  each contender loads its own packages only

    classifier = Classifier(model)
    images = _ready(classifier, files)
    session = onnxruntime.InferenceSession(classifier.path, providers=["CPUExecutionProvider"])
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return _rate(
        lambda batch: len(session.run(["probabilities"], {"images": batch})[0]), batches, seconds
    )


def _network(model: str, files: Sequence[Path], seconds: float) -> float:
    """Return images a second of the answers to prepared images, as folders get them."""
    classifier = Classifier(model, threads=1)
    prepared = [classifier.prepare(file, file.name) for file in files[:_READY]]
    cores = os.cpu_count() or 1
    # As the pipeline does it: each core a batch of its own.
    size = max(8, classifier.batch_size // cores)
    batches = [prepared[start : start + size] for start in range(0, len(prepared), size)]
    turns = [
        [batches[(start + core) % len(batches)] for core in range(cores)]
        for start in range(0, len(batches), cores)
    ]
    with ThreadPoolExecutor(cores) as pool:

        def answer(turn: Sequence[Any]) -> int:
            return sum(len(answers) for answers in pool.map(classifier.predict_prepared, turn))

        return _rate(answer, turns, seconds)


def _decode(model: str, files: Sequence[Path], seconds: float) -> float:
    """Return images a second of decoding alone, on all cores."""
    classifier = Classifier(model)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:

        def batch(some: Sequence[Path]) -> int:
            return len(list(pool.map(lambda file: classifier.prepare(file, file.name), some)))

        parts = [files[start : start + 256] for start in range(0, len(files), 256)]
        return _rate(batch, parts, seconds)


def _stream(model: str, files: Sequence[Path], seconds: float) -> float:
    """Return images a second of the pipeline that `opsin predict` sends folders through."""
    from opsin.commands.predict.stream import classify_stream  # noqa: PLC0415
    from opsin.data.image_stream import ListedImage  # noqa: PLC0415

    images = [ListedImage(file.name, str(file)) for file in files]
    classifier = Classifier(model, threads=1)
    classifier.predict(files[0])
    count, began = 0, time.perf_counter()
    for _ in classify_stream(classifier, itertools.cycle(images)):
        count += 1
        if time.perf_counter() > began + seconds:
            break
    return count / (time.perf_counter() - began)


def _ready(classifier: Classifier, files: Sequence[Path]) -> Any:
    import numpy as np  # noqa: PLC0415

    return np.stack([classifier.prepare(file, file.name).pixels for file in files[:_READY]])


def _rate(work: Callable[[Any], int], parts: Sequence[Any], seconds: float) -> float:
    """Do the parts again and again for so long, once for nothing before."""
    work(parts[0])
    count, began = 0, time.perf_counter()
    for part in itertools.cycle(parts):
        count += work(part)
        if (spent := time.perf_counter() - began) > seconds:
            break
    return count / spent


_BARE: Final = "ONNX Runtime, arrays that are ready"
_NETWORK: Final = "opsin, images that are ready"
_DECODE: Final = "decoding alone"
_FOLDER: Final = "opsin, the whole folder"
_LOOPS: Final[dict[str, Callable[[str, Sequence[Path], float], float]]] = {
    _BARE: _bare, _NETWORK: _network, _DECODE: _decode, _FOLDER: _stream,
}  # fmt: skip


def _memory(model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Classify few and many small images; print the highest memory use of both processes."""
    counts = (10_000, 1_000_000) if options.million else options.memory
    small = folder / "small"
    write_photos(small, min(2000, *counts), small=True)
    sources = _files(small)
    found: dict[str, Any] = {}
    print(f"{'opsin predict FOLDER --out':<30}{'peak memory':>13}{'growth':>9}{'images/s':>12}")
    for count in counts:
        many = folder / f"many{count}"
        # Names of the same files: a million images take the room of two thousand.
        for number in range(count):
            place = many / f"{number // 10_000:03}" / f"{number}.jpg"
            if number % 10_000 == 0:
                place.parent.mkdir(parents=True)
            place.hardlink_to(sources[number % len(sources)])
        command = [
            sys.executable,
            "-m",
            "opsin",
            "predict",
            str(model),
            str(many),
            "--out",
            str(folder / f"{count}.jsonl"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, *command], check=True, stdout=subprocess.PIPE, text=True
        )
        figures = json.loads(done.stdout)
        with (folder / f"{count}.jsonl").open("rb") as lines:
            rows = sum(1 for _ in lines)
        if figures["code"] or rows < count:
            sys.exit(f"expected {count:,} answers; received {rows:,}, status {figures['code']}")
        peak = figures["peak"] * (1 if sys.platform == "darwin" else 1024)
        found[str(count)] = {"peak": peak, "seconds": figures["seconds"]}
        growth = peak / next(iter(found.values()))["peak"] - 1
        print(
            f"{f'{count:,} images':<30}{peak / 1e6:>10,.0f} MB{growth:>9.1%}"
            f"{count / figures['seconds']:>12,.0f}",
            flush=True,
        )
    print(f"target: growth ≤ 10%: {'met' if growth <= 0.1 else 'missed'}\n")
    return found


def _size(folder: Path) -> dict[str, list[int]]:
    """Install the bare package where nothing else is, and print what each package takes."""
    place = folder / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = str(place / "bin" / "python")
    quiet = ["install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", *quiet, str(_HERE.parent)], check=True)
    done = subprocess.run([python, "-c", _SIZES], check=True, stdout=subprocess.PIPE, text=True)
    # pip and setuptools were there before.
    sizes: dict[str, list[int]] = {
        name: each
        for name, each in json.loads(done.stdout).items()
        if name not in ("pip", "setuptools")
    }
    sizes["all"] = [sum(column) for column in zip(*sizes.values(), strict=True)]
    print(f"{'pip install opsin, MB':<30}{'content':>9}{'compiled':>10}{'on disk':>9}")
    for name, (disk, content, compiled) in sorted(sizes.items(), key=lambda item: item[1]):
        print(f"{name:<30}{content / 1e6:>9.1f}{compiled / 1e6:>10.1f}{disk / 1e6:>9.1f}")
    disk, content, _ = sizes["all"]
    # du's unit is 2^20 bytes, and it counts whole blocks of the disk.
    print(
        f"compiled: made of the sources by pip, part of the content; on disk: {disk >> 20} MiB "
        f"as du counts. target ≤ 200 MB of content: "
        f"{'met' if content <= 200e6 else 'missed'}\n",
        flush=True,
    )
    return sizes


def _answers(model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Keep answers in batches, as a command does; print microseconds an answer."""
    from opsin.commands.predict.answers_file import (  # noqa: PLC0415
        Answer,
        AnswersFile,
        database_beside,
    )
    from opsin.commands.predict.rows import RowFormat, json_line, row_of  # noqa: PLC0415

    classifier = Classifier(model)
    answer = classifier.predict(_files(options.images)[0])
    results: dict[str, Any] = {}
    print("format   µs an answer   of these on a processor   µs an answer to resume   bytes")
    for form in ("jsonl", "csv", "parquet"):
        out, count = folder / f"answers.{form}", options.memory[1]
        database = database_beside(out)
        began, used = time.perf_counter(), time.process_time()
        with AnswersFile(database, out, {}) as output:
            for start in range(0, count, 512):
                batch = range(start, min(start + 512, count))
                names = [f"photos/{number // 1000}/{number}.jpg" for number in batch]
                lines = [json_line(row_of(name, answer, 5, reject=True)) for name in names]
                output.append(
                    [Answer(*each) for each in zip(names, itertools.repeat(0), lines, strict=False)]
                )
            output.finish(RowFormat(out, 5).write)
        figures = [(time.perf_counter() - began) / count, (time.process_time() - used) / count]
        began = time.perf_counter()
        AnswersFile(database, out, {}).close()
        figures.append((time.perf_counter() - began) / count)
        results[form] = [1e6 * each for each in figures] + [database.stat().st_size / count]
        print(f"{form:<8}" + "".join(f"{each:14.1f}" for each in results[form]))
    return results


_WORKS: Final = {"start": _start, "folder": _folder, "memory": _memory, "answers": _answers}


if __name__ == "__main__":
    main()
