"""The same file on another device: whether it answers the same, and how much sooner.

    python -m benchmarks.devices RUN TRASHNET --device cuda --repeats 3

The CPU and the device take turns on images that are prepared already. Asked are probabilities that
differ by at most 1e-3, and 99.9% of the labels the same. Rates of single batches are those of
`opsin bench --classifier RUN`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import opsin
from opsin.runtime.providers import CPU


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="a run directory or a classifier.onnx")
    parser.add_argument("source", help="images with labels")
    parser.add_argument("--device", default="auto", help="as for opsin predict")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    pair = [opsin.Classifier(given.run, device=device) for device in (CPU, given.device)]
    kind = pair[0].metadata.preparation
    size, channels = (kind.height, kind.width), kind.channels
    data = opsin.load(given.source, size=size, channels=channels, resize=kind.resize)
    images = np.ascontiguousarray(data.images[:])
    here, there = (each.probabilities(images) for each in pair)
    seconds: list[list[float]] = [[], []]
    for _ in range(given.repeats):
        for classifier, times in zip(pair, seconds, strict=True):
            began = time.perf_counter()
            classifier.probabilities(images)
            times.append(time.perf_counter() - began)
    found = {
        "device": pair[1].device,
        "images": len(images),
        "seconds on the CPU": statistics.median(seconds[0]),
        "seconds on the device": statistics.median(seconds[1]),
        "ratio": statistics.median(cpu / other for cpu, other in zip(*seconds, strict=True)),
        "largest difference of a probability": float(np.abs(here - there).max()),
        "same labels": float(np.mean(here.argmax(1) == there.argmax(1))),
    }
    for name, value in found.items():
        print(f"{name:36} {value if isinstance(value, str | int) else f'{value:.6g}'}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
