"""How long it takes to look inside: a page about one image, and a gallery of a layer's units.

    python -m benchmarks.inspection RUN [--repeats 5] [--images 60000] --out inspection.json

First `opsin inspect RUN IMAGE` is timed as a whole process, from nothing to the written page with
every layer's maps: the first time, which finds no figures of the training images kept by an
earlier one, and later times. Then a process for each layer looks for the images that excite each
of its units among so many images of the run, and tells its seconds, without its imports, and the
highest memory use that Linux has seen of it (VmHWM). The layers are the one with the largest maps
and the one before the last, or those that are named. Without RUN a small network is trained on the
digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

import opsin
from opsin.commands.inspect_model import Inspection

#: What we aim at: seconds of the process, seconds and bytes of a gallery.
AIMS: Final = {"inspect": 2.0, "gallery": 60.0, "memory": 1e9}


def main() -> None:
    """Time the processes and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", nargs="?", type=Path, help="run directory with its images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--layer", action="append", help="of the gallery (again for more)")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--gallery", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gallery:
        print(json.dumps(_gallery(options.run, options.gallery, options.images)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.run
        if source is None:
            run = opsin.train("digits", model="resnet", epochs=1, runs=folder / "runs", quiet=True)
            source = run.path
        # A copy, so that nothing is kept from earlier and nothing is left behind.
        run_copy = folder / "run"
        shutil.copytree(source, run_copy)
        shutil.rmtree(run_copy / "inspection", ignore_errors=True)
        results = {
            "inspect": _processes(run_copy, folder, options.repeats),
            "gallery": _galleries(run_copy, options.layer, options.images),
            "aims": AIMS,
        }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _processes(run: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Time the verb, the first time apart, beside what it cannot do without."""
    image = folder / "image.png"
    Image.fromarray(np.asarray(Inspection(run).known.images[0]).squeeze()).save(image)
    commands = {
        "opsin inspect RUN IMAGE": ["-m", "opsin", "inspect", str(run), str(image)],
        "opsin predict RUN IMAGE": ["-m", "opsin", "predict", str(run), str(image)],
        "import onnx, onnxruntime": ["-c", "import onnx, onnxruntime"],
    }
    first = _seconds(commands["opsin inspect RUN IMAGE"], folder)
    seconds: dict[str, list[float]] = {"the first time": [first]}
    for _ in range(repeats):
        for name, words in commands.items():
            seconds.setdefault(name, []).append(_seconds(words, folder))
    print(f"{'process':<34}{'median':>10}{'fastest':>10}{'slowest':>10}")
    for name, times in seconds.items():
        print(
            f"{name:<34}{statistics.median(times):>8.2f} s{min(times):>8.2f} s{max(times):>8.2f} s"
        )
    print(f"aim: {AIMS['inspect']:.0f} s", flush=True)
    return seconds


def _seconds(words: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - began


def _galleries(run: Path, layers: list[str] | None, images: int) -> list[dict[str, Any]]:
    """Time the gallery of each layer in a process of its own."""
    rows = opsin.Classifier(run).metadata.layers
    if not layers:
        largest = max(rows[1:], key=lambda row: math.prod(row.shape))
        layers = list(dict.fromkeys((largest.name, rows[-2].name)))
    print(
        f"\n{'gallery of':<22}{'units':>8}{'images':>10}{'seconds':>10}{'images/s':>12}"
        f"{'peak memory':>13}"
    )
    found: list[dict[str, Any]] = []
    for layer in layers:
        command = [sys.executable, __file__, str(run), "--gallery", layer, "--images", str(images)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        told: dict[str, Any] = json.loads(done.stdout)
        found.append(told)
        print(
            f"{layer:<22}{told['units']:>8,}{told['images']:>10,}{told['seconds']:>8.1f} s"
            f"{told['images'] / told['seconds']:>12,.0f}{told['peak'] / 1e6:>10,.0f} MB",
            flush=True,
        )
    print(f"aim: {AIMS['gallery']:.0f} s, {AIMS['memory'] / 1e6:,.0f} MB")
    return found


def _gallery(run: Path, layer: str, images: int) -> dict[str, Any]:
    """Look for what excites a layer's units, here and now."""
    from opsin.inspection.units import unit_gallery  # noqa: PLC0415  this process alone

    look = Inspection(run)
    # Validation and test images too, for a round number.
    rows = np.arange(min(images, len(look.known.images)))
    known = dataclasses.replace(look.known, train=rows)
    network = look.network
    began = time.perf_counter()
    gallery = unit_gallery(look.classifier, network, known, layer)
    seconds = time.perf_counter() - began
    return {
        "layer": layer,
        "units": len(gallery),
        "images": gallery.images,
        "seconds": seconds,
        "peak": _peak(),
    }


def _peak() -> int:
    """Return the highest memory use of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text("utf-8").splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
