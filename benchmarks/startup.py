"""How long `opsin predict` takes as a whole process, from nothing to the answer.

    python benchmarks/startup.py [MODEL] [--repeats 10]

Without MODEL a small network is trained on the digits first. The same process is timed with
ONNX Runtime's import alone and with PyTorch's, to say where the time goes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import opsin


def main() -> None:
    """Time the processes in turn and print the median of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", help="run directory or classifier.onnx")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            run = opsin.train("digits", model="mlp", epochs=1, runs=folder, quiet=True)
            model = str(run.path)
        picture = Path(folder) / "picture.png"
        Image.new("L", (28, 28), 9).save(picture)
        commands = {
            "opsin predict MODEL PICTURE": ["-m", "opsin", "predict", model, str(picture)],
            "import onnxruntime": ["-c", "import onnxruntime"],
            "import torch": ["-c", "import torch"],
            "python alone": ["-c", ""],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.repeats):
            for name, words in commands.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *words], check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - began)
    print(f"{'process':<30}{'median':>10}{'fastest':>10}")
    for name, times in seconds.items():
        print(f"{name:<30}{statistics.median(times):>8.2f} s{min(times):>8.2f} s")


if __name__ == "__main__":
    main()
