"""Training by two processes of one thread beside one process of two threads.

    python -m benchmarks.processes [--source fashion-mnist] [--repeats 3] --out processes.json

Each trains the tutorials' ``cnn`` by the command line, in turn: `opsin train` with two threads, and
the same by ``torchrun --nproc-per-node 2``. Told is the fastest whole epoch's images a second of
each, from the run's history, and their ratio; and the validation accuracy after the last epoch, as
mean ± standard deviation over the repeats, each of which has a seed of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import opsin

#: How each is started, and the threads of a process.
CONTENDERS: Final = {
    "1 process, 2 threads": (["-m", "opsin"], "2"),
    "2 processes, 1 thread": (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "opsin"],
        "1",
    ),
}


def main() -> None:
    """Train in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", default="fashion-mnist")
    parser.add_argument("--size", type=int, help="side of the images (default: the source's own)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--fraction", type=float, default=0.5, help="part held out as validation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    words = [
        "train",
        options.source,
        "--model",
        "cnn",
        "--epochs",
        str(options.epochs),
        "--batch-size",
        str(options.batch_size),
        "--val-fraction",
        str(options.fraction),
    ]
    if options.size is not None:
        words += ["--size", str(options.size)]
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    accuracies: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for seed in range(options.repeats):
        for name, speeds in found.items():
            speed, accuracy = _trained(name, [*words, "--seed", str(seed)])
            speeds.append(speed)
            accuracies[name].append(accuracy)
            print(f"{name:<24}{speed:>10,.0f} images/s{accuracy:>10.4f}", flush=True)
    for name, reached in accuracies.items():
        spread = statistics.stdev(reached) if len(reached) > 1 else 0.0
        print(f"{name:<24}accuracy {statistics.mean(reached):.4f} ± {spread:.4f}")
    one, two = found.values()
    ratios = [after / before for before, after in zip(one, two, strict=True)]
    print(
        f"two processes to one: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f})"
    )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"images_per_second": found, "ratios": ratios, "accuracies": accuracies}
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _trained(name: str, words: list[str]) -> tuple[float, float]:
    """Return the images a second of the fastest epoch, and the last one's accuracy."""
    command, threads = CONTENDERS[name]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as runs:
        subprocess.run(
            [sys.executable, *command, *words, "--runs", runs, "--quiet"],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        (run,) = opsin.list_runs(runs)
        fastest = max(epoch.images_per_second for epoch in run.history)
        return fastest, run.history[-1].val_accuracy


if __name__ == "__main__":
    main()
