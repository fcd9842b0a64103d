"""The constants of benchmarks/scale.py, measured on this machine in processor seconds."""

from __future__ import annotations

import collections
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.ray_cluster import RayCluster, why_not

import opsin
from benchmarks.cluster import made_photos
from benchmarks.scale import Measured
from opsin.commands.classify.journal import Journal, JournalEntry
from opsin.commands.classify.results import Results, row_of
from opsin.commands.feature_file import FeatureRow, FeatureRows
from opsin.commands.shard_manifest import ShardManifest, ShardTask
from opsin.core.stored_json import JsonObject
from opsin.data.shard import Shard, ShardInputs
from opsin.data.sources import open_stream
from opsin.data.stream_shard import cut_stream
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction

# Images of one folder, entries of which are sorted (data/image_tree.py).
_IN_A_FOLDER: Final = 1_000
_SHARDS: Final = 4
# Units of the features that are merged: those of MobileNet v2.
_UNITS: Final = 1_280
# Nodes that a Ray cluster is measured with, one after the other.
_RAY_NODES: Final = (1, 2, 3)
# Of the golden ratio: multiples of it are spread evenly between 0 and 1.
_STEP: Final = 0.6180339887
# Rows are written as the command does (commands/classify/work.py).
_ROWS: Final = 256
# Lists what is named and tells its memory in kB.
_LISTS: Final = {
    "predict": "from opsin.commands.classify.each import open_streams; "
    "open_streams(sys.argv[1], shard=Shard(1, 1))",
    "embed": "from opsin.commands.images_to_embed import find_images; "
    "find_images(sys.argv[1], test=None, classes=None, columns=None, follow_links=False, "
    "outside=False, stdin=None, shard=Shard(1, 1), watcher=SILENT)",
}
# Runs the command and tells its processor seconds.
_TIMED: Final = (
    "import sys, time\nfrom opsin.cli.verbs import run\nsys.argv = sys.argv[1:]\nrun()\n"
    "print(time.process_time())\n"
)


def measure(run: Path, folder: Path, *, images: int, names: int, rows: int) -> Measured:
    """Measure everything.

    Args:
        run: The classifier that answers.
        folder: For what is made.
        images: Photographs to answer.
        names: Names to list.
        rows: Rows to merge.
    """
    photos = made_photos(folder / "photos", images, size=(320, 240))
    classifier = Classifier(run, threads=1)
    plain, listed = _names_a_second(folder / "names", names)
    parts = _steps(classifier, sorted(photos.iterdir()), folder)
    one = made_photos(folder / "one", 1, size=(320, 240))
    start = _command(run, one, folder / "one.csv")
    whole = (_command(run, photos, folder / "whole.csv") - start) / images
    merged, row_bytes, manifest = _merging(classifier, folder, rows)
    return Measured(
        names=plain,
        listed=listed,
        start=start,
        **parts,
        other=max(0.0, whole - sum(parts.values())),
        manifest=manifest,
        merged=merged,
        row_bytes=row_bytes,
        name_bytes=_memory(folder, names),
        driver=None if why_not() else _driver(folder, names),
    )


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    into.append(time.process_time() - began)


def _named(folder: Path, count: int) -> None:
    """Make empty files, in folders of 1,000."""
    for row in range(count):
        file = folder / _name(row)
        if row % _IN_A_FOLDER == 0:
            file.parent.mkdir(parents=True)
        file.touch()


def _names_a_second(folder: Path, count: int) -> tuple[float, float]:
    """List names as a plain command does, and as a shard does, which keeps them."""
    _named(folder, count)
    stream, plain, kept = open_stream(folder), list[float](), list[float]()
    for _ in range(3):
        with _timed(plain):
            collections.deque(stream, maxlen=0)
        with _timed(kept):
            cut_stream(stream, Shard(1, 2), stream, once=True)
    return count / statistics.median(plain), count / statistics.median(kept)


def _steps(classifier: Classifier, files: list[Path], folder: Path) -> dict[str, float]:
    """Do each step for all images, and return the seconds an image."""
    seconds: dict[str, list[float]] = {name: [] for name in ("read", "decode", "infer", "write")}
    answers: list[Prediction] = []
    batch = max(8, classifier.batch_size)
    results = Results(folder / "steps.csv", top=min(5, len(classifier.classes)))
    with Journal(results.out, results.rows, {}, heading=results.heading) as journal:
        for place in range(0, len(files), batch):
            names = files[place : place + batch]
            with _timed(seconds["read"]):
                contents = [file.read_bytes() for file in names]
            with _timed(seconds["decode"]):
                ready = [classifier.prepare(content, "") for content in contents]
            with _timed(seconds["infer"]):
                answers += classifier.predict_prepared(ready)
        for place in range(0, len(files), _ROWS):
            names = files[place : place + _ROWS]
            with _timed(seconds["write"]):
                rows = [
                    row_of(file.name, answer, results.top)
                    for file, answer in zip(names, answers[place:], strict=False)
                ]
                journal.append([JournalEntry(row.image, 0, results.encode(row)) for row in rows])
        with _timed(seconds["write"]):
            journal.sync()
    return {name: sum(found) / len(files) for name, found in seconds.items()}


