"""How long a large file of Keras takes to import, and how much memory.

    python -m benchmarks.importing --megabytes 100

The file is a VGG-like network that is made here: convolutions, and dense layers with most of its
weights. Each repeat is a process of its own. Memory is the most that it had, and the most that the
process had in which the file is read, each less what an import of a small file takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.importing.made_keras import (
    Weights,
    drawn,
    image,
    layer,
    sequential,
    tutorial,
    write_h5,
    write_keras,
)

_PROGRAM = """
import json, resource, sys, time
import opsin
at = time.perf_counter()
opsin.import_model(sys.argv[1], classes=list("abcdefghij"), prepare="0..1", runs=sys.argv[2],
                   quiet=True)
seconds = time.perf_counter() - at
used = [resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([seconds, *used]))
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100, help="of the file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config, weights = _network(given.megabytes)
        files = [
            write_keras(place / "small.keras", *tutorial()),
            write_keras(place / "large.keras", config, weights),
            write_h5(place / "large.h5", config, weights),
        ]
        for file in files:
            for _ in range(given.repeats):
                words = [sys.executable, "-c", _PROGRAM, str(file), str(place / "runs")]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                found.setdefault(file.name, []).append(json.loads(done.stdout))
        sizes = {file.name: file.stat().st_size / (1 << 20) for file in files}
    small = [statistics.median(each) for each in zip(*found["small.keras"], strict=True)]
    print("file             MB  seconds   MB more here   MB more where it is read   times the file")
    for name, rows in found.items():
        seconds, here, there = (statistics.median(each) for each in zip(*rows, strict=True))
        more = (here - small[1], there - small[2])
        print(
            f"{name:14} {sizes[name]:4.0f} {seconds:8.1f} {more[0]:14.0f} {more[1]:26.0f} "
            f"{max(more) / sizes[name]:16.1f}"
        )
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _network(megabytes: int) -> tuple[dict[str, object], dict[str, Weights]]:
    units = max(16, megabytes * (1 << 20) // 4 // (16 * 16 * 32 + 10))
    config = sequential(
        image(64, 64, 3),
        layer("Conv2D", "conv1", filters=32, kernel_size=3, padding="same", activation="relu"),
        layer("MaxPooling2D", "pool1", pool_size=2, padding="valid"),
        layer("Conv2D", "conv2", filters=32, kernel_size=3, padding="same", activation="relu"),
        layer("MaxPooling2D", "pool2", pool_size=2, padding="valid"),
        layer("Flatten", "flatten"),
        layer("Dense", "dense", units=units, activation="relu"),
        layer("Dense", "scores", units=10, activation="softmax"),
    )
    weights: dict[str, Weights] = {
        "conv1": [drawn(3, 3, 3, 32), drawn(32)],
        "conv2": [drawn(3, 3, 32, 32), drawn(32)],
        "dense": [drawn(16 * 16 * 32, units) / 100, drawn(units)],
        "scores": [drawn(units, 10), drawn(10)],
    }
    return config, weights


if __name__ == "__main__":
    main()
