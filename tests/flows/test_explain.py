"""`opsin explain` as a user calls it: pages, JSON, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import opsin
from opsin.core.errors import RecipeError, SourceError
from opsin.data.dataset import Dataset
from tests.conftest import Cli, only_json
from tests.inspection.lesson_network import TEMPERATURE, write_lesson_network
from tests.made_runs import answers_right, write_run
from tests.variants import a_few

TERMS = ["convolution", "pooling", "batch-normalisation", "dropout", "softmax"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    root = tmp_path_factory.mktemp("runs")
    file = write_lesson_network(root / "made.onnx")
    return write_run(root, "ein Lauf", digits, answers_right(digits, 0.9), classifier=file)


def test_without_a_term_the_lessons_and_their_layers_are_listed(cli: Cli, made: Path) -> None:
    shown = cli("explain", made)
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()[1:]}
    assert list(rows) == TERMS
    assert "conv1, conv2" in rows["convolution"]
    said = only_json(cli("explain", made, "--json"))
    assert said["terms"]["convolution"] == ["conv1", "conv2"]
    assert said["lesson"] is None


@pytest.mark.parametrize("term", a_few(TERMS, 2))
def test_every_lesson_is_a_page_and_json(term: str, cli: Cli, made: Path) -> None:
    shown = cli("explain", made, "--term", term)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("test/0   ")
    said = only_json(cli("explain", made, "--term", term, "--json", "--quiet"))
    assert said["lesson"]["term"] == term
    assert said["answer"]["image"] == "test/0"
    page = made / "inspection" / f"{term}-{said['lesson']['layer']}.html"
    assert str(page) in shown.stdout
    assert said["lesson"]["layer"] in page.read_text(encoding="utf-8")


def test_the_numbers_are_the_files(cli: Cli, made: Path, tmp_path: Path, digits: Dataset) -> None:
    eight = tmp_path / "eine Acht – [8].png"
    Image.fromarray(digits.images[8][:, :, 0]).save(eight)
    words = ("explain", made, eight, "--term", "convolution", "--layer", "conv2")
    assert cli(*words).stdout.startswith(str(eight))
    said = only_json(cli(*words, "--json"))["lesson"]
    page = (made / "inspection" / "convolution-conv2.html").read_text(encoding="utf-8")
    for name in ("Sum", "In the file"):
        number = f"{said['output']:.4f}".replace("-", "−")
        assert f'<th scope="row">{name}</th><td>{number}</td>' in page
    own = opsin.Classifier(made).predict(eight)
    values = opsin.Classifier(made).layers(own.pixels[None], ["conv2"])["conv2"][0]
    assert said["output"] == pytest.approx(values[said["unit"]][tuple(said["place"])], abs=1e-5)
    softmax = only_json(cli("explain", made, eight, "--term", "softmax", "--json"))["lesson"]
    assert softmax["temperature"] == pytest.approx(TEMPERATURE)


def test_what_cannot_be_explained_is_refused(
    cli: Cli, made: Path, nearest_mean: Path, tmp_path: Path
) -> None:
    refused = cli("explain", nearest_mean, "--term", "convolution", "--data", "digits")
    assert "This mlp has no convolution; it has dropout, softmax" in refused.stderr
    assert "A layer needs a term" in cli("explain", made, "--layer", "conv1").stderr
    assert cli("explain", made, "--term", "magic").returncode == 2
    alone = shutil.copy(nearest_mean, tmp_path)
    with pytest.raises(SourceError, match="lies in no run"):
        opsin.explain(alone, "softmax")
    with pytest.raises(RecipeError, match="term must be"):
        opsin.explain(made, "magic")  # type: ignore[arg-type]
