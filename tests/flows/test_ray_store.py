"""The nodes of a Ray cluster read their images from an object store themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import opsin
from tests import object_store
from tests.conftest import write_digits
from tests.ray_cluster import RayCluster, why_not

pytestmark = pytest.mark.ray

_PORT = 5555
# A store in the cluster's network, with a folder of images.
_SERVE = f"""
import pathlib, sys
from botocore.session import get_session
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", {_PORT}, verbose=False)
server.start()
client = get_session().create_client("s3", region_name="us-east-1")
client.create_bucket(Bucket="photos")
folder = pathlib.Path(sys.argv[1])
for file in folder.rglob("*.png"):
    key = f"photos/{{file.relative_to(folder).as_posix()}}"
    client.put_object(Bucket="photos", Key=key, Body=file.read_bytes())
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def images(tmp_path: Path, digits: opsin.Dataset) -> Path:
    folder = write_digits(tmp_path / "photos", digits, range(100))
    (folder / "0" / "30.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def cluster(
    tmp_path_factory: pytest.TempPathFactory, images: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RayCluster]:
    if reason := why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_PORT}")
    with RayCluster(tmp_path_factory.mktemp("r") / "r") as started:
        started.add()
        yield started


def test_nodes_read_from_a_store(
    cluster: RayCluster,
    nearest_mean: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opsin.classify(nearest_mean, images, out=tmp_path / "plain.csv")
    words = ["opsin", "predict", str(nearest_mean), "s3://photos/photos", "--on", "ray"]
    script = tmp_path / "serve_store.py"
    script.write_text(_SERVE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with cluster.start(["serve_store", images], stdin=subprocess.PIPE) as store:
        assert store.stdout is not None
        assert store.stdout.readline() == "ready\n"
        cluster.run([*words, "--out", "s3://photos/answers.csv"], cwd=tmp_path)
        monkeypatch.setenv("OPSIN_STATE", str(tmp_path / "state"))
        cluster.run([*words, "--out", str(tmp_path / "here.csv")], cwd=tmp_path)
        # A node without access says so before anything starts.
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        cluster.add()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_PORT}")
        refused = cluster.run([*words, "--out", "none.csv"], status=1, cwd=tmp_path)
        store.kill()
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert "cannot read the object store" in refused.stderr
    assert not (tmp_path / "none.csv").exists()
