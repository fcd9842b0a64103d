"""What is handed on names no folder of the machine that it was made on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.core.recipe import DataRecipe
from tests.backbones.small_networks import network
from tests.conftest import write_shapes

USER = "ann-onymous"
#: A run's own records, which stay with it.
OWN = {"recipe.json", "dataset.json", "pictures.csv", "log.txt"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / USER
    write_shapes(home / "photos", 35)
    (home / "mix.json").write_text(json.dumps({"disc": 0.9, "square": 0.1}))
    stated = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (home / "pixels.json").write_text(json.dumps(stated))
    (home / "small.onnx").write_bytes(network())
    return home


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield all files by name, those inside zips too."""
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".zip":
            zipped = zipfile.ZipFile(file)
            yield from ((f"{file.name}/{name}", zipped.read(name)) for name in zipped.namelist())
        elif file.is_file():
            yield file.name, file.read_bytes()


@pytest.mark.drawn
@pytest.mark.parametrize("pretrained", [False, True])
def test_files_for_others_name_no_folder_of_this_machine(home: Path, *, pretrained: bool) -> None:
    given: dict[str, Any] = {"model": "logistic", "class_mix": str(home / "mix.json")}
    if pretrained:
        given = {"backbone": str(home / "small.onnx"), "prepare": str(home / "pixels.json")}
    run = opsin.train(str(home / "photos"), runs=home / "runs", quiet=True, **given)
    assert run.classifier().metadata.source == "photos"
    opsin.export_model(run.path, "bundle", out=run.path / "bundle.zip")
    opsin.export_model(run.path, "hf:someone/photos", out=run.path / "hub")
    found = dict(contents(run.path))
    assert {"classifier.onnx", "report.html", "README.md", "bundle.zip/classes.json"} <= set(found)
    for name, content in found.items():
        if name not in OWN:
            for word in (USER, str(home), str(Path.home() / "x")[:-1]):
                assert word.encode() not in content, (name, word)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/someone/photos", "photos"),
        ("hf:owner/name", "hf:owner/name"),
        ("s3://key:secret@bucket/photos", "s3://bucket/photos"),
        ("az://container/photos?sig=secret", "az://container/photos"),
        ("file:///home/someone/photos", "photos"),
    ],
)
def test_sources_are_named_without_folders_and_credentials(source: str, name: str) -> None:
    assert DataRecipe.of(source).source_names == name
