"""What a collection costs on many machines: a model, fitted to what is measured here.

    .venv-ray/bin/python -m benchmarks.scale --measure RUN --out constants.json
    python -m benchmarks.scale constants.json --picture docs/images/scale.png
    python -m benchmarks.scale constants.json --simulate

The first measures the constants, in processor seconds, so that other work on the machine counts
little; where Ray cannot run, those of Ray are left out. The second prints tables of time and price
and draws one. The third puts a simulation with failures and stragglers beside the formulas. Without
a file, the constants are those of docs/understand/scale.md, which explains each formula.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.report.figures.style import PALETTE, RIGHT, WRONG, new_figure, save, styled

#: Images and nodes of the tables.
IMAGES: Final = (10**6, 10**8, 10**10, 10**12)
NODES: Final = (1, 10, 100, 1_000, 10_000)
# Images in a block that a node of a Ray cluster is sent (runtime/image_engine.py).
_BLOCK: Final = 256
# What is simulated: so that each takes seconds at most.
_SIMULATED: Final = (
    ("shards", 10**6, 10), ("shards", 10**8, 100), ("shards", 10**8, 1_000),
    ("shards", 10**10, 100), ("folders", 10**8, 1_000), ("folders", 10**10, 1_000),
    ("ray", 10**6, 10), ("ray", 10**7, 100),
)  # fmt: skip
# Names that an object store lists for one request.
_LISTED: Final = 1_000
# Points of a numerical integral.
_POINTS: Final = 2_000
_NEGLIGIBLE: Final = 1e-9
# Failures expected in what must be done in one go, from where it is hopeless.
_HOPELESS: Final = 20.0


@dataclass(frozen=True)
class Measured:
    """What is measured here: seconds of one processor, unless said.

    Args:
        names: Names of a folder that are listed a second.
        listed: The same where the list is kept, as a shard does.
        start: To start a command and open the model.
        read: To read an image's file, which the system has in memory.
        decode: To make its pixels.
        infer: To compute its answer.
        write: To write its row and its record.
        other: Whatever else a whole `opsin predict` spends on an image.
        manifest: To read and check the manifest of a shard.
        merged: Rows that are merged a second, by form.
        row_bytes: Bytes of a row, by form.
        name_bytes: Bytes of memory a name, by the kind of source.
        driver: Of the process that starts the work on a Ray cluster, an image; ``None``: not
            measured.
    """

    names: float = 267000
    listed: float = 170000
    start: float = 0.76
    read: float = 2.1e-05
    decode: float = 0.00126
    infer: float = 0.00651
    write: float = 2.93e-05
    other: float = 0.000313
    manifest: float = 0.000251
    merged: Mapping[str, float] = field(
        default_factory=lambda: {
            "csv": 6.24e06,
            "jsonl": 2.39e06,
            "parquet": 1.24e06,
            "features.npz": 38600,
            "features.parquet": 17900,
        }
    )
    row_bytes: Mapping[str, float] = field(
        default_factory=lambda: {
            "csv": 138,
            "jsonl": 421,
            "parquet": 23.9,
            "features.npz": 5220,
            "features.parquet": 5520,
        }
    )
    name_bytes: Mapping[str, float] = field(
        default_factory=lambda: {"folder": 0, "table": 11.5, "embed, folder of classes": 112}
    )
    driver: float | None = 8.22e-05

    @property
    def image(self) -> float:
        """Seconds of one processor that an image takes."""
        return self.read + self.decode + self.infer + self.write + self.other


@dataclass(frozen=True)
class Assumed:
    """What cannot be measured here; change it to what you know.

    Args:
        cores: Processors of a node.
        lifetime: Mean seconds until a node fails.
        replaced: Seconds until another one takes its work up.
        spread: How much the seconds of equal tasks vary: standard deviation of their logarithm.
        price: Dollars for a node and hour.
        get_price: Dollars for 1,000 requests that read.
        list_price: Dollars for 1,000 requests that list.
        form: Of the answers.
    """

    cores: int = 2
    lifetime: float = 1_000 * 3600
    replaced: float = 300
    spread: float = 0.2
    price: float = 0.10
    get_price: float = 0.0004
    list_price: float = 0.005
    form: str = "csv"


@dataclass(frozen=True)
class Plan:
    """Equal tasks, shared among workers; each takes the next one when it is done.

    Args:
        workers: How many work at the same time.
        tasks: How many tasks there are.
        before: Seconds of a task that are lost if its node fails, and done anew.
        work: Seconds of a task that are kept then.
        after: Seconds behind these, which begin with the task's beginning if the node fails.
        writer: Seconds that the one process which writes needs for each task.
        ahead: Seconds before any task begins.
        merge: Seconds of the one process that merges, done anew if its node fails.
        lists: Requests that list.
    """

    workers: int
    tasks: int
    before: float
    work: float = 0.0
    after: float = 0.0
    writer: float = 0.0
    ahead: float = 0.0
    merge: float = 0.0
    lists: float = 0.0


def shards(measured: Measured, assumed: Assumed, images: int, nodes: int) -> Plan:
    """Plan `opsin predict --shard k/n`, one shard a node, and `opsin merge`.

    Each shard's process lists all names first, and keeps the list, from which it takes its own::

        before = start + images / listed
        work = images / nodes * image / cores
        merge = start + nodes * manifest + images / merged[form]
    """
    if nodes == 1:
        return folders(measured, assumed, images, 1)
    merge = measured.start + nodes * measured.manifest + images / measured.merged[assumed.form]
    return Plan(
        workers=nodes,
        tasks=nodes,
        before=measured.start + images / measured.listed,
        work=images / nodes * measured.image / assumed.cores,
        merge=merge,
        lists=nodes * images / _LISTED,
    )


def folders(measured: Measured, assumed: Assumed, images: int, nodes: int) -> Plan:
    """Plan a plain `opsin predict` for each of many folders of the collection, one a node.

    It counts the images of its own folder first, and nothing is merged::

        before = start + images / nodes / names
        work = images / nodes * image / cores
    """
    share = images / nodes
    return Plan(
        workers=nodes,
        tasks=nodes,
        before=measured.start + share / measured.names,
        work=share * measured.image / assumed.cores,
        lists=2 * images / _LISTED,
    )


def ray(measured: Measured, assumed: Assumed, images: int, nodes: int) -> Plan:
    """Plan `opsin predict --on ray`: blocks of 256 images, each on one processor.

    What a node has in hand when it fails is lost. One process counts the names, and then lists
    them, sends blocks and writes rows::

        ahead = start + images / names
        before = 256 * image        writer = 256 * driver
    """
    assert measured.driver is not None
    block = min(_BLOCK, max(8, images // (4 * nodes * assumed.cores)))
    return Plan(
        workers=nodes * assumed.cores,
        tasks=math.ceil(images / block),
        before=block * measured.image,
        writer=block * measured.driver,
        ahead=measured.start + images / measured.names,
        lists=2 * images / _LISTED,
    )


def in_one_go(seconds: float, assumed: Assumed) -> float:
    """Return the mean seconds until something is done that begins anew at each failure.

    With failures at the rate ``f = 1 / lifetime`` and ``replaced`` seconds after each::

        (exp(f * seconds) - 1) * (1 / f + replaced)
    """
    expected = seconds / assumed.lifetime
    if expected > _HOPELESS:
        return math.inf
    return math.expm1(expected) * (assumed.lifetime + assumed.replaced)


def task_seconds(plan: Plan, assumed: Assumed) -> float:
    """Return the mean seconds of a task, with its failures.

    A failure while it works costs ``replaced`` and what comes before the work, once more::

        again = in_one_go(before)
        again + work * (1 + f * (replaced + again))
              + (exp(f * after) - 1) * (1 / f + replaced + again)
    """
    again = in_one_go(plan.before, assumed)
    tail = plan.after / assumed.lifetime
    if tail > _HOPELESS:
        return math.inf
    return (
        again
        + plan.work * (1 + (assumed.replaced + again) / assumed.lifetime)
        + math.expm1(tail) * (assumed.lifetime + assumed.replaced + again)
    )


def last_of(plan: Plan, assumed: Assumed) -> float:
    """Return the mean seconds until the last worker is done.

    A task takes its seconds times a slowness (log-normal, mean 1), and a fixed cost for each of its
    failures (Poisson). F is the distribution of a worker's seconds. With one task a worker::

        integral of 1 - F(x) ** workers

    With more tasks the workers are in step, so that the same holds for the sum of a worker's tasks;
    or, where there are many tasks, out of step: the queue is empty when the work that is left is
    what each worker has in hand, whose distribution is ``R(x) = integral of (1 - F) / mean``::

        tasks * mean / workers - mean of R + integral of 1 - R(x) ** workers

    Workers take the next task when they are done, so the smaller of the two is right.
    """
    mean = task_seconds(plan, assumed)
    if not math.isfinite(mean):
        return math.inf
    workers = min(plan.workers, plan.tasks)
    each = math.ceil(plan.tasks / workers)
    together, step = _distribution(plan, assumed, mean, each)
    in_step = float(np.sum(1 - together**workers) * step)
    if each == 1:
        return in_step
    one, step = _distribution(plan, assumed, mean, 1)
    left = np.minimum(1.0, np.cumsum(1 - one) * step / mean)
    in_hand = float(np.sum(1 - left) * step)
    longest = float(np.sum(1 - left**workers) * step)
    return min(in_step, plan.tasks * mean / workers - in_hand + longest)


def _distribution(
    plan: Plan, assumed: Assumed, mean: float, each: int
) -> tuple[NDArray[np.float64], float]:
    """Return how probable it is that so many tasks of one worker take no longer than x.

    Returns:
        The probabilities, and the distance between two x.
    """
    plain = plan.before + plan.work + plan.after
    failures = plain / assumed.lifetime
    cost = (mean - plain) / failures
    spread, failures, plain = assumed.spread / math.sqrt(each), failures * each, plain * each
    most = math.ceil(failures + 8 * math.sqrt(failures) + 8)
    x = np.linspace(0, plain * math.exp(6 * spread) + most * cost, _POINTS)
    found = np.zeros(_POINTS)
    cumulative = NormalDist().cdf
    for number in range(most + 1):
        chance = math.exp(number * math.log(failures) - failures - math.lgamma(number + 1))
        if chance < _NEGLIGIBLE:
            continue
        rest = (x - number * cost) / plain
        at = np.log(np.maximum(rest, 1e-12)) / spread + spread / 2
        found += chance * np.array([cumulative(one) for one in at])
    return np.minimum(found, 1.0), float(x[1])


def elapsed(plan: Plan, assumed: Assumed) -> float:
    """Return the mean seconds from the first command to the last row.

    Without a driver, and with one, which continues when its node failed, but first does again what
    is ``ahead``::

        last_of + in_one_go(merge)
        task_seconds(before=ahead, work=max(last_of, tasks * writer))
    """
    last = last_of(plan, assumed)
    if not plan.ahead:
        return last + in_one_go(plan.merge, assumed)
    last = max(last, plan.tasks * plan.writer)
    driver = Plan(workers=1, tasks=1, before=plan.ahead, work=last)
    return task_seconds(driver, assumed)


def price(plan: Plan, assumed: Assumed, images: int, nodes: int) -> float:
    """Return dollars.

    All nodes are paid for until the last one is done, and then the one that merges::

        price / 3600 * (nodes * (elapsed - in_one_go(merge)) + in_one_go(merge))
            + get_price * images / 1000 + list_price * lists / 1000
    """
    together = elapsed(replace(plan, merge=0), assumed)
    seconds = nodes * together + in_one_go(plan.merge, assumed)
    requests = assumed.get_price * images + assumed.list_price * plan.lists
    return assumed.price * seconds / 3600 + requests / 1000


#: Ways to divide a collection.
WAYS: Final[Mapping[str, Callable[[Measured, Assumed, int, int], Plan]]] = {
    "shards": shards,
    "ray": ray,
    "folders": folders,
}


def main() -> None:
    """Measure, or print tables, or simulate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("constants", type=Path, nargs="?", help="what --measure wrote")
    parser.add_argument("--measure", type=Path, metavar="RUN", help="measure, with this run")
    parser.add_argument("--images", type=int, default=1_000, help="photographs to answer")
    parser.add_argument("--names", type=int, default=200_000, help="names to list")
    parser.add_argument("--rows", type=int, default=500_000, help="rows to merge")
    parser.add_argument("--simulate", action="store_true", help="beside the formulas")
    parser.add_argument("--picture", type=Path, help="draw into this file")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    assumed = Assumed()
    figures: Any
    if given.measure:
        figures = _measure(given)
    else:
        words = given.constants.read_text(encoding="utf-8") if given.constants else "{}"
        measured = Measured(**json.loads(words))
        figures = _simulate(measured, assumed) if given.simulate else _print(measured, assumed)
        if given.picture:
            _draw(measured, assumed, given.picture)
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.scale_measuring import measure  # noqa: PLC0415  it needs the model above

    with tempfile.TemporaryDirectory() as folder:
        run = given.measure.resolve()
        measured = measure(
            run, Path(folder), images=given.images, names=given.names, rows=given.rows
        )
    figures = asdict(measured)
    for name, value in figures.items():
        print(f"{name:<12}{json.dumps(value)}")
    return figures


