"""A Ray cluster of several nodes gives the answers of one machine, whatever dies."""

from __future__ import annotations

import json
import random
import shutil
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from tests.backbones.small_networks import network
from tests.ray_cluster import RayCluster, wait_until

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


def command(*words: str | Path) -> list[str | Path]:
    return ["opsin", *words]


@pytest.mark.parametrize("form", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_the_answers_are_those_of_one_machine(
    cluster: RayCluster,
    nearest_mean: Path,
    cluster_images: Path,
    tmp_path: Path,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, out = tmp_path / f"plain.{form}", tmp_path / f"out.{form}"
    monkeypatch.chdir(cluster_images.parent)
    opsin.classify(nearest_mean, cluster_images.name, out=plain)
    for on in ("ray", cluster.client_address):
        # By a name that means something else where the nodes were started.
        words = command(
            "predict", nearest_mean, cluster_images.name, "--out", out, "--on", on, "--json"
        )
        done = cluster.run(words, cwd=cluster_images.parent)
        assert json.loads(done.stdout)["unreadable"] == 1
        assert out.read_bytes() == plain.read_bytes()
        for path in tmp_path.glob("*out.*"):
            path.unlink()


def test_features_are_those_of_one_machine(
    cluster: RayCluster, cluster_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tmp_path / "small.onnx"
    backbone.write_bytes(network())
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.3] * 3, "image_std": [1, 1, 1]})
    )
    monkeypatch.chdir(cluster_images.parent)
    opsin.embed(cluster_images.name, backbone=backbone, out=tmp_path / "plain.npz")
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    words = command("embed", cluster_images.name, "--from", backbone, "--out", tmp_path / "out.npz")
    cluster.run([*words, "--on", "ray"], cwd=cluster_images.parent)
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "plain.npz").read_bytes()


def is_as_large(file: Path, size: float) -> bool:
    return file.exists() and file.stat().st_size >= size


def kill_and_compare(
    cluster: RayCluster, model: Path, images: Path, folder: Path, *, seed: int
) -> int:
    """Kill a node, and the command twice; return how many of the four were still at work."""
    chance = random.Random(seed)
    plain, out = folder / "plain.csv", folder / f"{seed}" / "out.csv"
    if not plain.exists():
        opsin.classify(model, images, out=plain)
    words: list[str | Path] = ["opsin", "predict", model, images, "--out", out, "--on", "ray"]
    hit = 0
    for least in (0.0, 0.45):
        driver = cluster.start(words)
        shares = sorted(chance.uniform(least, least + 0.45) for _ in range(2))
        for share, victim in zip(shares, ("node", "command"), strict=True):
            size = share * plain.stat().st_size
            hit += wait_until(partial(is_as_large, out, size), driver) and driver.poll() is None
            if victim == "node":
                cluster.kill(chance.randrange(len(cluster)))
        driver.kill()
        driver.communicate()
        cluster.add()
    cluster.run(words)
    assert out.read_bytes() == plain.read_bytes()
    return hit


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, digits: opsin.Dataset) -> Path:
    """As many images as keep two nodes at work for some seconds, by hard links to a few."""
    folder = tmp_path_factory.mktemp("many")
    first = folder / "0.png"
    Image.fromarray(np.asarray(digits.images[0, :, :, 0])).resize((500, 500)).save(first)
    for number in range(1, 4000):
        (folder / f"{number}.png").hardlink_to(first)
    return folder


def test_nothing_is_lost_or_doubled_where_nodes_and_the_command_die(
    cluster: RayCluster, nearest_mean: Path, many: Path, tmp_path: Path
) -> None:
    assert kill_and_compare(cluster, nearest_mean, many, tmp_path, seed=0) == 4


@pytest.mark.slow
def test_an_image_that_ends_its_process_costs_one_answer(
    cluster: RayCluster, tmp_path: Path
) -> None:
    program = tmp_path / "deadly.py"
    program.write_text(
        textwrap.dedent("""
        import os
        from opsin.data.image_engine import ImageSteps
        from opsin.data.image_stream import ListedImage
        from opsin.runtime.cluster import Cluster

        def answer(item):
            if item.name == "13":
                os._exit(1)
            return int(item.name)

        steps = ImageSteps(prepare=answer, compute=list, pixels=1, batch=1)

        images = (ListedImage(str(number), b"") for number in range(40))
        with Cluster("ray") as cluster:
            for item, found in cluster.answers(steps, images):
                print(item.name, found)
        """)
    )
    done = cluster.run(["deadly"], cwd=tmp_path)
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "ended the process" in lines.pop("13")
    assert lines == {str(number): str(number) for number in range(40) if number != 13}


def test_what_a_node_lacks_is_said_before_anything_starts(
    cluster: RayCluster, nearest_mean: Path, cluster_images: Path, tmp_path: Path
) -> None:
    words = command(
        "predict", nearest_mean, cluster_images, "--out", tmp_path / "out.csv", "--on", "ray"
    )
    cluster.add(hide=cluster_images)
    blind = cluster.run(words, status=1)
    cluster.kill(len(cluster) - 1)
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "opsin", source / "opsin")
    version = source / "opsin" / "_version.py"
    version.write_text(version.read_text().replace(opsin.__version__, "0.0.9"))
    cluster.add(source=source)
    other = cluster.run(words, status=1)
    cluster.kill(len(cluster) - 1)
    assert f"cannot see {cluster_images}" in blind.stderr
    assert f"it has Opsin 0.0.9, not {opsin.__version__}" in other.stderr
    assert not (tmp_path / "out.csv").exists()


def test_a_cluster_that_is_not_there_is_said(
    cluster: RayCluster, nearest_mean: Path, cluster_images: Path, tmp_path: Path
) -> None:
    words = command("predict", nearest_mean, cluster_images, "--out", tmp_path / "out.csv", "--on")
    for on, what in (
        ("ray://127.0.0.1:9", "Nothing answers at ray://127.0.0.1:9"),
        ("spark", "local, ray, or ray://HOST:PORT"),
    ):
        done = cluster.run([*words, on], status=1)
        assert what in done.stderr, on
    assert not (tmp_path / "out.csv").exists()


def cached(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("decoded/*/*.npy")}


@pytest.mark.parametrize("kind", ["folder", pytest.param("zip", marks=pytest.mark.slow)])
def test_the_audit_is_that_of_one_machine(
    cluster: RayCluster,
    cluster_images: Path,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = cluster_images
    if kind == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", cluster_images))
    said = {}
    for place in ("local", "ray"):
        monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / place))
        words = command("data", source.name, "--audit", "--no-draw", "--json", "--on", place)
        done = cluster.run(words, cwd=source.parent)
        said[place] = json.loads(done.stdout)
    assert said["ray"] == said["local"]
    assert any(finding["kind"] == "unreadable" for finding in said["ray"]["findings"])
    assert cached(tmp_path / "ray") == cached(tmp_path / "local") != {}
