"""Images that a Ray cluster decodes are those that one machine decodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.flows.test_ray import command
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.ray


def cached(folder: Path) -> dict[str, bytes]:
    """Return the decoded arrays in a cache, by their names."""
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
        assert done.returncode == 0, done.stderr
        said[place] = json.loads(done.stdout)
    assert said["ray"] == said["local"]
    assert any(finding["kind"] == "unreadable" for finding in said["ray"]["findings"])
    assert cached(tmp_path / "ray") == cached(tmp_path / "local") != {}
