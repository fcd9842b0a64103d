"""One bad run hides nobody: whatever its files hold, it is a row."""

import contextlib
import io
import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import opsin
from opsin.cli.runs import runs
from opsin.commands.test_set_usage import count_looks
from opsin.core.artifacts.records import DatasetRecord, Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import summarise
from opsin.core.recipe import DataRecipe
from opsin.data.run_images import recipe_of_run
from opsin.models.resolve import resolve
from opsin.studio.runs.run_index import RunIndex
from tests.made_runs import made_epoch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800\x1b[2J")
    | st.sampled_from([10**400, -1, 2**63, "test", "done", "running"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
# What a finished run's files hold; hypothesis puts something else in one place of one of them.
FILES: dict[str, Any] = {
    "recipe.json": resolve(DataRecipe.of("digits")).model_dump(mode="json"),
    "status.json": {"state": "done", "pid": 1, "started": 1.0, "heartbeat": 1.0, "cause": None},
    "dataset.json": {"source": "digits", "location": {"sources": ["digits"]}, "classes": ["a"],
                     "fingerprint": "f", "images": 1, "shape": [8, 8, 1], "test_set": "x",
                     "counts": {"a": {"train": 1}},
                     "preparation": {"height": 8, "width": 8, "channels": 1, "resize": "fit"}},
    "report.json": {"split": "test", "seconds": {"train": 1.0}, "file": {"bytes": 5},
                    "figures": {"test": {"accuracy": 0.9, "low": 0.8, "high": 1.0}}},
    "notes.json": {"name": "Boots", "note": "first"},
    "history.jsonl": made_epoch(1, val_accuracy=0.5, seconds=2.0).model_dump(mode="json"),
    "looks.jsonl": {"test_set": "x"},
}  # fmt: skip


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [above]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*above, key))
    return found


PLACES = [(file, place) for file, content in FILES.items() for place in places(content)]


def with_other(content: Any, place: tuple[Any, ...], other: Any, *, gone: bool) -> Any:
    if not place:
        return other
    first, *rest = place
    changed = {**content, first: with_other(content[first], tuple(rest), other, gone=gone)}
    return {key: value for key, value in changed.items() if rest or not gone or key != first}


def write_files(path: Path, changed: str = "", content: bytes = b"") -> RunDirectory:
    path.mkdir(parents=True)
    for file, value in FILES.items():
        (path / file).write_text(json.dumps(value) + "\n")
    if changed:
        (path / changed).write_bytes(content)
    return RunDirectory(path)


def check_row(root: Path) -> None:
    """A row in the terminal, as JSON and in the studio, and the good run's beside it."""
    good = write_files(root / "good")
    assert summarise(good).state == "done"
    rows = {run.path.name: run.row() for run in opsin.list_runs(root)}
    assert rows["good"]["state"] == "done"
    assert len(rows) == 2
    for row in rows.values():
        assert row["state"] in {"running", "done", "stopped", "failed", "damaged"}
        assert row["cause"] or row["state"] != "damaged"
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    for as_json in (False, True):
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), errors="backslashreplace")):
            runs(runs=root, as_json=as_json)
    index = RunIndex(root)
    index.scan()
    assert len(index.rows()) == 2
    for shown in index.rows():
        json.dumps(
            [shown.name, shown.cause, shown.source, shown.seconds],
            allow_nan=False,
            ensure_ascii=False,
        ).encode()


def check_readers(run: RunDirectory) -> None:
    """Each reader of a run's files returns something, or says why not."""
    for read in (
        lambda: run.lines(Epoch),
        run.read_notes,
        run.state,
        run.location,
        lambda: run.cut_history(1),
        lambda: run.read(DatasetRecord),
        lambda: recipe_of_run(run),
        lambda: count_looks(run, "x"),
        lambda: opsin.list_runs(run.path.parent)[0].recipe,
        lambda: run.load_arrays(run.split),
        lambda: run.load_arrays(run.predictions),
    ):
        with contextlib.suppress(opsin.OpsinError):
            read()


FEW = settings(max_examples=50)
NAMES = st.sampled_from([*FILES, "split.npz", "predictions.npz"])


