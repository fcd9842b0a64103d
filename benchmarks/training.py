"""How long training takes, an epoch and to a peer's accuracy.

    python -m benchmarks.training --cifar10 FOLDER --peers .venv-peers/bin/python --out FILE.json

The peers live in an environment of their own (benchmarks/requirements-peers.txt says how to make
it). All get the same images, split and network, as arrays in memory, and the CPU with as many
threads as each takes by itself. In each repeat the contenders take turns; each is a process of its
own, and its time starts with its training: imports and reading are not counted, compiling is.
Opsin multiplies in bfloat16 where the processor has units for it, as it does for its users; the
peers compute as their tutorials have it, in float32, and opsin-float32 is Opsin doing the same.
Validation images are looked at after every epoch by all, and that is part of the time. Ratios
are taken within a repeat, so that a machine that others share disturbs them little.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import opsin
from benchmarks.contenders import PEERS, Peers
from opsin.core.recipe import Precision
from opsin.data.split import Split

# What Opsin trains with where it is free to choose: tuned on validation data, never on the test.
MLP_TO_ACCURACY: Final = {"model": "mlp", "epochs": 5, "batch_size": 512, "learning_rate": 1e-2}
CNN_TO_ACCURACY: Final = {"model": "cnn", "epochs": 10}
# What the tutorials train with, and so the peers.
_TUTORIAL: Final = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "augment": "none",
}

_KERAS: Final = ("keras-tensorflow", "keras-torch", "keras-jax")
_FLOAT32: Final = "opsin-float32"
_THREE: Final = ("airplane", "automobile", "bird")
_MATRIX: Final = 2048


@dataclass(frozen=True)
class Work:
    """Something to be learnt by all contenders, and how much sooner Opsin should have done it.

    Args:
        title: What the table says of it.
        ours: Options of `opsin.train`.
        peers: Who else does it: ``epochs`` passes in batches of ``batch_size``, constant Adam.
        targets: Highest ratio of our time to a peer's.
        until: Our time ends when the peer's accuracy on this part is reached: ``test`` or ``val``;
            without it an epoch is timed, the median of those after the first.
        cifar10: Three classes of CIFAR-10, not Fashion-MNIST.
        train, val: Cut these parts to so many images.
    """

    title: str
    ours: dict[str, Any]
    peers: tuple[str, ...] = ()
    targets: dict[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    batch_size: int = 0
    until: str | None = None
    cifar10: bool = False
    train: int | None = None
    val: int | None = None


WORKS: Final = {
    "mlp-to-accuracy": Work(
        "784-128-10, Fashion-MNIST, to Keras's test accuracy after ten epochs of 32 (aim 1/20)",
        MLP_TO_ACCURACY, _KERAS[:1], {"keras-tensorflow": 1 / 15}, 10, 32, "test",
    ),
    "mlp-epoch": Work(
        "784-128-10, Fashion-MNIST, batch 32, an epoch",
        {"model": "mlp", "epochs": 4, "batch_size": 32, **_TUTORIAL}, (*_KERAS, "pytorch"),
        {"keras-tensorflow": 1 / 3}, 4, 32,
    ),
    "cnn-epoch": Work(
        "cnn of six convolutions, 32×32×3, batch 128, an epoch of 5,120 images",
        {"model": "cnn", "epochs": 3, "batch_size": 128, **_TUTORIAL},
        (*_KERAS, "pytorch", _FLOAT32),
        {"keras-tensorflow": 0.6, "keras-torch": 0.7}, 3, 128, cifar10=True, train=5120, val=512,
    ),
    "cnn-to-accuracy": Work(
        "the same cnn, three classes of CIFAR-10, to Keras's best validation in ten epochs of 128",
        CNN_TO_ACCURACY, _KERAS[:1], {"keras-tensorflow": 1 / 3}, 10, 128, "val", cifar10=True,
    ),
    "resnet-epoch": Work(
        "resnet, Fashion-MNIST, the default recipe, an epoch of 10,240 images",
        {"model": "resnet", "epochs": 2}, (_FLOAT32,), train=10240, val=1024,
    ),
}  # fmt: skip
#: Works of which we say what share of the machine's matrix-product rate they reach.
_RATED: Final = ("cnn-epoch", "resnet-epoch")


def main() -> None:
    """Let the contenders train in turn, and print a table for each work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--peers",
        type=Path,
        default=PEERS,
        help="Python of the peers' environment (default: %(default)s)",
    )
    parser.add_argument(
        "--cifar10",
        default="cifar10",
        metavar="FOLDER",
        help="CIFAR-10 as images (default: fetched by name)",
    )
    parser.add_argument(
        "--source", default="fashion-mnist", help="instead of Fashion-MNIST (default: %(default)s)"
    )
    parser.add_argument(
        "--work",
        nargs="+",
        choices=WORKS,
        default=list(WORKS),
        metavar="NAME",
        help=", ".join(WORKS),
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--images", type=int, metavar="N", help="train on so few, to see that all works"
    )
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--contender", choices=_OURS, help=argparse.SUPPRESS)
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        task = json.loads(options.task.read_text(encoding="utf-8"))
        print(json.dumps(_OURS[options.contender](task)))
        return
    if options.repeats < 1 or (options.images is not None and options.images < 256):
        parser.error("expected at least 1 repeat and, where they are cut, 256 images")
    peers = Peers.found(options.peers)
    present = {_FLOAT32, *peers.installed({*_KERAS, "pytorch"})}
    results: dict[str, Any] = {
        "machine": _machine(),
        "peers": peers.versions,
        "works": {},
    }
    try:
        for name in options.work:
            measured = tuple(peer for peer in WORKS[name].peers if peer in present)
            work = dataclasses.replace(WORKS[name], peers=measured)
            results["works"][name] = _measure(name, work, peers.python, options)
            # Kept after each work: the whole takes an hour.
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        print("stopped; finished works are above", file=sys.stderr)
        sys.exit(130)


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "opsin": opsin.__version__,
    }


