"""The workers of Ray Train make one run, and go on with it after a node has died."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import opsin
from tests.documented import fenced
from tests.ray_cluster import RayCluster, why_not

pytestmark = [pytest.mark.ray, pytest.mark.slow]

_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "many-machines.md"
_LONGEST = 400.0


def _why_not() -> str | None:
    try:
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        return f"Ray Train or PyTorch is not installed ({error.name}): make .venv-ray/ready"
    return why_not()


@pytest.mark.timeout(900)
def test_the_example_of_the_page_survives_a_node(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if reason := _why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    (example,) = (code for kind, code in fenced(_PAGE.read_text()) if kind == "py")
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
            until = time.monotonic() + _LONGEST
            while sum(len(f.read_text().splitlines()) for f in runs.glob("*/history.jsonl")) < 3:
                assert process.poll() is None, "it ended before"
                assert time.monotonic() < until
                time.sleep(0.05)
            cluster.kill(0)
            cluster.add()
            assert process.wait(_LONGEST) == 0
        finally:
            process.kill()
    (path,) = runs.iterdir()
    run = opsin.Run(path)
    assert run.directory.state() == ("done", None)
    assert [epoch.epoch for epoch in run.history] == list(range(1, 151))
    assert (path / "classifier.onnx").is_file()
