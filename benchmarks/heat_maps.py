"""How often heat maps pass their checks, over the test images of finished runs.

    python -m benchmarks.heat_maps runs/2026-11-21-fashion-mnist-resnet runs/2026-11-21-cifar10-cnn
    python -m benchmarks.heat_maps RUN --images 50 --out heat_maps.json

For each run some test images are drawn at random, and each is explained for the answer that it
got (opsin.inspection.decision). ``hide`` and ``show`` are the shares of images for which
the map beats itself at random places in the deletion and the insertion curve, ``differs`` for
which a network with random weights gives another map, ``all`` for which every check is passed;
``alike`` is the median rank correlation with the random network's map, with the 90th percentile
behind it. ``misplaced`` is the occlusion map of another of the images: how often chance passes.
Below, for how many images a part was found whose hiding changes the answer, how large it is in
the median, and the median time an image takes. Without RUN a small network is trained on the
digits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import opsin
from benchmarks.contenders import small_resnet
from opsin.commands.inspect_model import gradient_maps
from opsin.commands.known_images import known_images
from opsin.inspection.decision import (
    Decision,
    FaithfulnessVerdict,
    assess_faithfulness,
    chance,
    curves_of,
    explain,
)
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier


def main() -> None:
    """Explain test images of each run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if not options.runs:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            options.runs = [small_resnet(Path(scratch))]
        _measure_all(options, results)


def _measure_all(options: argparse.Namespace, results: dict[str, Any]) -> None:
    for run in options.runs:
        found = results[run.name] = _measure(run, options.images, options.seed, options.threads)
        print(f"\n{run.name}: {found['images']} test images")
        print(f"{'method':<22}{'hide':>7}{'show':>7}{'differs':>9}{'all':>7}{'alike':>14}")
        for method, row in found["methods"].items():
            alike = row["alike"]
            shares = (
                f"{row['hide']:>7.0%}{row['show']:>7.0%}{row['differs']:>9.0%}{row['all']:>7.0%}"
            )
            print(f"{method:<22}{shares}{alike[0]:>8.2f}{alike[1]:>6.2f}")
        print(
            f"a part whose hiding changes the answer: {found['changed']:.0%} of images, "
            f"median {found['share']:.0%} of the image; {found['seconds']:.1f} s an image",
            flush=True,
        )
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _measure(run: Path, count: int, seed: int, threads: int | None) -> dict[str, Any]:
    classifier = Classifier(run, threads=threads)
    network = OnnxGraph(classifier.path.read_bytes(), classifier.metadata.layers)
    known = known_images(classifier)
    others = np.setdiff1d(np.arange(len(known.labels)), np.concatenate([known.train, known.val]))
    random = np.random.default_rng(seed)
    rows = random.choice(others, min(count, len(others)), replace=False)
    explain(
        classifier, network, known.images[rows[0]], gradient_maps=gradient_maps
    )  # imports are no part of the time
    rowwise: dict[str, list[tuple[bool, bool, bool, bool, float]]] = {}
    seconds, shares = [], []
    other: NDArray[np.float32] | None = None
    for row in rows:
        start = time.perf_counter()
        decision = explain(
            classifier, network, known.images[row], gradient_maps=gradient_maps, seed=seed
        )
        seconds.append(time.perf_counter() - start)
        verdicts = {each.method: each.verdict for each in decision.maps}
        if other is not None:
            verdicts["misplaced"] = _of_another(classifier, decision, other)
        other = decision.maps[-1].heat
        for method, verdict in verdicts.items():
            sanity = verdict.sanity is not False
            alike = verdict.likeness if verdict.likeness is not None else np.nan
            rowwise.setdefault(method, []).append(
                (verdict.deletion, verdict.insertion, sanity, verdict.trusted, alike)
            )
        shares += [decision.counterfactual.share] if decision.counterfactual else []
    return {
        "images": len(rows),
        "methods": {
            method: _shares(np.array(found, np.float64)) for method, found in rowwise.items()
        },
        "changed": len(shares) / len(rows),
        "share": float(np.median(shares)) if shares else 0.0,
        "seconds": float(np.median(seconds)),
        "opsin": opsin.__version__,
    }


def _of_another(
    classifier: Classifier, decision: Decision, heat: NDArray[np.float32]
) -> FaithfulnessVerdict:
    """Return the verdict on the map of another image."""
    target = decision.classes.index(decision.label)
    given = (classifier.probabilities, decision.pixels, heat, target, decision.fill)
    return assess_faithfulness(
        heat, curves_of(*given), chance(*given), decision.maps[-1].random_heat
    )


def _shares(found: NDArray[np.float64]) -> dict[str, Any]:
    hide, show, differs, passed = found[:, :4].mean(axis=0)
    alike = [float(np.quantile(found[:, 4], share)) for share in (0.5, 0.9)]
    return {"hide": hide, "show": show, "differs": differs, "all": passed, "alike": alike}


if __name__ == "__main__":
    main()
