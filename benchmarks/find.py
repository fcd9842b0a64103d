"""How fast a heap is searched: `opsin find` beside scikit-learn's exact search.

    python -m benchmarks.find --images 1000000 --out find.json

Points are made up, as wide as a heap's; they lie in a file that is mapped, as the cache's do.
scikit-learn's holds them in memory. Both are asked in turn; the first question is warm.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from sklearn.neighbors import NearestNeighbors

from opsin.labelling.search import most_similar

_BLOCK = 10_000


def main() -> None:
    """Make points, ask, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=513, help="numbers of a photograph")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("find.json"))
    given = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npy"
        shape = given.images, given.width
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, given.images, _BLOCK):
            part = random.standard_normal(mapped[start : start + _BLOCK].shape, np.float32)
            mapped[start : start + _BLOCK] = part / np.linalg.norm(part, axis=1, keepdims=True)
        mapped.flush()
        points = np.load(path, mmap_mode="r", allow_pickle=False)
        peer = NearestNeighbors(n_neighbors=20, algorithm="brute", metric="cosine")
        peer.fit(np.array(points))
        asked = points[:3]
        ways: dict[str, Callable[[], object]] = {
            "opsin": lambda: most_similar(points, asked, points[5:8], 20),
            "scikit-learn": lambda: peer.kneighbors(asked.mean(axis=0, keepdims=True)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(given.repeats + 1):
            for name, ask in ways.items():
                began = time.perf_counter()
                ask()
                if repeat:
                    seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        print(f"{name:14} {mean(times):.2f} ± {stdev(times):.2f} s a question")
    ratio = mean(seconds["scikit-learn"]) / mean(seconds["opsin"])
    print(f"scikit-learn takes {ratio:.1f} times as long on {given.images:,} × {given.width}")
    given.out.write_text(json.dumps({"images": given.images, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