def tables(measured: Measured, assumed: Assumed) -> list[str]:
    """Return the tables of docs/understand/scale.md, line by line: constants, then each way."""
    lines = ["| constant | measured |", "|---|---|"]
    units = {
        "names": ("names/s", 1),
        "listed": ("names/s", 1),
        "start": ("s", 1),
        "manifest": ("ms", 1e3),
    }
    for name, value in asdict(measured).items():
        if isinstance(value, Mapping):
            unit = {"merged": "rows/s", "row_bytes": "bytes", "name_bytes": "bytes"}[name]
            lines += [f"| `{name}`, {key} | {_two(each)} {unit} |" for key, each in value.items()]
        elif value is not None:
            unit, scale = units.get(name, ("µs", 1e6))
            lines.append(f"| `{name}` | {_two(value * scale)} {unit} |")
    for way in _ways(measured):
        lines += ["", f"| {way} | " + " | ".join(f"{nodes:,}" for nodes in NODES) + " |"]
        lines.append("|---" * (1 + len(NODES)) + "|")
        for images in IMAGES:
            plans = [(WAYS[way](measured, assumed, images, nodes), nodes) for nodes in NODES]
            cells = [
                f"{_time(elapsed(plan, assumed))}, {_dollars(price(plan, assumed, images, nodes))}"
                for plan, nodes in plans
            ]
            lines.append(f"| {_power(images)} | {' | '.join(cells)} |")
    return lines


