"""The same file on another device: whether it answers the same, and how much sooner.

    python -m benchmarks.devices TRASHNET --device cuda --repeats 3 --out devices.json

The device and the CPU take turns. ``train`` is the whole process of `opsin train` with an empty
cache, a fifth of the images as the test; ``answer`` the CPU's file on images that are prepared
already; ``predict`` the whole process of `opsin predict` on the folder; ``serve`` the
milliseconds of a server for each photograph, asked by 32 connections. Answers agree where
probabilities differ by at most 1e-3 and 99.9% of the labels are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import opsin
from benchmarks.contenders import ours, running
from benchmarks.load_client import load
from opsin.runtime.providers import CPU, choose


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="photographs in a folder for each class")
    parser.add_argument("--device", default="auto", help="as for opsin predict")
    parser.add_argument("--from", dest="network", default="efficientnet-lite2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of a server under load")
    parser.add_argument("--workers", default="4", help="of the server")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = _measure(given, Path(folder))
    for work, rates in found["seconds"].items():
        times = " · ".join(f"{name} {statistics.median(each):.2f}" for name, each in rates.items())
        turns = zip(rates[CPU], [*rates.values()][-1], strict=True)
        print(f"{work:8} {times}  ×{statistics.median(cpu / other for cpu, other in turns):.1f}")
    print(" · ".join(f"{key} {value:.6g}" for key, value in found["answers"].items()))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    devices = list(
        dict.fromkeys([CPU, choose(given.device)])
    )  # the CPU alone where there is no other
    works = ("train", "answer", "predict", "serve")
    seconds: dict[str, dict[str, list[float]]] = {w: {d: [] for d in devices} for w in works}
    accuracy = {}
    for repeat in range(given.repeats):
        for device in devices:
            words = ["train", given.source, "--from", given.network, "--test-fraction", "0.2"]
            runs = folder / f"{device}-{repeat}"
            seconds["train"][device].append(
                _opsin([*words, "--runs", runs], device, runs / "cache")
            )
            (file,) = runs.glob("*/classifier.onnx")
            accuracy[device] = opsin.Run(file.parent).report.figures["test"].accuracy or 0.0
    (model,) = (folder / f"{CPU}-0").glob("*/classifier.onnx")
    classifiers = [opsin.Classifier(model, device=device) for device in devices]
    preparation = classifiers[0].metadata.preparation
    size = preparation.height, preparation.width
    data = opsin.load(given.source, size=size, channels=3, resize=preparation.resize)
    images = np.ascontiguousarray(data.images[:])
    here, there = (classifiers[i].probabilities(images) for i in (0, -1))
    files = [path.read_bytes() for path in sorted(given.source.rglob("*.*"))[::20]]
    for repeat in range(given.repeats):
        for device, classifier in zip(devices, classifiers, strict=True):
            began = time.perf_counter()
            classifier.probabilities(images)
            seconds["answer"][device].append(time.perf_counter() - began)
            words = ["predict", model, given.source, "--out", folder / f"{device}-{repeat}.csv"]
            seconds["predict"][device].append(_opsin(words, device, folder / "cache"))
            server = ours(model, "--device", device, "--workers", given.workers)
            with running(server, files[0]) as up:
                requests = server.requests(up.port, files)
                load(up.port, requests, 2, connections=32)
                rate = load(up.port, requests, given.seconds, connections=32)["rate"]
            seconds["serve"][device].append(1000 / rate)
    return {
        "devices": [each.device for each in classifiers],
        "images": len(images),
        "seconds": seconds,
        "answers": {
            "largest difference of a probability": float(np.abs(here - there).max()),
            "same labels": float(np.mean(here.argmax(1) == there.argmax(1))),
            **{f"test accuracy, {device}": value for device, value in accuracy.items()},
        },
    }


def _opsin(words: list[Any], device: str, cache: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "opsin", *map(str, words), "--device", device, "--quiet"]
    environment = os.environ | {"OPSIN_CACHE": str(cache)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    print(f"{words[0]} on {device}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    main()
