"""`opsin inspect` and `explain` as a user calls them: pages, JSON, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.core.errors import RecipeError, SourceError
from opsin.data.dataset import Dataset
from tests.conftest import Cli, a_few, only_json
from tests.inspection.lesson_network import TEMPERATURE, write_lesson_network
from tests.made_runs import answers_right, write_run

torch_only = pytest.mark.torch


@pytest.fixture
def image(tmp_path: Path, digits: Dataset) -> Path:
    """One of the digits, as a file whose name needs care."""
    file = tmp_path / "eine Acht – 8.png"
    row = int(digits.split.test[0])
    Image.fromarray(np.asarray(digits.images[row])[:, :, 0]).save(file)
    return file


@pytest.fixture
def copied(run: opsin.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / "ein Lauf"))


@torch_only
def test_the_network_is_a_table_a_page_and_json(cli: Cli, copied: Path) -> None:
    assert "9,610" in cli("inspect", copied).stdout  # 64 × 128 + 128 + 128 × 10 + 10 parameters
    said = only_json(cli("inspect", copied, "--json", "--quiet"))
    rows = {row["name"]: row for row in said["summary"]["layers"]}
    assert list(rows) == ["input", "flatten", "dense1", "relu1", "head"]
    assert rows["dense1"]["parameters"] == 8320
    assert rows["dense1"]["parents"] == ["flatten"]
    assert [each["layer"] for each in said["weights"]] == ["dense1", "head"]
    page = Path(said["page"])
    assert page == copied / "inspection" / "network.html"
    assert "dense1" in page.read_text(encoding="utf-8")


@torch_only
def test_each_layer_of_an_image_is_shown_and_why_this_answer(
    cli: Cli, copied: Path, image: Path
) -> None:
    said = only_json(cli("inspect", copied, image, "--explain", "--json", "--quiet"))
    layers = ["input", "flatten", "dense1", "relu1", "head"]
    assert [layer["name"] for layer in said["layers"]] == layers
    assert said["answer"]["label"] == opsin.Classifier(copied).predict(image).label
    html = Path(said["page"]).read_text(encoding="utf-8")
    assert said["answer"]["label"] in html
    assert "http" not in html.replace("http://www.w3.org", "").replace("https://arxiv.org", "")
    methods = {each["method"] for each in said["decision"]["maps"]}
    assert methods >= {"saliency", "integrated-gradients", "occlusion"}
    assert len(said["neighbours"]) == 9
    other = only_json(cli("inspect", copied, image, "--explain", "--class", "3", "--json"))
    assert other["decision"]["class"] == "3"
    shown = cli("inspect", copied, image, "--layer", "relu1").stdout
    assert "relu1" in shown and "dense1" not in shown


def test_a_file_alone_is_enough_for_all_but_images(
    cli: Cli, nearest_mean: Path, image: Path
) -> None:
    """Without a run, and where PyTorch is missing, too."""
    cli("inspect", nearest_mean, status=0)
    assert (image.parent / "inspection" / "network.html").is_file()
    cli("inspect", nearest_mean, image, "--explain", status=0)
    refused = cli("inspect", nearest_mean, "--layer", "flatten", status=1)
    assert "--data SOURCE" in refused.stderr
    cli("inspect", nearest_mean, "--layer", "flatten", "--data", "digits", "--ablate", status=0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layer", "hed", "--data", "digits"), "head"),
        (("IMAGE", "--layer", "conv1"), "flatten"),
        (("--explain",), "an image"),
        (("IMAGE", "--class", "3"), "explain"),
        (("IMAGE", "--explain", "--class", "boot"), "no class 'boot' among 0, 1"),
        (("NOTES",), "notes.txt"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    cli: Cli, nearest_mean: Path, image: Path, words: tuple[str, ...], said: str
) -> None:
    notes = image.parent / "notes.txt"
    notes.write_text("no image", encoding="utf-8")
    named = {"IMAGE": str(image), "NOTES": str(notes)}
    done = cli("inspect", nearest_mean, *[named.get(word, word) for word in words], status=1)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr


TERMS = ["convolution", "pooling", "batch-normalisation", "dropout", "softmax"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    root = tmp_path_factory.mktemp("runs")
    file = write_lesson_network(root / "made.onnx")
    return write_run(root, "ein Lauf", digits, answers_right(digits, 0.9), classifier=file)


def test_without_a_term_the_lessons_and_their_layers_are_listed(cli: Cli, made: Path) -> None:
    shown = cli("explain", made, status=0)
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()[1:]}
    assert list(rows) == TERMS
    assert "conv1, conv2" in rows["convolution"]
    said = only_json(cli("explain", made, "--json"))
    assert said["terms"]["convolution"] == ["conv1", "conv2"]
    assert said["lesson"] is None


@pytest.mark.parametrize("term", a_few(TERMS, 2))
def test_every_lesson_is_a_page_and_json(term: str, cli: Cli, made: Path) -> None:
    shown = cli("explain", made, "--term", term, status=0)
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
    assert "A layer needs a term" in cli("explain", made, "--layer", "conv1").stderr
    cli("explain", made, "--term", "magic", status=2)
    alone = shutil.copy(nearest_mean, tmp_path)
    with pytest.raises(SourceError, match="lies in no run"):
        opsin.explain(alone, "softmax")
    with pytest.raises(RecipeError, match="term must be"):
        opsin.explain(made, "magic")  # type: ignore[arg-type]
