"""What the documentation shows of Ray Serve, Ray Data and Ray Train works as it stands."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import opsin
from tests.documented import fenced
from tests.ray_cluster import RayCluster, why_not

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGE = HOW_TO / "ray.md"
SERVE, TABLES = (code for kind, code in fenced(PAGE.read_text("utf-8")) if kind == "python")
#: Asks a running server what a client would, and prints it; then keeps it busy until it has grown.
ASK = """
import concurrent.futures, json, urllib.request
from pathlib import Path

def ask(path, body=None, kind="image/png"):
    request = urllib.request.Request(f"http://127.0.0.1:8000{path}", body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)

content = Path("1.png").read_bytes()
paths = sorted(ask("/openapi.json")["paths"])
print(json.dumps({"answer": ask("/predict", content), "paths": paths}))

def replicas():
    running = serve.status().applications["default"].deployments["Boots"].replica_states
    return sum(count for state, count in running.items() if state == "RUNNING")

with concurrent.futures.ThreadPoolExecutor(24) as pool:
    while replicas() < 2:
        for each in [pool.submit(ask, "/predict", content) for _ in range(200)]:
            each.result()
serve.shutdown()
"""


@pytest.fixture
def folder(tmp_path: Path, nearest_mean: Path, cluster_images: Path) -> Path:
    shutil.copy(nearest_mean, tmp_path / "boots")
    for number in (1, 4, 7):
        shutil.copy(cluster_images / str(number % 3) / f"{number}.png", tmp_path)
    return tmp_path


def test_ray_serve_gives_the_routes_and_the_answers_of_opsin_serve(
    cluster: RayCluster, folder: Path
) -> None:
    from opsin.server.app import Application
    from opsin.server.engine import Engine

    (folder / "served.py").write_text(SERVE.replace("/shared", str(folder)) + ASK)
    cluster.add(cpus=4)
    try:
        done = cluster.run(["served"], cwd=folder)
    finally:
        cluster.kill(len(cluster) - 1)
    assert done.returncode == 0, done.stderr
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    expected = opsin.Classifier(folder / "boots").predict(folder / "1.png")
    (answer,) = said["answer"]["predictions"]
    assert answer["label"] == expected.label
    assert answer["confidence"] == pytest.approx(expected.confidence, abs=1e-6)
    assert said["paths"] == sorted(
        Application(Engine({"boots": folder / "boots"})).openapi()["paths"]
    )


def test_ray_data_answers_images_in_a_table(cluster: RayCluster, folder: Path) -> None:
    files = sorted(folder.glob("*.png"))
    table = {"name": [file.name for file in files], "bytes": [file.read_bytes() for file in files]}
    pq.write_table(pa.table(table), folder / "photos.parquet")
    (folder / "tables.py").write_text(TABLES.replace("/shared", str(folder)))
    cluster.run(["tables"], cwd=folder)
    rows = pq.read_table(folder / "answers").to_pylist()
    classifier = opsin.Classifier(folder / "boots")
    assert {row["name"]: (row["label"], row["confidence"]) for row in rows} == {
        file.name: (answer.label, answer.confidence)
        for file in files
        for answer in [classifier.predict(file)]
    }


def _why_not() -> str | None:
    try:
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        return f"Ray Train or PyTorch is not installed ({error.name}): make .venv-ray/ready"
    return why_not()


def test_the_example_of_the_page_survives_a_node(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if reason := _why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    (example,) = (
        code for kind, code in fenced((HOW_TO / "many-machines.md").read_text()) if kind == "py"
    )
    for asked, here in (
        ('"/shared/photos"', '"digits"'),
        ("/shared/", f"{tmp_path}/"),
        ('model="resnet"', 'model="resnet", hidden=(8,), epochs=150, checkpoint_every=1'),
    ):
        assert asked in example
        example = example.replace(asked, here)
    (tmp_path / "together.py").write_text(example)
    runs = tmp_path / "runs"
    # Sockets lie below it, and their names must be short.
    with RayCluster(tmp_path_factory.mktemp("t") / "r") as cluster:
        for _ in range(2):
            cluster.add()
        process = cluster.start(["together"], cwd=tmp_path, stdout=None, stderr=None)
        try:
            until = time.monotonic() + 400
            while sum(len(f.read_text().splitlines()) for f in runs.glob("*/history.jsonl")) < 3:
                assert process.poll() is None, "it ended before"
                assert time.monotonic() < until
                time.sleep(0.05)
            cluster.kill(0)
            cluster.add()
            assert process.wait(400) == 0
        finally:
            process.kill()
    (path,) = runs.iterdir()
    run = opsin.Run(path)
    assert run.directory.state() == ("done", None)
    assert [epoch.epoch for epoch in run.history] == list(range(1, 151))
    assert (path / "classifier.onnx").is_file()