def _measure(
    name: str, work: Work, python: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run a work's contenders in turn, print its table and return all raw figures."""
    task: dict[str, Any] = {
        "work": name,
        "cifar10": options.cifar10,
        "source": options.source,
        "images": options.images,
    }
    repeats: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if work.peers:
            task |= {
                "network": work.ours["model"],
                "epochs": work.epochs,
                "batch_size": work.batch_size,
                **_write_arrays(_data(task), Path(folder) / "arrays.npz"),
            }
        contenders = ["opsin", *work.peers]
        if name in _RATED:
            contenders.append("matrix-product")
        for seed in range(options.repeats):
            repeats.append({})
            for number, contender in enumerate(contenders, start=1):
                print(
                    f"{name} · repeat {seed + 1} of {options.repeats} · {contender} "
                    f"({number} of {len(contenders)})",
                    file=sys.stderr,
                    flush=True,
                )
                repeats[-1][contender] = _child(contender, {**task, "seed": seed}, python, folder)
            sizes = {who: repeats[-1][who]["parameters"] for who in ("opsin", *work.peers)}
            if len(set(sizes.values())) > 1:
                sys.exit(f"expected one network for all; received parameters: {sizes}")
    _print_table(work, repeats)
    for who in ("opsin", _FLOAT32) if name in _RATED else ():
        _print_share(who, repeats)
    if options.images is not None:
        print(f"Cut to {options.images:,} images: these figures say nothing.")
    print(flush=True)
    return repeats


def _child(contender: str, task: dict[str, Any], python: Path, folder: str) -> dict[str, Any]:
    """Run a contender in a process of its own, with everything that it writes in ``folder``."""
    file = Path(folder) / "task.json"
    file.write_text(json.dumps({**task, "runs": folder}), encoding="utf-8")
    # Nobody gets a GPU, nor leaves settings in the user's home.
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_HOME": folder,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if contender in _OURS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training",
            "--contender",
            contender,
            "--task",
            str(file),
        ]
    else:
        # keras-jax is keras on jax; pytorch is pytorch.
        peer, _, environment["KERAS_BACKEND"] = contender.partition("-")
        command = [str(python), str(Path(__file__).with_name("peers.py")), peer, str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{contender} failed; the end of what it said:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _time(work: Work, result: dict[str, Any]) -> float:
    """Return a peer's seconds: an epoch, all of them, or those until its best validation."""
    if work.until is None:
        return _later(result["epochs"])
    if work.until == "test":
        return float(result["train"])
    best = result["val_accuracy"].index(max(result["val_accuracy"]))
    return float(sum(result["epochs"][: best + 1]))


def _our_time(work: Work, ours: dict[str, Any], peer: dict[str, Any]) -> float:
    """Return our seconds until the peer's accuracy is reached; infinite where it is not."""
    if work.until is None:
        return _time(work, ours)
    if work.until == "test":
        return float(ours["train"]) if ours["test_accuracy"] >= peer["test_accuracy"] else math.inf
    figure = max(peer["val_accuracy"])
    for number, accuracy in enumerate(ours["val_accuracy"], start=1):
        if accuracy >= figure:
            # What training spends outside its epochs, such as checkpoints, counts against us.
            return float(ours["train"] - sum(ours["epochs"][number:]))
    return math.inf


def _print_table(work: Work, repeats: list[dict[str, Any]]) -> None:
    """Print seconds of each contender, ours over theirs, and what was aimed at."""
    print(work.title)
    print(f"{'contender':<19}{'seconds':>9}{'each':>25}{'opsin is':>11}{'each':>25}{'target':>9}")
    # Without a figure to reach, our time is the same whoever stands beside us.
    peer = work.peers[0] if work.until and work.peers else "opsin"
    ours = [_our_time(work, repeat["opsin"], repeat[peer]) for repeat in repeats]
    print(f"{'opsin':<19}{_figures(ours, 9)}")
    for name in work.peers:
        theirs = [_time(work, repeat[name]) for repeat in repeats]
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        line = f"{name:<19}{_figures(theirs, 9)}{_figures(ratios, 11)}"
        if target := work.targets.get(name):
            line += f"{f'≤ {target:.3f}':>9}  {_verdict(ratios, target)}"
        print(line)
    if work.until:
        for name in ("opsin", *work.peers):
            print(f"  {name}: {_reached(work, [repeat[name] for repeat in repeats])}")
    else:
        for name in ("opsin", *work.peers):
            first = " ".join(f"{repeat[name]['epochs'][0]:.3g}" for repeat in repeats)
            print(f"  {name}: first epoch {first} s")


def _reached(work: Work, results: list[dict[str, Any]]) -> str:
    """Say what a contender reached in each repeat, and what its whole training took."""
    if work.until == "test":
        figures = [result["test_accuracy"] for result in results]
        what = "test accuracy"
    else:
        figures = [max(result["val_accuracy"]) for result in results]
        what = "best validation accuracy"
    each = " ".join(f"{figure:.4f}" for figure in figures)
    whole = " ".join(f"{result['train']:.3g}" for result in results)
    return f"{what} {each}; {len(results[0]['epochs'])} epochs in {whole} s"


def _later(epochs: list[float]) -> float:
    """Return the median of the epochs after the first, in which some compile."""
    return statistics.median(epochs[1:])


def _verdict(ratios: list[float], target: float) -> str:
    """Say whether the target is met; what was not reached in every repeat cannot be."""
    if missing := sum(map(math.isinf, ratios)):
        return f"accuracy not reached in {missing} of {len(ratios)}"
    return "met" if statistics.median(ratios) <= target else "missed"


def _figures(each: list[float], width: int) -> str:
    """Write the median and each figure with three digits, a dash for what was never reached."""

    def shown(figure: float) -> str:
        return f"{figure:.3g}" if math.isfinite(figure) else "–"

    joined = " ".join(shown(figure) for figure in each)
    return f"{shown(statistics.median(each)):>{width}}{joined:>25}"


def _print_share(who: str, repeats: list[dict[str, Any]]) -> None:
    """Print what share of the machine's matrix-product rate our training reaches.

    An image costs twice its multiply-adds forward, and twice that backward.
    """
    ours = [repeat[who] for repeat in repeats]
    precision = ours[0]["precision"]
    peaks = [repeat["matrix-product"][precision] for repeat in repeats]
    rates = [6e-9 * one["multiply_adds"] * one["trained"] / _later(one["training"]) for one in ours]
    shares = [rate / peak for rate, peak in zip(rates, peaks, strict=True)]
    images = statistics.median(one["trained"] / _later(one["training"]) for one in ours)
    each = " ".join(f"{share:.0%}" for share in shares)
    print(
        f"  {who}: {images:,.0f} images/s of 6 × {ours[0]['multiply_adds'] / 1e6:.1f} M "
        f"operations: {statistics.median(rates):,.0f} GFLOP/s, "
        f"{statistics.median(shares):.0%} ({each}) of what a product of two {_MATRIX}×{_MATRIX} "
        f"matrices of {precision} reaches: {statistics.median(peaks):,.0f}"
    )


def _data(task: dict[str, Any]) -> opsin.Dataset:
    """Load a work's images, and cut the parts of the split where the work or the user says so."""
    work = WORKS[task["work"]]
    data = (
        opsin.load(task["cifar10"], classes=_THREE) if work.cifar10 else opsin.load(task["source"])
    )
    most = task["images"]

    def cut(part: str, limits: Iterable[int | None]) -> NDArray[np.int64]:
        rows = data.split.rows(part)
        count = min(len(rows), *(limit for limit in limits if limit is not None))
        return np.sort(np.random.default_rng(0).permutation(rows)[:count])

    split = Split(
        train=cut("train", (work.train, most, len(data))),
        val=cut("val", (work.val, most, len(data))),
        test=cut("test", (most, len(data))),
    )
    return dataclasses.replace(data, split=split)


def _write_arrays(data: opsin.Dataset, file: Path) -> dict[str, Any]:
    """Write images and labels of each part for the peers, who do not know Opsin."""
    arrays: dict[str, NDArray[Any]] = {}
    for part in ("train", "val", "test"):
        rows = data.split.rows(part)
        arrays |= {f"x_{part}": data.images[rows], f"y_{part}": data.labels[rows]}
    np.savez(file, allow_pickle=False, **arrays)
    return {"arrays": str(file), "classes": len(data.classes)}


def _opsin(task: dict[str, Any], precision: Precision = "auto") -> dict[str, Any]:
    data = _data(task)
    run = opsin.train(
        data,
        runs=task["runs"],
        quiet=True,
        seed=task["seed"],
        device="cpu",
        precision=precision,
        **WORKS[task["work"]].ours,
    )
    report, history = run.report, run.history
    count = len(data.split.train)
    return {
        "parameters": report.training.parameters,
        "multiply_adds": report.training.multiply_adds,
        "precision": report.training.precision,
        "trained": count,
        "train": report.seconds["train"],
        "epochs": [epoch.seconds for epoch in history],
        "training": [count / epoch.images_per_second for epoch in history],
        "val_accuracy": [epoch.val_accuracy for epoch in history],
        "test_accuracy": report.figures["test"].accuracy,
    }


def _matrix_product(_: dict[str, Any]) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    found: dict[str, Any] = {}
    for kind in (torch.float32, torch.bfloat16):
        one, other = torch.randn(2, _MATRIX, _MATRIX).to(kind)
        seconds = min(timeit.repeat(functools.partial(torch.mm, one, other), number=1, repeat=10))
        found[str(kind).removeprefix("torch.")] = 2e-9 * _MATRIX**3 / seconds
    return found


_OURS: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "opsin": _opsin,
    _FLOAT32: functools.partial(_opsin, precision="float32"),
    "matrix-product": _matrix_product,
}


if __name__ == "__main__":
    main()