def _print(measured: Measured, assumed: Assumed) -> list[dict[str, Any]]:
    """Print the tables, and return what is in those of the ways."""
    print(*tables(measured, assumed), sep="\n")
    return [
        {
            "way": way, "images": images, "nodes": nodes, **asdict(plan),
            "elapsed": elapsed(plan, assumed), "dollars": price(plan, assumed, images, nodes),
        }
        for way in _ways(measured) for images in IMAGES for nodes in NODES
        for plan in (WAYS[way](measured, assumed, images, nodes),)
    ]  # fmt: skip


def _ways(measured: Measured) -> list[str]:
    return [way for way in WAYS if way != "ray" or measured.driver is not None]


def _time(seconds: float) -> str:
    """Return a time in two digits.

    Example:
        >>> _time(95), _time(7_000), _time(4e6), _time(4e9), _time(math.inf)
        ('1.6 min', '1.9 h', '46 d', '130 y', 'never')
    """
    if not math.isfinite(seconds):
        return "never"
    units = {"y": 365.25 * 86400, "d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
    name, unit = next((name, unit) for name, unit in units.items() if seconds >= unit or unit == 1)
    return f"{_two(seconds / unit)} {name}"


def _dollars(dollars: float) -> str:
    """Return a price in two digits.

    Example:
        >>> _dollars(0.234), _dollars(1234), _dollars(5.67e6)
        ('$0.23', '$1.2k', '$5.7M')
    """
    if not math.isfinite(dollars):
        return "–"
    units = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0}
    sign, unit = next((sign, unit) for sign, unit in units.items() if dollars >= unit or unit == 1)
    return f"${_two(dollars / unit)}{sign}"


