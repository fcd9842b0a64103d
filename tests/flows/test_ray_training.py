"""Repeats and folds on a Ray cluster are those of one machine, whatever dies."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import RunStatus
from tests.flows.test_ray import command
from tests.ray_cluster import RayCluster, wait_until

# The nodes draw figures and pages, too.
pytestmark = [pytest.mark.ray, pytest.mark.drawn, pytest.mark.timeout(600)]

#: What is the same to the byte wherever a run was trained.
SAME = ("recipe.json", "dataset.json", "split.npz", "pictures.csv", "classifier.onnx",
        "predictions.npz")  # fmt: skip


def check_same(one: Path, other: Path) -> None:
    """See that two runs differ in nothing but times."""
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (Report.read(run / "report.json") for run in (one, other))
    assert first.judged == second.judged


def runs_in(folder: Path) -> dict[str, Path]:
    """Return runs by the ends of their names."""
    return {path.name.rsplit("-", 1)[1]: path for path in folder.iterdir() if path.is_dir()}


def started(run: Path) -> float | None:
    return RunStatus.read(run / "status.json").started


def words(folder: Path, *further: str) -> list[str | Path]:
    return command("train", "digits", "--runs", folder, "--on", "ray", "--json", *further)


def test_folds_are_those_of_one_machine(cluster: RayCluster, tmp_path: Path) -> None:
    plain = opsin.train_folds(
        "digits", folds=2, model="logistic", images=200, runs=tmp_path / "plain", quiet=True
    )
    further = ("--folds", "2", "--model", "logistic", "--images", "200")
    done = cluster.run(words(tmp_path / "runs", *further))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["pooled"] == plain.summary.to_json()["pooled"]
    assert Path(summary["file"]).name == plain.file.name
    found = runs_in(tmp_path / "runs")
    assert set(found) == {"fold1of2", "fold2of2"}
    for name, run in runs_in(tmp_path / "plain").items():
        check_same(run, found[name])
    assert [path.name for path in (tmp_path / "runs").glob(".*")] == []
    # Once whole, the same command trains the same again, as on one machine.
    again = cluster.run(words(tmp_path / "runs", *further))
    assert json.loads(again.stdout)["pooled"] == summary["pooled"]
    assert len(list((tmp_path / "runs").glob("*-folds*.json"))) == 2


@pytest.mark.slow
def test_a_fold_goes_on_where_its_node_or_the_command_died(
    cluster: RayCluster, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"model": "mlp", "epochs": 30, "hidden": [64]}
    plain = opsin.train_folds("digits", folds=3, runs=tmp_path / "plain", quiet=True, **options)
    runs = tmp_path / "runs"
    further = ("--folds", "3", "--model", "mlp", "--epochs", "30", "--hidden", "64")

    def has_checkpoint(fold: int) -> bool:
        return any(runs.glob(f"*-fold{fold}of3/checkpoints/*.json"))

    driver = cluster.start(words(runs, *further))
    assert wait_until(lambda: has_checkpoint(1), driver)
    status = RunStatus.read(next(runs.glob("*-fold1of3")) / "status.json")
    assert status.state == "running"
    cluster.kill(cluster.node_of(status.pid))
    cluster.add()

    def is_done() -> bool:
        files = runs.glob("*-fold*of3/status.json")
        return any(RunStatus.read(file).state == "done" for file in files)

    assert wait_until(is_done, driver)
    driver.kill()
    driver.communicate()
    done_before = {
        name: started(run)
        for name, run in runs_in(runs).items()
        if RunStatus.read(run / "status.json").state == "done"
    }
    done = cluster.run(words(runs, *further))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pooled"] == plain.summary.to_json()["pooled"]
    found = runs_in(runs)
    assert len(found) == 3
    for name, run in runs_in(tmp_path / "plain").items():
        check_same(run, found[name])
    assert {name: started(found[name]) for name in done_before} == done_before


@pytest.mark.slow
def test_ctrl_c_ends_a_series_which_goes_on_later(cluster: RayCluster, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    runs = tmp_path / "runs"
    further = ("--repeats", "2", "--model", "mlp", "--epochs", "40")
    driver = cluster.start(words(runs, *further))
    assert wait_until(lambda: any(runs.glob("*/checkpoints/*.json")), driver)
    second = cluster.run(words(runs, *further))
    assert second.returncode == 1
    assert "another one trains the same" in second.stderr
    driver.send_signal(signal.SIGINT)
    driver.communicate()
    assert driver.returncode == 130
    done = cluster.run(words(runs, *further))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == len(runs_in(runs)) == 2


def test_what_the_nodes_lack_is_said_before_anything_starts(
    cluster: RayCluster, cluster_images: Path, tmp_path: Path
) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    own.mkdir()
    cluster.add(hide=own)
    apart = cluster.run(words(own, "--folds", "2", "--model", "logistic"))
    cluster.kill(len(cluster) - 1)
    cluster.add(hide=cluster_images.parent)
    blind = cluster.run(
        command(
            "train",
            cluster_images,
            "--folds",
            "2",
            "--runs",
            shared,
            "--on",
            "ray",
            "--model",
            "knn",
        )
    )
    cluster.kill(len(cluster) - 1)
    assert (apart.returncode, blind.returncode) == (1, 1)
    assert f"cannot write to {own}" in apart.stderr
    assert f"cannot see {cluster_images}" in blind.stderr
    assert not list(own.iterdir()) and not list(shared.iterdir())


def test_one_training_is_no_work_for_a_cluster(cluster: RayCluster, tmp_path: Path) -> None:
    done = cluster.run(words(tmp_path, "--model", "logistic"))
    assert done.returncode == 2
    assert "--repeats or --folds" in " ".join(done.stderr.split())
