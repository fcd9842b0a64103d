"""How long the studio's pages take, with 500 runs and 60,000 images, and its memory.

    python -m benchmarks.studio [RUN --source SOURCE] [--runs 500] [--repeats 3]
        [--out studio.json]

From the finished run RUN (without it, of a small network trained on the digits) so many are made
that resemble it (tests/made_runs.py), and the source's images become a set. A studio of its own
shows them to Chromium. A page is usable once its text and its images in view are there: the time
is that of the last change of either, from the moment its address was asked for, with half a second
of quiet after it. The first visit is told apart from later ones. What a process of its own works
out (the plan of a training, the paired test of two runs, the maps inside a network) comes later,
with a line that says so: it is not waited for. The memory is that of the studio's process, without
its children, after each page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from selenium import webdriver
from tests.browser import chromium, resize
from tests.made_studio import furnish
from tests.settled import usable
from tests.studio_browser import StudioProcess, studio

from benchmarks.contenders import small_resnet

#: What we aim at: seconds of a page, bytes of the studio's process.
AIMS: Final = {"page": 1.0, "memory": 500e6}


def main() -> None:
    """Show every page and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", nargs="?", type=Path, help="a finished run directory of the source")
    parser.add_argument("--source", default="digits")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or small_resnet(folder / "trained")
        addresses = furnish(folder, run, options.source, options.runs)
        with studio(folder) as running, chromium(folder / "profile") as browser:
            resize(browser, 1600)
            results = _measure(running, browser, addresses, options.repeats)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _measure(
    running: StudioProcess, browser: webdriver.Chrome, addresses: Mapping[str, str], repeats: int
) -> dict[str, Any]:
    memory = [running.memory()]
    print(f"{'page':<28}{'first':>9}{'median':>9}{'memory':>10}")
    pages: dict[str, list[float]] = {}
    for name, address in addresses.items():
        times = [usable(browser, running.address + address, every=0.02) for _ in range(1 + repeats)]
        pages[name] = times
        memory.append(running.memory())
        print(f"{name:<28}{times[0]:>7.2f} s{statistics.median(times[1:]):>7.2f} s"
              f"{memory[-1] / 1e6:>7,.0f} MB", flush=True)  # fmt: skip
    print(f"memory at the start {memory[0] / 1e6:,.0f} MB, at most {max(memory) / 1e6:,.0f} MB; "
          f"aims: {AIMS['page']:.0f} s a page, {AIMS['memory'] / 1e6:,.0f} MB")  # fmt: skip
    return {"pages": pages, "memory": memory, "aims": AIMS}


if __name__ == "__main__":
    main()
