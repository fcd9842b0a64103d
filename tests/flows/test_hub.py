"""Networks and classifiers by name; the hub is on this machine, its library is the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import opsin
from opsin.backbones.named_backbones import NAMED
from opsin.hub.hub_name import HubName
from tests.backbones.small_networks import network
from tests.conftest import Cli, only_json
from tests.hub_server import COMMIT, TOKEN, HubServer

TO = "hf:someone/digits"
CARD = b"---\nlicense: apache-2.0\n---\n"
PIXELS = b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 32}'


def files_of(content: bytes) -> dict[str, bytes]:
    return {"onnx/model.onnx": content, "README.md": CARD, "preprocessor_config.json": PIXELS}


@pytest.fixture
def published(hub: HubServer) -> HubServer:
    hub.publish("someone/network", files_of(network()))
    return hub


@pytest.mark.slow
def test_a_recipe_means_the_same_bytes_for_ever(
    published: HubServer, cli: Cli, shapes: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"runs": tmp_path, "quiet": True}
    first = opsin.train(shapes, backbone="someone/network", **options)
    assert first.report.reasons["Backbone"].startswith("someone/network@0123456789ab")
    assert "licence: apache-2.0" in first.report.reasons["Backbone"]
    recipe = json.loads((first.path / "recipe.json").read_text())
    pinned = recipe["model"]["backbone"]
    assert pinned == f"someone/network@{COMMIT}"
    published.publish("someone/network", files_of(network(inside="scaling")), commit="f" * 40)
    again = opsin.train(shapes, backbone=pinned, offline=True, **options)
    assert again.classifier().content == first.classifier().content
    words = ("train", shapes, "--recipe", first.path / "recipe.json", "--plan", "--offline")
    planned = only_json(cli(*words, "--json"))
    assert planned["recipe"]["model"]["backbone"] == pinned
    newest = only_json(cli("backbones", "someone/network", "--json"))
    assert newest["repository"] == f"someone/network@{'f' * 40}"


def test_a_plan_fetches_too(published: HubServer, cli: Cli, shapes: Path) -> None:
    plan = cli("train", shapes, "--from", "someone/network", "--plan", "--offline", status=1)
    assert "is not on this machine" in plan.stderr
    plan = cli("train", shapes, "--from", "someone/network", "--plan")
    assert "someone/network@0123456789ab" in plan.stdout


def test_short_names_are_listed_and_those_that_are_here_measured(
    hub: HubServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = only_json(cli("backbones", "--json"))["backbones"]
    assert [row["name"] for row in rows] == list(NAMED)
    assert [row["path"] is None for row in rows] == [False, False, True, True, True]
    assert [row["milliseconds"] is None for row in rows] == [False, False, True, True, True]
    assert not hub.asked  # the list needs no network
    where = NAMED["mobilenetv4-small"].where
    assert isinstance(where, HubName)
    hub.publish(where.repository, files_of(network()), commit=where.revision)
    known = only_json(cli("backbones", "mobilenetv4-small", "--json"))
    assert known["repository"] == str(where)
    hub.asked.clear()
    row = only_json(cli("backbones", "--json"))["backbones"][2]
    assert row["milliseconds"] == known["milliseconds"] > 0  # measured once
    assert row["size"] == len(network())
    assert row["multiply_adds"] == known["multiply_adds"]
    table = cli("backbones", "--offline").stdout
    assert "onnx-community/mobilenetv4_conv_small" in table
    assert not hub.asked
    monkeypatch.chdir(Path(row["path"]).parent)
    assert [each.path is None for each in opsin.list_backbones()] == [False] * 3 + [True] * 2


@pytest.mark.slow
def test_one_file_is_looked_into(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(network(channels_last=True))
    assert "unknown: say it by --prepare" in cli("backbones", file).stdout
    known = only_json(cli("backbones", file, "--prepare", "imagenet,bgr", "--json"))
    assert known["pixels"].startswith("BGR")
    values = {value["name"]: value for value in known["values"]}
    assert values["flat"] == {"name": "flat", "op": "Flatten", "shape": [16], "usual": True}
    # What it takes up to the features: 16·16 places of 8 filters of 3·3·3, and 8·8 of 16 of 8·3·3.
    assert known["multiply_adds"] == 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72
    assert known["repository"] is None
    assert opsin.describe_backbone(file).sha256 == known["sha256"]


def test_a_name_that_there_is_not(hub: HubServer, cli: Cli, shapes: Path, tmp_path: Path) -> None:
    for name, said in (("someone/typo", "shows you no someone/typo"), ("smal", "dinov2-small")):
        done = cli("train", shapes, "--from", name, "--quiet")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith("opsin: ") and said in line
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def image(tmp_path: Path, digits: opsin.Dataset) -> Path:
    file = tmp_path / "digit.png"
    Image.fromarray(digits.images[5, :, :, 0]).save(file)
    return file


def test_from_a_run_to_the_hub_and_back(
    hub: HubServer, cli: Cli, plain_run: Path, image: Path, tmp_path: Path
) -> None:
    shown = cli("export", plain_run, "--to", TO, "--licence", "mit", status=0)
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


def test_a_classifier_of_the_hub_is_exported_and_shown_in_the_current_folder(
    hub: HubServer, cli: Cli, plain_run: Path, tmp_path: Path
) -> None:
    hub.publish("someone/digits", {"classifier.onnx": (plain_run / "classifier.onnx").read_bytes()})
    done = only_json(cli("export", TO, "--to", "bundle", "--data", "digits", "--json"))
    assert done["path"] == "digits.zip"
    assert (tmp_path / "digits.zip").is_file()
    again = cli("export", TO, "--to", "hf:someone/copy", status=1)
    assert "Give the run directory" in again.stderr
    found = only_json(cli("inspect", TO, "--json"))
    assert (tmp_path / found["page"]).is_file()
    assert "hf-home" not in str(found["page"])
