"""A classifier published on a hub of this machine, and used from there by another command."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import opsin
from tests.conftest import Cli, only_json
from tests.hub_server import TOKEN, HubServer

TO = "hf:someone/digits"


@pytest.fixture
def image(tmp_path: Path, digits: opsin.Dataset) -> Path:
    file = tmp_path / "digit.png"
    Image.fromarray(digits.images[5, :, :, 0]).save(file)
    return file


def test_from_a_run_to_the_hub_and_back(
    hub: HubServer, cli: Cli, plain_run: Path, image: Path, tmp_path: Path
) -> None:
    shown = cli("export", plain_run, "--to", TO, "--licence", "mit")
    assert shown.returncode == 0, shown.stderr
    folder = plain_run / "hub-someone-digits"
    assert (
        "nothing was sent. Read README.md, which you may change; then: hf upload someone/digits"
        in (" ".join(shown.stdout.split()))
    )
    assert not hub.asked
    there = hub.publish(
        "someone/digits", {file.name: file.read_bytes() for file in folder.iterdir()}
    )
    own = only_json(cli("predict", plain_run, image, "--json"))
    fetched = only_json(cli("predict", TO, image, "--json"))
    assert own["predictions"] == fetched["predictions"]  # to the last bit
    assert fetched["model"] == f"{TO}@{there.commit}"
    plain = cli("predict", TO, image)
    assert f"someone/digits is at commit {there.commit[:12]}" in plain.stderr
    figures = only_json(cli("evaluate", TO, "digits", "--json"))
    assert figures["model"] == f"{TO}@{there.commit}"
    assert TOKEN not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_a_classifier_of_the_hub_is_exported_into_the_current_folder(
    hub: HubServer, cli: Cli, plain_run: Path, tmp_path: Path
) -> None:
    content = (plain_run / "classifier.onnx").read_bytes()
    hub.publish("someone/digits", {"classifier.onnx": content})
    done = only_json(cli("export", TO, "--to", "bundle", "--data", "digits", "--json"))
    assert done["path"] == "digits.zip"
    assert (tmp_path / "digits.zip").is_file()
    again = cli("export", TO, "--to", "hf:someone/copy")
    assert again.returncode == 1
    assert "Give the run directory" in again.stderr


def test_its_inside_is_shown_in_the_current_folder(
    hub: HubServer, cli: Cli, plain_run: Path, tmp_path: Path
) -> None:
    hub.publish("someone/digits", {"classifier.onnx": (plain_run / "classifier.onnx").read_bytes()})
    found = only_json(cli("inspect", TO, "--json"))
    assert Path(found["page"]).is_file() or (tmp_path / found["page"]).is_file()
    assert "hf-home" not in str(found["page"])