def _two(value: float) -> str:
    """Return a number in two digits.

    Example:
        >>> _two(0.0234), _two(7.0), _two(1234)
        ('0.023', '7', '1,200')
    """
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"


def _power(images: int) -> str:
    return f"10^{round(math.log10(images))}"


def _simulate(measured: Measured, assumed: Assumed) -> list[dict[str, Any]]:
    """Print the formulas beside the means of simulations."""
    from benchmarks.scale_simulation import simulated  # noqa: PLC0415  it needs the model above

    print("| way | images | nodes | lifetime | formula | simulated | failures | ratio |")
    print("|---" * 8 + "|")
    found = []
    for way, images, nodes in _SIMULATED:
        for hours in (1_000, 100) if way in _ways(measured) else ():
            there = replace(assumed, lifetime=hours * 3600)
            plan = WAYS[way](measured, there, images, nodes)
            expected = elapsed(plan, there)
            mean, error, failures = simulated(plan, there)
            found.append({"way": way, "images": images, "nodes": nodes, "lifetime": hours,
                          "formula": expected, "simulated": mean, "error": error,
                          "failures": failures})  # fmt: skip
            print(f"| {way} | {_power(images)} | {nodes:,} | {hours:,} h | {_time(expected)} | "
                  f"{_time(mean)} ± {error / mean:.1%} | {_two(failures)} | "
                  f"{expected / mean:.2f} |", flush=True)  # fmt: skip
    return found


def _draw(measured: Measured, assumed: Assumed, path: Path) -> None:
    """Draw the time for 10^8 images against the nodes."""
    images, nodes = 10**8, np.unique(np.logspace(0, 4, 41).astype(int))
    named = {
        "shards": "shards and merge",
        "ray": "one Ray cluster",
        "folders": "a folder a node",
    }
    with styled():
        figure = new_figure(6.4, 3.6)
        axes = figure.subplots()
        for way, colour in zip(_ways(measured), (WRONG, PALETTE[1], RIGHT), strict=False):
            plans = [WAYS[way](measured, assumed, images, int(count)) for count in nodes]
            hours = [elapsed(plan, assumed) / 3600 for plan in plans]
            axes.plot(nodes, hours, color=colour)
            axes.annotate(named[way], (nodes[-1], hours[-1]), (6, 0), va="center",
                          textcoords="offset points", color=colour)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="nodes of two cores", ylabel="hours",
                 title="A hundred million images: listing and writing end the gain")  # fmt: skip
        axes.set_xticks(NODES, [f"{count:,}" for count in NODES])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(1, nodes[-1])
        axes.grid(visible=True)
        save(figure, path)


if __name__ == "__main__":
    main()
