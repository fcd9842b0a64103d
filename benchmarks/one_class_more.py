"""One class more: a class is held back, the others are trained on, and it is added to that run.

    python -m benchmarks.one_class_more TRASHNET --hold trash --out one_class_more.json

Printed are the seconds of adding it (wall clock, and of all cores together), with the features of
the old images in the cache and those of the new ones not, and what became of the old images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import opsin


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="photographs in a folder for each class")
    parser.add_argument("--hold", action="append", required=True, help="a class to hold back")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    found = {}
    for held in given.hold:
        with tempfile.TemporaryDirectory() as folder:
            old, runs = Path(folder) / "old", Path(folder) / "runs"
            old.mkdir()
            for class_ in filter(Path.is_dir, given.source.resolve().iterdir()):
                if class_.name != held:
                    (old / class_.name).symlink_to(class_)
            new = given.source.resolve() / held
            before = opsin.train(old, follow_links=True, quiet=True, runs=runs)
            wall, cores = time.perf_counter(), sum(os.times()[:4])
            run = opsin.train(new, add_to=before, quiet=True, runs=runs)
            seconds, of_cores = time.perf_counter() - wall, sum(os.times()[:4]) - cores
            added = run.report.added
            assert added is not None
            found[held] = {
                "seconds": seconds,
                "core_seconds": of_cores,
                "steps": run.report.seconds,
                "network": run.report.reasons.get("Backbone"),
                "added": added.model_dump(mode="json"),
            }
            print(f"{held}: {seconds:.1f} s ({of_cores:.1f} s of cores) · {added.sentence}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
