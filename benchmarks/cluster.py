"""Images on a Ray cluster of two nodes, beside two processes with a shard each, on the same cores.

    .venv-ray/bin/python -m benchmarks.cluster RUN --images 8000

Images are photographs of about 23 kB, made here. Both ways answer all of them, in turn: two shards
and their merging, and a Ray cluster of two nodes with one processor each, in a network namespace of
its own (needs root). Memory is the most that the command itself had, for the numbers of images
given with ``--memory``, small ones.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tests.ray_cluster import RayCluster

# Different files; the others are further names of theirs.
_FILES = 200


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run, or its classifier.onnx")
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    run = given.run.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = made_photos(folder / "photos", given.images, size=(320, 240))
        with RayCluster(folder / "r") as cluster:
            for _ in range(2):
                cluster.add()
            rates = [
                (
                    _shards(run, photos, folder / f"{n}"),
                    _on_ray(cluster, run, photos, folder / f"{n}"),
                )
                for n in range(given.repeats)
            ]
            memory = {count: _memory(cluster, run, folder, count) for count in given.memory}
    rates = [(given.images / plain, given.images / ray) for plain, ray in rates]
    print("images/s   two shards   two Ray nodes   ratio")
    for plain, ray in rates:
        print(f"           {plain:10,.0f}   {ray:13,.0f}   {ray / plain:5.2f}")
    ratio = statistics.median(ray / plain for plain, ray in rates)
    print(f"median ratio {ratio:.2f}\n\nimages      memory of the command, MB")
    for count, size in memory.items():
        print(f"{count:<11,} {size:8.0f}")
    if given.out:
        found = {"rates": rates, "ratio": ratio, "memory": memory}
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def made_photos(folder: Path, count: int, *, size: tuple[int, int]) -> Path:
    """Make photographs of a kind, in a new folder: smooth colours with grain."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        if number >= _FILES:
            path.hardlink_to(folder / f"{number % _FILES:07}.jpg")
            continue
        coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), float)
        grain = random.normal(0, 12, smooth.shape)
        content = io.BytesIO()
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(content, "JPEG", quality=85)
        path.write_bytes(content.getvalue())
    return folder


def _words(run: Path, photos: Path, out: Path) -> list[str]:
    return ["opsin", "predict", str(run), str(photos), "--out", str(out), "--quiet"]


def _shards(run: Path, photos: Path, folder: Path) -> float:
    """Return the seconds of two processes with a shard each, and of merging these."""
    began, out = time.perf_counter(), folder / "plain.csv"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *_words(run, photos, out), "--shard", f"{number}/2"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for number in (1, 2)
    ]
    assert [process.wait() for process in started] == [0, 0]
    subprocess.run(
        [sys.executable, "-m", "opsin", "merge", str(out), "--quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _on_ray(cluster: RayCluster, run: Path, photos: Path, folder: Path) -> float:
    """Return the seconds of the cluster; its answers are those of the shards."""
    began, out = time.perf_counter(), folder / "ray.csv"
    done = cluster.run([*_words(run, photos, out), "--on", "ray"])
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == out.with_name("plain.csv").read_bytes()
    return seconds


def _memory(cluster: RayCluster, run: Path, folder: Path, count: int) -> float:
    """Return the most memory that the command had, in MB, for so many small images."""
    photos = made_photos(folder / f"small-{count}", count, size=(16, 12))
    script = folder / "measured.py"
    script.write_text(
        "import resource, sys\nfrom opsin.cli.verbs import run\n"
        "sys.argv = sys.argv[1:]\nrun()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    words = _words(run, photos, folder / f"{count}.csv")
    done = cluster.run(["measured", *words, "--on", "ray"], cwd=folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    main()