def _command(run: Path, photos: Path, out: Path) -> float:
    """Return the processor seconds of `opsin predict` on one core."""
    words = [sys.executable, "-m", "opsin", "predict", str(run), str(photos), "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    core = str(min(os.sched_getaffinity(0)))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pinned = ["taskset", "--cpu-list", core, *words, "--quiet"]
    subprocess.run(pinned, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _merging(
    classifier: Classifier, folder: Path, rows: int
) -> tuple[dict[str, float], dict[str, float], float]:
    """Make shards of answers and of features in each form, and merge them.

    Returns:
        Rows a second and bytes of a row, by form, and the seconds to read a manifest.
    """
    answer = classifier.predict(folder / "one" / "0000000.jpg")
    features = np.random.default_rng(0).normal(size=_UNITS).astype(np.float32)
    rates, sizes, read = dict[str, float](), dict[str, float](), list[float]()
    forms: dict[str, tuple[Callable[..., None], Any, int]] = {
        "csv": (_answers, answer, rows),
        "jsonl": (_answers, answer, rows),
        "parquet": (_answers, answer, rows),
        "features.npz": (_features, features, rows // 10),
        "features.parquet": (_features, features, rows // 10),
    }
    for form, (make, content, count) in forms.items():
        out, seconds = folder / f"merged-{form}".replace(".", "-"), list[float]()
        out = out.with_suffix(f".{form.rpartition('.')[2]}")
        for number in range(1, _SHARDS + 1):
            make(ShardInputs(Shard(number, _SHARDS), count, ""), out, content)
            part = Shard(number, _SHARDS).file(out)
            with _timed(read):
                ShardManifest.read(part)
        with _timed(seconds):
            opsin.merge(out)
        rates[form], sizes[form] = count / seconds[0], out.stat().st_size / count
        for each in folder.glob(f"{out.stem}*"):
            each.unlink()
    return rates, sizes, statistics.median(read)


def _answers(inputs: ShardInputs, out: Path, answer: Prediction) -> None:
    results = Results(inputs.shard.file(out), top=5)
    with results.rows.open("wb") as file:
        file.write(results.heading)
        for row in inputs.rows:
            # Other numbers in each row, so that they cannot be compressed away.
            probabilities = {
                label: (share + row * _STEP) % 1 for label, share in answer.probabilities.items()
            }
            other = replace(answer, probabilities=probabilities)
            file.write(results.encode(row_of(_name(row), other, results.top)))
    results.finish("made")
    ShardTask("predict", inputs, {}, results.out).finish(results.out, len(inputs.rows), {})


def _features(inputs: ShardInputs, out: Path, features: Any) -> None:
    file = inputs.shard.file(out)
    with FeatureRows(file, _UNITS) as rows:
        for row in inputs.rows:
            digest = hashlib.sha256(_name(row).encode()).digest()
            rows.add(FeatureRow(_name(row), -1, 0, digest, features * np.float32(row + 1)))
        rows.finish({}, None)
    summary: JsonObject = {"source": "photos", "unreadable": []}
    task = ShardTask("embed", inputs, {"units": [_UNITS], "classes": None}, file)
    task.finish(file, len(inputs.rows), summary)


def _name(row: int) -> str:
    return f"{row // _IN_A_FOLDER}/{row:09}.jpg"


def _memory(folder: Path, count: int) -> dict[str, float]:
    """Return bytes a name of the process that lists them, by what is listed."""
    sources = {"folder": folder / "names", "table": folder / "names.csv"}
    names = "\n".join(f"names/{_name(row)}" for row in range(count))
    sources["table"].write_text(f"path\n{names}\n", encoding="utf-8")
    small = folder / "few"
    _named(small, _IN_A_FOLDER)
    rows = "\n".join(f"few/0/{row:09}.jpg" for row in range(_IN_A_FOLDER))
    few = {"folder": small, "table": folder / "few.csv"}
    few["table"].write_text(f"path\n{rows}\n", encoding="utf-8")
    return {
        name: max(0.0, _peak(verb, sources[kind]) - _peak(verb, few[kind]))
        / max(1, count - _IN_A_FOLDER)
        for name, verb, kind in (
            ("folder", "predict", "folder"),
            ("table", "predict", "table"),
            ("embed, folder of classes", "embed", "folder"),
        )
    }


def _peak(verb: str, source: Path) -> float:
    # Not getrusage, for there a process begins with the peak of the one that started it.
    script = (
        "import sys; from opsin.core.events import SILENT; "
        f"from opsin.data.shard import Shard; {_LISTS[verb]}; "
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source)], check=True, capture_output=True, text=True
    )
    return 1024 * int(done.stdout.split()[-1])


def _driver(folder: Path, images: int) -> float:
    """Return the driver's processor seconds for an image, on clusters of several sizes."""
    run = opsin.train("digits", model="logistic", runs=folder / "runs", quiet=True).path
    counts = (min(images, 2_000), min(images, 2_000) * 4)
    photos = [made_photos(folder / f"small-{count}", count, size=(16, 12)) for count in counts]
    script, found = folder / "timed.py", list[float]()
    script.write_text(_TIMED, encoding="utf-8")
    with RayCluster(folder / "r") as cluster:
        for nodes in _RAY_NODES:
            cluster.add()
            seconds = []
            for place in photos:
                out = folder / f"{place.name}-{nodes}.csv"
                done = cluster.run(
                    ["timed", "opsin", "predict", run, place, "--out", out, "--quiet",
                     "--on", "ray"],
                    cwd=folder,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                seconds.append(float(done.stdout.split()[-1]))
            found.append((seconds[1] - seconds[0]) / (counts[1] - counts[0]))
            print(f"Ray, {nodes} nodes: {1e6 * found[-1]:.0f} µs an image", file=sys.stderr)
    return statistics.median(found)