@FEW
@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_any_json_in_any_file(
    tmp_path_factory: pytest.TempPathFactory, place: Any, other: Any, gone: bool
) -> None:
    root, (file, within) = tmp_path_factory.mktemp("any"), place
    changed = with_other(FILES[file], within, other, gone=gone)
    run = write_files(root / "bad", file, json.dumps(changed).encode() + b"\n")
    check_row(root)
    check_readers(run)


@FEW
@given(NAMES, st.binary(max_size=200))
def test_any_bytes_in_any_file(
    tmp_path_factory: pytest.TempPathFactory, file: str, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("any")
    run = write_files(root / "bad", file, content)
    check_row(root)
    check_readers(run)


PLANTS: dict[str, Callable[[Path], object]] = {
    "five gigabytes": lambda place: place.touch(),
    "a folder": os.mkdir,
    "nested deep": lambda place: place.write_text("[" * 100_000),
    "a link": lambda place: place.symlink_to("/dev/zero"),
    "not to be read": lambda place: place.touch(0),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("file", FILES)
def test_anything_in_place_of_a_file(tmp_path: Path, file: str, plant: str) -> None:
    bad = write_files(tmp_path / "runs" / "bad")
    (bad.path / file).unlink()
    PLANTS[plant](bad.path / file)
    if plant == "five gigabytes":
        os.truncate(bad.path / file, 5 << 30)
    check_row(tmp_path / "runs")
    check_readers(bad)


def test_a_folder_of_any_depth(tmp_path: Path) -> None:
    bad = write_files(tmp_path / "runs" / "bad")
    here = os.open(bad.path, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    check_row(tmp_path / "runs")
    assert summarise(bad).state == "damaged"
    subprocess.run(["rm", "-r", bad.path], check=True)  # deeper than Python goes


ARRAYS = st.builds(
    np.full, st.lists(st.integers(0, 3), max_size=3), st.integers(0, 9),
    st.sampled_from(["i8", "u1", "f4", "f8", "U3", "?", "c8", "M8[s]"]),
)  # fmt: skip
SPLIT = ("digests", "train", "val", "test")
PREDICTIONS = tuple(f"{part}_{what}" for part in ("val", "test")
                    for what in ("rows", "labels", "probabilities"))  # fmt: skip


def some(names: tuple[str, ...]) -> Any:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, ARRAYS))


@FEW
@given(some(SPLIT), some(PREDICTIONS))
def test_any_arrays(tmp_path_factory: pytest.TempPathFactory, split: Any, kept: Any) -> None:
    """What comes back can be computed with, or is not there."""
    run = write_files(tmp_path_factory.mktemp("any") / "bad")
    run.save_arrays(run.split, **split)
    run.save_arrays(run.predictions, **kept)
    check_readers(run)
    with contextlib.suppress(opsin.OpsinError):
        arrays = run.load_arrays(run.split)
        for part in SPLIT[1:]:
            arrays["digests"][arrays[part]].tobytes()
    with contextlib.suppress(opsin.OpsinError):
        arrays = run.load_arrays(run.predictions)
        for part in ("val", "test"):
            rows, labels = arrays[f"{part}_rows"], arrays[f"{part}_labels"]
            answers = arrays[f"{part}_probabilities"]
            assert len(rows) == len(answers[np.arange(len(labels)), labels])
            assert np.isfinite(answers).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("train", [9]), ("train", [-1]), ("train", [0.5]), ("digests", [0]), ("val", "a"),
     ("test", 1)],
)  # fmt: skip
def test_a_split_that_leads_outside_is_damaged(tmp_path: Path, name: str, value: Any) -> None:
    run = write_files(tmp_path / "bad")
    sound: dict[str, Any] = {"digests": np.zeros((3, 8), np.uint8), "train": np.arange(3)}
    run.save_arrays(run.split, **sound)
    assert run.load_arrays(run.split)["train"].tolist() == [0, 1, 2]
    run.save_arrays(run.split, **(sound | {name: np.array(value)}))
    with pytest.raises(opsin.RunError, match=r"split\.npz is damaged"):
        run.load_arrays(run.split)
