"""`opsin data --augment` as its users drive it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli, only_json


@pytest.mark.slow
@pytest.mark.torch
def test_a_policy_is_drawn_and_said_in_words(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    done = cli("data", shapes, "--augment", "photos", "--erase", "0.5", "--out", "look")
    assert done.returncode == 0, done.stderr
    assert "mirrored, moved by up to 2 pixels, a square of 12 × 12 put out (photos)" in done.stdout
    assert str(Path("look", "augment.png")) in done.stdout
    assert (tmp_path / "look" / "augment.png").stat().st_size > 5000

    answer = only_json(cli("data", shapes, "--augment", "none", "--rotate", "20", "--json"))
    assert answer["augment"]["words"] == "turned by up to 20°"
    assert answer["augment"]["image"] == answer["figures"][-1]
    assert (tmp_path / answer["figures"][-1]).is_file()
